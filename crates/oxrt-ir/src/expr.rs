//! Size expressions: sympy's `srepr`, sympy's infix text, and the Python text of guards.
//!
//! One grammar covers the three: calls with keyword arguments (skipped), infix operators with Python's
//! precedence, and the access path of an input's size (`L['x'].size()[0]`), which is kept as one name.

use oxrt_tensor::{Result, bail};

/// Deepest nesting that is followed; sizes of real programs stay below 30.
const MAX_DEPTH: usize = 200;

#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    Int(i64),
    Float(f64),
    Bool(bool),
    Text(String),
    /// A symbol, or an input path such as `L['x'].size()[0]`.
    Name(String),
    /// Functions and operators under sympy's name: `Add`, `Mul`, `FloorDiv`, `Equality`…
    Call(String, Vec<Expr>),
}

impl Expr {
    pub fn parse(text: &str) -> Result<Expr> {
        let mut p = Parser { text, at: 0, depth: 0 };
        let e = p.or()?;
        p.space();
        if p.at < text.len() {
            bail!(invalid, "unexpected `{}` in the size expression `{text}`", &text[p.at..]);
        }
        Ok(e)
    }

    /// Calls `f` for each name.
    pub fn names(&self, f: &mut dyn FnMut(&str)) {
        match self {
            Expr::Name(n) => f(n),
            Expr::Call(_, args) => args.iter().for_each(|a| a.names(f)),
            _ => {}
        }
    }

    /// Value under an assignment of the names; `None` when something in it is not understood.
    pub fn eval(&self, lookup: &dyn Fn(&str) -> Option<i64>) -> Option<f64> {
        let (f, args) = match self {
            Expr::Int(x) => return Some(*x as f64),
            Expr::Float(x) => return Some(*x),
            Expr::Bool(x) => return Some(*x as u8 as f64),
            Expr::Text(_) => return None,
            Expr::Name(n) => return lookup(n).map(|x| x as f64),
            Expr::Call(f, args) => (f.as_str(), args),
        };
        let v: Vec<f64> = args.iter().map(|a| a.eval(lookup)).collect::<Option<_>>()?;
        let truth = |b: bool| Some(b as u8 as f64);
        match (f, &v[..]) {
            ("Add", v) => Some(v.iter().sum()),
            ("Mul", v) => Some(v.iter().product()),
            ("Pow" | "PowByNatural" | "FloatPow", [a, b]) => Some(a.powf(*b)),
            ("Max", v) => v.iter().copied().reduce(f64::max),
            ("Min", v) => v.iter().copied().reduce(f64::min),
            ("Abs", [a]) => Some(a.abs()),
            ("FloorDiv" | "CleanDiv", [a, b]) if *b != 0.0 => Some((a / b).floor()),
            ("CeilDiv", [a, b]) if *b != 0.0 => Some((a / b).ceil()),
            ("Mod" | "PythonMod", [a, b]) if *b != 0.0 => Some(a - b * (a / b).floor()),
            ("ModularIndexing", [a, b, c]) if *b != 0.0 && *c != 0.0 => {
                let q = (a / b).floor();
                Some(q - c * (q / c).floor())
            }
            ("IntTrueDiv" | "FloatTrueDiv" | "Rational", [a, b]) if *b != 0.0 => Some(a / b),
            ("ToFloat" | "Identity" | "Float", [a]) => Some(*a),
            ("TruncToInt" | "TruncToFloat", [a]) => Some(a.trunc()),
            ("FloorToInt", [a]) => Some(a.floor()),
            ("CeilToInt", [a]) => Some(a.ceil()),
            ("RoundToInt", [a]) => Some(a.round_ties_even()),
            ("Equality", [a, b]) => truth(a == b),
            ("Unequality", [a, b]) => truth(a != b),
            ("StrictLessThan", [a, b]) => truth(a < b),
            ("LessThan", [a, b]) => truth(a <= b),
            ("StrictGreaterThan", [a, b]) => truth(a > b),
            ("GreaterThan", [a, b]) => truth(a >= b),
            ("And", v) => truth(v.iter().all(|x| *x != 0.0)),
            ("Or", v) => truth(v.iter().any(|x| *x != 0.0)),
            ("Not", [a]) => truth(*a == 0.0),
            ("Where", [c, a, b]) => Some(if *c != 0.0 { *a } else { *b }),
            _ => None,
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn eat(&mut self, token: &str) -> bool {
        self.space();
        let hit = self.rest().starts_with(token);
        if hit {
            self.at += token.len();
        }
        hit
    }

    /// A word operator, not the start of a longer name.
    fn eat_word(&mut self, word: &str) -> bool {
        self.space();
        let rest = self.rest();
        let ends = rest.strip_prefix(word).is_some_and(|r| !r.starts_with(|c: char| c.is_alphanumeric() || c == '_'));
        if ends {
            self.at += word.len();
        }
        ends
    }

    fn expect(&mut self, token: &str) -> Result<()> {
        if self.eat(token) {
            return Ok(());
        }
        bail!(invalid, "expected `{token}` at column {} of the size expression `{}`", self.at + 1, self.text)
    }

    fn or(&mut self) -> Result<Expr> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            bail!(invalid, "a size expression nested deeper than {MAX_DEPTH}");
        }
        let mut e = self.and()?;
        while self.eat_word("or") || self.eat("|") {
            e = Expr::Call("Or".into(), vec![e, self.and()?]);
        }
        self.depth -= 1;
        Ok(e)
    }

    fn and(&mut self) -> Result<Expr> {
        let mut e = self.not()?;
        while self.eat_word("and") || self.eat("&") {
            e = Expr::Call("And".into(), vec![e, self.not()?]);
        }
        Ok(e)
    }

    fn not(&mut self) -> Result<Expr> {
        let mut negations = 0;
        while self.eat_word("not") || self.rest().starts_with('~') && self.eat("~") {
            negations += 1;
        }
        let e = self.comparison()?;
        Ok(if negations % 2 == 1 { Expr::Call("Not".into(), vec![e]) } else { e })
    }

    fn comparison(&mut self) -> Result<Expr> {
        const OPS: [(&str, &str); 6] = [
            ("==", "Equality"),
            ("!=", "Unequality"),
            ("<=", "LessThan"),
            (">=", "GreaterThan"),
            ("<", "StrictLessThan"),
            (">", "StrictGreaterThan"),
        ];
        let mut left = self.sum()?;
        let mut all: Option<Expr> = None;
        // Chains (`a <= b <= c`) mean both comparisons.
        while let Some((_, name)) = OPS.iter().find(|(token, _)| self.eat(token)) {
            let right = self.sum()?;
            let one = Expr::Call(name.to_string(), vec![left, right.clone()]);
            all = Some(match all {
                Some(e) => Expr::Call("And".into(), vec![e, one]),
                None => one,
            });
            left = right;
        }
        Ok(all.unwrap_or(left))
    }

    fn sum(&mut self) -> Result<Expr> {
        let mut e = self.product()?;
        loop {
            if self.eat("+") {
                e = Expr::Call("Add".into(), vec![e, self.product()?]);
            } else if self.eat("-") {
                let negative = Expr::Call("Mul".into(), vec![Expr::Int(-1), self.product()?]);
                e = Expr::Call("Add".into(), vec![e, negative]);
            } else {
                return Ok(e);
            }
        }
    }

    fn product(&mut self) -> Result<Expr> {
        let mut e = self.unary()?;
        loop {
            self.space();
            let (token, name) = match self.rest().as_bytes() {
                [b'*', b'*', ..] => return Ok(e),
                [b'*', ..] => ("*", "Mul"),
                [b'/', b'/', ..] => ("//", "FloorDiv"),
                [b'/', ..] => ("/", "FloatTrueDiv"),
                [b'%', ..] => ("%", "Mod"),
                _ => return Ok(e),
            };
            self.eat(token);
            e = Expr::Call(name.into(), vec![e, self.unary()?]);
        }
    }

    fn unary(&mut self) -> Result<Expr> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            bail!(invalid, "a size expression nested deeper than {MAX_DEPTH}");
        }
        let e = if self.eat("-") {
            match self.unary()? {
                Expr::Int(x) => Expr::Int(x.wrapping_neg()),
                Expr::Float(x) => Expr::Float(-x),
                e => Expr::Call("Mul".into(), vec![Expr::Int(-1), e]),
            }
        } else {
            let base = self.atom()?;
            if self.eat("**") { Expr::Call("Pow".into(), vec![base, self.unary()?]) } else { base }
        };
        self.depth -= 1;
        Ok(e)
    }

    fn atom(&mut self) -> Result<Expr> {
        if self.eat("(") {
            let e = self.or()?;
            self.expect(")")?;
            return Ok(e);
        }
        self.space();
        let rest = self.rest();
        match rest.chars().next() {
            Some('\'' | '"') => self.text_literal().map(Expr::Text),
            Some(c) if c.is_ascii_digit() => self.number(),
            Some(c) if c.is_alphabetic() || c == '_' => self.name(),
            _ => bail!(invalid, "expected a value at column {} of the size expression `{}`", self.at + 1, self.text),
        }
    }

    fn text_literal(&mut self) -> Result<String> {
        let rest = self.rest();
        let quote = rest.chars().next().unwrap_or('\'');
        let Some(len) = rest[1..].find(quote) else {
            bail!(invalid, "a text without end in the size expression `{}`", self.text)
        };
        let text = rest[1..1 + len].to_string();
        self.at += len + 2;
        Ok(text)
    }

    fn number(&mut self) -> Result<Expr> {
        let bytes = self.rest().as_bytes();
        let mut len = bytes.iter().take_while(|b| b.is_ascii_digit()).count();
        let mut float = false;
        if bytes.get(len) == Some(&b'.') {
            float = true;
            len += 1 + bytes[len + 1..].iter().take_while(|b| b.is_ascii_digit()).count();
        }
        if matches!(bytes.get(len), Some(b'e' | b'E')) {
            let sign = matches!(bytes.get(len + 1), Some(b'+' | b'-')) as usize;
            let digits = bytes[(len + 1 + sign).min(bytes.len())..].iter().take_while(|b| b.is_ascii_digit()).count();
            if digits > 0 {
                float = true;
                len += 1 + sign + digits;
            }
        }
        let word = &self.rest()[..len];
        let value = if float { word.parse().ok().map(Expr::Float) } else { word.parse().ok().map(Expr::Int) };
        let Some(value) = value else { bail!(invalid, "the number {word} in a size expression is too large") };
        self.at += len;
        Ok(value)
    }

    fn name(&mut self) -> Result<Expr> {
        let start = self.at;
        let word =
            |p: &Self| p.rest().chars().take_while(|c| c.is_alphanumeric() || *c == '_').map(char::len_utf8).sum();
        let len: usize = word(self);
        self.at += len;
        if &self.text[start..self.at] == "L" {
            return self.input_path(start);
        }
        while self.rest().starts_with('.') {
            self.at += 1;
            let len: usize = word(self);
            self.at += len;
        }
        let name = self.text[start..self.at].to_string();
        if self.rest().starts_with('(') {
            self.at += 1;
            return self.call(&name);
        }
        Ok(match &*name {
            "true" | "True" => Expr::Bool(true),
            "false" | "False" => Expr::Bool(false),
            _ => Expr::Name(name),
        })
    }

    /// `L['x'][0].size()[1]` as one name.
    fn input_path(&mut self, start: usize) -> Result<Expr> {
        loop {
            if self.rest().starts_with('[') {
                self.at += 1;
                if self.rest().starts_with(['\'', '"']) {
                    self.text_literal()?;
                } else {
                    self.at += self.rest().bytes().take_while(|b| b.is_ascii_digit() || *b == b'-').count();
                }
                self.expect("]")?;
            } else if self.rest().starts_with('.') {
                self.at += 1;
                self.at += self.rest().bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
                if self.rest().starts_with('(') {
                    self.at += 1;
                    self.expect(")")?;
                }
            } else {
                return Ok(Expr::Name(self.text[start..self.at].to_string()));
            }
        }
    }

    fn call(&mut self, name: &str) -> Result<Expr> {
        let mut args = Vec::new();
        while !self.eat(")") {
            if !args.is_empty() || self.rest().starts_with(',') {
                self.expect(",")?;
                if self.eat(")") {
                    break;
                }
            }
            self.space();
            // Keyword arguments (`positive=True`) say nothing about the value.
            let rest = self.rest();
            let word = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').map(char::len_utf8).sum::<usize>();
            let keyword = word > 0 && rest[word..].starts_with('=') && !rest[word..].starts_with("==");
            if keyword {
                self.at += word + 1;
                self.or()?;
                continue;
            }
            args.push(self.or()?);
        }
        Ok(match (name, &mut args[..]) {
            ("Symbol", [Expr::Text(s)]) => Expr::Name(std::mem::take(s)),
            ("Integer", [e @ Expr::Int(_)]) => e.clone(),
            ("Float", [Expr::Text(s)]) => match s.parse() {
                Ok(x) => Expr::Float(x),
                Err(_) => bail!(invalid, "`{s}` is not a number"),
            },
            // Piecewise((v, c), …) as nested choices; the last condition is taken as true.
            ("Piecewise", _) => {
                let mut out: Option<Expr> = None;
                for pair in args.iter().rev() {
                    let Expr::Call(f, vc) = pair else { bail!(invalid, "a Piecewise without pairs") };
                    let ("ExprCondPair", [v, c]) = (f.as_str(), &vc[..]) else {
                        bail!(invalid, "a Piecewise without pairs")
                    };
                    out = Some(match out {
                        Some(other) => Expr::Call("Where".into(), vec![c.clone(), v.clone(), other]),
                        None => v.clone(),
                    });
                }
                match out {
                    Some(e) => e,
                    None => bail!(invalid, "an empty Piecewise"),
                }
            }
            _ => Expr::Call(canonical(name).to_string(), args),
        })
    }
}

/// Python's names of the same functions.
fn canonical(name: &str) -> &str {
    match name {
        "math.trunc" | "trunc" | "int" => "TruncToInt",
        "math.floor" => "FloorToInt",
        "math.ceil" => "CeilToInt",
        "round" => "RoundToInt",
        "torch.sym_float" | "float" => "ToFloat",
        "torch.sym_int" => "TruncToInt",
        "torch.sym_max" | "max" => "Max",
        "torch.sym_min" | "min" => "Min",
        "torch.sym_not" => "Not",
        "torch.sym_ite" => "Where",
        "abs" => "Abs",
        "Eq" => "Equality",
        "Ne" => "Unequality",
        "Lt" => "StrictLessThan",
        "Le" => "LessThan",
        "Gt" => "StrictGreaterThan",
        "Ge" => "GreaterThan",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Option<f64> {
        Expr::parse(text).unwrap().eval(&|n| match n {
            "s0" | "s77" => Some(7),
            "L['x'].size()[1]" | "L['d']['k'][0].size()[0]" => Some(10),
            _ => None,
        })
    }

    #[test]
    fn the_three_spellings_agree() {
        let srepr = "Add(Mul(Integer(48), Symbol('s77', positive=True, integer=True)), Integer(-96))";
        assert_eq!(value(srepr), Some(240.0));
        assert_eq!(value("48*s0 - 96"), Some(240.0));
        assert_eq!(value("FloorDiv(Symbol('s77'), Integer(2))"), value("s0//2"));
        assert_eq!(value("s0**2 % 10"), Some(9.0));
        assert_eq!(value("-s0 + 3"), Some(-4.0));
        assert_eq!(value("TruncToInt(FloatTrueDiv(ToFloat(Symbol('s77')), Float('2.0', precision=53)))"), Some(3.0));
        assert_eq!(
            value(
                "Piecewise(ExprCondPair(Integer(4), StrictLessThan(Symbol('s77'), Integer(3))), ExprCondPair(Integer(5), true))"
            ),
            Some(5.0)
        );
    }

    #[test]
    fn guards_are_understood() {
        assert_eq!(value("(1 + (((-1) + L['x'].size()[1]) // 2)) != 1"), Some(1.0));
        assert_eq!(value("math.trunc(1.5*torch.sym_float(L['d']['k'][0].size()[0])) == 12"), Some(0.0));
        assert_eq!(value("2 <= s0 <= 7 and not s0 == 3"), Some(1.0));
        assert_eq!(value("L['unknown'].size()[0] == 1"), None);
    }

    #[test]
    fn hostile_text_is_an_error() {
        for bad in [
            "",
            "(",
            "Symbol('s0'",
            "Add(",
            "1 +",
            "L['x'",
            &"(".repeat(5000),
            &"-".repeat(5000),
            "s0 s1",
            "9".repeat(40).as_str(),
        ] {
            assert!(Expr::parse(bad).is_err(), "{}", &bad[..bad.len().min(30)]);
        }
    }
}
