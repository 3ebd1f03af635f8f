//! Reads the text form of a [`Dim`].

use crate::Dim;
use oxrt_tensor::{Error, Result, bail};

impl std::str::FromStr for Dim {
    type Err = Error;

    /// Grammar: sums of products of integers, names, `floor(a/b)`, `a//b`, `mod(a, b)`, `min(a, b)`,
    /// `max(a, b)` and parentheses. A name is any run of letters, digits, `_`, `.`, `:`, `?`, `$`, `@`.
    fn from_str(text: &str) -> Result<Dim> {
        let mut parser = Parser { text: text.as_bytes(), at: 0, depth: 0 };
        let dim = parser.sum()?;
        parser.space();
        if parser.at < parser.text.len() {
            bail!(invalid, "unexpected `{}` in the dimension `{text}`", &text[parser.at..]);
        }
        Ok(dim)
    }
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn space(&mut self) {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }

    fn eat(&mut self, token: &str) -> bool {
        self.space();
        let hit = self.text[self.at..].starts_with(token.as_bytes());
        if hit {
            self.at += token.len();
        }
        hit
    }

    fn expect(&mut self, token: &str) -> Result<()> {
        if self.eat(token) {
            return Ok(());
        }
        bail!(invalid, "expected `{token}` at column {} of `{}`", self.at + 1, String::from_utf8_lossy(self.text))
    }

    fn sum(&mut self) -> Result<Dim> {
        self.depth += 1;
        if self.depth > 64 {
            bail!(invalid, "a dimension nested deeper than 64");
        }
        let mut total = if self.eat("-") { -self.product()? } else { self.product()? };
        loop {
            if self.eat("+") {
                total = total + self.product()?;
            } else if self.eat("-") {
                total = total - self.product()?;
            } else {
                self.depth -= 1;
                return Ok(total);
            }
        }
    }

    fn product(&mut self) -> Result<Dim> {
        let mut total = self.factor()?;
        loop {
            if self.eat("*") {
                total = total * self.factor()?;
            } else if self.eat("//") {
                total = total.floor_div(&self.factor()?);
            } else {
                return Ok(total);
            }
        }
    }

    fn factor(&mut self) -> Result<Dim> {
        if self.eat("(") {
            let inner = self.sum()?;
            self.expect(")")?;
            return Ok(inner);
        }
        self.space();
        let start = self.at;
        let name_byte = |b: &u8| b.is_ascii_alphanumeric() || b"_.:?$@".contains(b) || *b >= 0x80;
        while self.text.get(self.at).is_some_and(name_byte) {
            self.at += 1;
        }
        let word = std::str::from_utf8(&self.text[start..self.at]).unwrap_or_default();
        if word.is_empty() {
            bail!(invalid, "expected a dimension at column {} of `{}`", start + 1, String::from_utf8_lossy(self.text));
        }
        if word.bytes().all(|b| b.is_ascii_digit()) {
            return match word.parse() {
                Ok(n) => Ok(Dim::Const(n)),
                Err(_) => bail!(invalid, "the number {word} is too large for a dimension"),
            };
        }
        let word = word.to_string();
        if !matches!(&*word, "floor" | "mod" | "min" | "max" | "broadcast") || !self.eat("(") {
            return Ok(Dim::symbol(&word));
        }
        let a = self.sum()?;
        self.expect(if word == "floor" { "/" } else { "," })?;
        let mut b = self.sum()?;
        while word == "broadcast" && self.eat(",") {
            b = b.broadcast(&self.sum()?);
        }
        self.expect(")")?;
        Ok(match &*word {
            "floor" => a.floor_div(&b),
            "mod" => a.modulo(&b),
            "min" => a.at_most(&b),
            "broadcast" => a.broadcast(&b),
            _ => a.at_least(&b),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn d(s: &str) -> Dim {
        s.parse().unwrap()
    }

    #[test]
    fn canonical_forms() {
        assert_eq!(d("2*h + 1 - h - 1"), d("h"));
        assert_eq!(d("floor((2*h)/2)"), d("h"));
        assert_eq!(d("floor((4*h + 6)/4)"), d("h + 1"));
        assert_eq!(d("floor(floor((h)/2)/2)"), d("floor(h/4)"));
        assert_eq!(d("floor(2*floor(h/2)/4)"), d("floor(h/4)"));
        assert_eq!(d("(a + 1)*(b + 2)"), d("a*b + 2*a + b + 2"));
        assert_eq!(d("mod(8*h + 3, 4)"), d("3"));
        assert_eq!(d("min(h, h + 1)"), d("h"));
        assert_eq!(d("floor((a*b*c)/(a*c))"), d("b"));
        assert_eq!(d("broadcast(broadcast(b, a), a, c)"), d("broadcast(a, b, c)"));
        assert_eq!(d("broadcast(a, a)"), d("a"));
        assert_eq!(d("broadcast(a, 0)"), d("0"));
        assert_eq!(d("0 - 7").floor_div(&d("2")), d("0 - 4"));
    }

    #[test]
    fn bad_text_is_an_error() {
        for bad in ["", "h +", "floor(h)", "99999999999999999999", "(h", "h)", &"(".repeat(100)] {
            assert!(bad.parse::<Dim>().is_err(), "{bad}");
        }
    }

    fn dims() -> impl Strategy<Value = Dim> {
        let leaf = prop_oneof![(-9i64..9).prop_map(Dim::Const), "[abc]".prop_map(|s| Dim::symbol(&s))];
        leaf.prop_recursive(4, 24, 2, |inner| {
            (inner.clone(), inner, 0..7).prop_map(|(a, b, op)| match op {
                0 => a + b,
                1 => a - b,
                2 => a * b,
                3 => a.at_most(&b),
                4 => a.at_least(&b),
                5 => a.floor_div(&Dim::Const(b.as_const().unwrap_or(3).abs() + 1)),
                _ => a.modulo(&Dim::Const(b.as_const().unwrap_or(5).abs() + 1)),
            })
        })
    }

    #[test]
    fn sizes_that_broadcast() {
        let value = |text: &str, a: i64, b: i64| d(text).eval(&|s| Some(if s.as_str() == "a" { a } else { b }));
        for (a, b, both) in [(1, 5, 5), (5, 1, 5), (1, 0, 0), (0, 1, 0), (0, 0, 0), (1, 1, 1), (7, 7, 7)] {
            assert_eq!(value("broadcast(a, b)", a, b), Some(both));
        }
        assert_eq!(d("broadcast(a, b)").bounds(&|_| (0, 9)), (0, 9));
        assert_eq!(d("broadcast(a, b)").bounds(&|_| (2, 9)), (2, 9));
    }

    proptest! {
        #[test]
        fn text_round_trips_and_bounds_hold(dim in dims(), a in 1i64..20, b in 1i64..20, c in 1i64..20) {
            let back: Dim = dim.to_string().parse().unwrap();
            prop_assert_eq!(&back, &dim);
            let lookup = |s: &crate::Symbol| Some(match s.as_str() { "a" => a, "b" => b, _ => c });
            if let Some(v) = dim.eval(&lookup) {
                let (lo, hi) = dim.bounds(&|_| (1, 19));
                prop_assert!(lo <= v && v <= hi, "{} = {} outside {}..{}", dim, v, lo, hi);
                let substituted = dim.substitute(&|s| lookup(s).map(Dim::Const));
                prop_assert_eq!(substituted, Dim::Const(v));
            }
        }
    }
}
