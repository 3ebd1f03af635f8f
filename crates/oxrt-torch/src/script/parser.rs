//! Parser of `code/*.py`.

use super::ast::{Class, Expr, File, Function, Line, Param, Stmt};
use super::lexer::{Token, tokens};
use oxrt_tensor::{Error, Result, bail};
use std::rc::Rc;

/// Deepest nesting of expressions and blocks.
const MAX_DEPTH: usize = 200;

pub(crate) fn parse(text: &str) -> Result<File> {
    let mut p = Parser { tokens: tokens(text)?, at: 0, depth: 0 };
    let mut file = File::default();
    loop {
        match p.peek() {
            Token::End => return Ok(file),
            Token::Newline => p.at += 1,
            Token::Name(n) if &**n == "class" => file.classes.push(p.class()?),
            Token::Name(n) if &**n == "def" => file.functions.push(Rc::new(p.function()?)),
            _ => return Err(p.error("a class or a function")),
        }
    }
}

struct Parser {
    tokens: Vec<(Token, Line)>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).map_or(&Token::End, |t| &t.0)
    }

    fn place(&self) -> Line {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(Line::default(), |t| t.1)
    }

    fn line(&self) -> u32 {
        self.place().number
    }

    fn error(&self, wanted: &str) -> Error {
        Error::invalid(format!("line {}: {wanted} is expected, found {:?}", self.line(), self.peek()))
    }

    fn is(&self, sign: &str) -> bool {
        matches!(self.peek(), Token::Sign(s) if *s == sign)
    }

    fn take(&mut self, sign: &str) -> bool {
        let found = self.is(sign);
        self.at += found as usize;
        found
    }

    fn need(&mut self, sign: &'static str) -> Result<()> {
        if self.take(sign) { Ok(()) } else { Err(self.error(&format!("`{sign}`"))) }
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Token::Name(n) if &**n == word)
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        self.at += found as usize;
        found
    }

    fn name(&mut self) -> Result<Rc<str>> {
        match self.peek() {
            Token::Name(n) => {
                let n = n.clone();
                self.at += 1;
                Ok(n)
            }
            _ => Err(self.error("a name")),
        }
    }

    fn newline(&mut self) -> Result<()> {
        match self.peek() {
            Token::Newline => {
                self.at += 1;
                Ok(())
            }
            Token::End => Ok(()),
            _ => Err(self.error("the end of the line")),
        }
    }

    fn deeper<T>(&mut self, f: impl FnOnce(&mut Parser) -> Result<T>) -> Result<T> {
        if self.depth >= MAX_DEPTH {
            bail!(invalid, "line {}: nested deeper than {MAX_DEPTH}", self.line());
        }
        self.depth += 1;
        let result = f(self);
        self.depth -= 1;
        result
    }

    // ---- declarations ----

    fn class(&mut self) -> Result<Class> {
        self.at += 1;
        let mut class = Class { name: self.name()?, ..Class::default() };
        if self.take("(") {
            class.base = self.name()?;
            while self.take(".") {
                class.base = self.name()?;
            }
            self.need(")")?;
        }
        self.need(":")?;
        self.newline()?;
        if !matches!(self.peek(), Token::Indent) {
            return Ok(class);
        }
        self.at += 1;
        loop {
            match self.peek() {
                Token::Dedent => {
                    self.at += 1;
                    return Ok(class);
                }
                Token::Newline => self.at += 1,
                Token::Name(n) if &**n == "def" => {
                    let method = self.function()?;
                    class.methods.push(Rc::new(method));
                }
                Token::Name(_) => self.field(&mut class)?,
                _ => return Err(self.error("a declaration")),
            }
        }
    }

    /// `name : T`, `name : Final[T] = value`, `__annotations__["0"] = T`, `__parameters__ = [...]`, `name = value`.
    fn field(&mut self, class: &mut Class) -> Result<()> {
        let mut name = self.name()?;
        if &*name == "pass" {
            return self.newline();
        }
        if &*name == "__annotations__" && self.take("[") {
            let Token::Text(text) = self.peek().clone() else { return Err(self.error("a name in quotes")) };
            self.at += 1;
            self.need("]")?;
            self.need("=")?;
            name = text;
            let ty = self.expr()?;
            class.fields.push((name, ty, None));
            return self.newline();
        }
        let ty = if self.take(":") { self.expr()? } else { Expr::None };
        let value = if self.take("=") { Some(self.expr()?) } else { None };
        let hidden = matches!(&*name, "__parameters__" | "__buffers__" | "__constants__");
        if !hidden {
            class.fields.push((name, ty, value));
        }
        self.newline()
    }

    fn function(&mut self) -> Result<Function> {
        self.at += 1;
        let name = self.name()?;
        self.need("(")?;
        let mut params = Vec::new();
        while !self.take(")") {
            if self.take("*") {
                self.take(",");
                continue;
            }
            let name = self.name()?;
            let ty = if self.take(":") { self.expr()? } else { Expr::None };
            let default = if self.take("=") { Some(self.expr()?) } else { None };
            params.push(Param { name, ty, default });
            if !self.take(",") {
                self.need(")")?;
                break;
            }
        }
        if self.take("->") {
            self.expr()?;
        }
        let body = self.block()?;
        Ok(Function { name, params, body })
    }

    // ---- statements ----

    fn block(&mut self) -> Result<Vec<Stmt>> {
        self.deeper(|p| {
            p.need(":")?;
            p.newline()?;
            if !matches!(p.peek(), Token::Indent) {
                return Err(p.error("a block"));
            }
            p.at += 1;
            let mut out = Vec::new();
            loop {
                match p.peek() {
                    Token::Dedent => {
                        p.at += 1;
                        return Ok(out);
                    }
                    Token::End => return Ok(out),
                    Token::Newline => p.at += 1,
                    _ => out.extend(p.statement()?),
                }
            }
        })
    }

    fn statement(&mut self) -> Result<Option<Stmt>> {
        let line = self.place();
        if self.take_word("pass") {
            self.newline()?;
            return Ok(None);
        }
        if self.take_word("return") {
            let value = if matches!(self.peek(), Token::Newline) { Expr::None } else { self.tuple_expr()?.0 };
            self.newline()?;
            return Ok(Some(Stmt::Return(value, line)));
        }
        if self.take_word("if") {
            let test = self.expr()?;
            let yes = self.block()?;
            let no = if self.take_word("else") { self.block()? } else { Vec::new() };
            return Ok(Some(Stmt::If { test, yes, no, line }));
        }
        if self.take_word("while") {
            let test = self.expr()?;
            let body = self.block()?;
            return Ok(Some(Stmt::While { test, body, line }));
        }
        if self.take_word("with") {
            let context = self.expr()?;
            let name = if self.take_word("as") { Some(self.name()?) } else { None };
            let body = self.block()?;
            return Ok(Some(Stmt::With { context, name, body, line }));
        }
        if self.take_word("for") {
            let name = self.name()?;
            if !self.take_word("in") {
                return Err(self.error("`in`"));
            }
            let count = match self.expr()? {
                Expr::Call(f, mut args, _) if *f == Expr::Name("range".into()) && args.len() == 1 => args.remove(0),
                _ => return Err(self.error("a loop over `range(n)`")),
            };
            let body = self.block()?;
            return Ok(Some(Stmt::For { name, count, body, line }));
        }
        let (first, comma) = self.tuple_expr()?;
        if self.take(":") {
            // An annotated assignment; the type is known from the value.
            self.expr()?;
        }
        let stmt = if self.take("=") {
            let (value, _) = self.tuple_expr()?;
            let (targets, unpack) = match first {
                Expr::Tuple(items) => (items, true),
                one => (vec![one], comma),
            };
            Stmt::Assign { targets, unpack, value, line }
        } else {
            Stmt::Expr(first, line)
        };
        self.newline()?;
        Ok(Some(stmt))
    }

    // ---- expressions ----

    /// `a, b, ` makes a tuple; whether there was a comma.
    fn tuple_expr(&mut self) -> Result<(Expr, bool)> {
        let first = self.expr()?;
        if !self.is(",") {
            return Ok((first, false));
        }
        let mut items = vec![first];
        while self.take(",") {
            if matches!(self.peek(), Token::Newline) || self.is("=") || self.is(")") {
                break;
            }
            items.push(self.expr()?);
        }
        Ok((Expr::Tuple(items), true))
    }

    fn expr(&mut self) -> Result<Expr> {
        self.deeper(|p| {
            let value = if p.take_word("not") { Expr::Not(Box::new(p.expr()?)) } else { p.postfix()? };
            if !p.take_word("if") {
                return Ok(value);
            }
            let test = Box::new(p.expr()?);
            if !p.take_word("else") {
                return Err(p.error("`else`"));
            }
            Ok(Expr::Choice { test, yes: Box::new(value), no: Box::new(p.expr()?) })
        })
    }

    fn postfix(&mut self) -> Result<Expr> {
        if self.take("-") {
            return Ok(match self.postfix()? {
                Expr::Int(x) => Expr::Int(x.wrapping_neg()),
                Expr::Float(x) => Expr::Float(-x),
                Expr::Name(n) if &*n == "inf" => Expr::Float(f64::NEG_INFINITY),
                other => Expr::Neg(Box::new(other)),
            });
        }
        let mut value = self.atom()?;
        loop {
            if self.take(".") {
                value = Expr::Attr(Box::new(value), self.name()?);
            } else if self.take("(") {
                let (args, named) = self.arguments()?;
                value = Expr::Call(Box::new(value), args, named);
            } else if self.take("[") {
                let index = self.items("]")?;
                let index = match <[Expr; 1]>::try_from(index) {
                    Ok([one]) => one,
                    Err(many) => Expr::Tuple(many),
                };
                value = Expr::Item(Box::new(value), Box::new(index));
            } else {
                return Ok(value);
            }
        }
    }

    fn arguments(&mut self) -> Result<(Vec<Expr>, Vec<(Rc<str>, Expr)>)> {
        let (mut args, mut named) = (Vec::new(), Vec::new());
        while !self.take(")") {
            let is_named = matches!(self.peek(), Token::Name(_))
                && matches!(self.tokens.get(self.at + 1), Some((Token::Sign("="), _)));
            if is_named {
                let name = self.name()?;
                self.need("=")?;
                named.push((name, self.expr()?));
            } else {
                args.push(self.expr()?);
            }
            if !self.take(",") {
                self.need(")")?;
                break;
            }
        }
        Ok((args, named))
    }

    fn items(&mut self, close: &'static str) -> Result<Vec<Expr>> {
        let mut items = Vec::new();
        while !self.take(close) {
            items.push(self.expr()?);
            if !self.take(",") {
                self.need(close)?;
                break;
            }
        }
        Ok(items)
    }

    fn atom(&mut self) -> Result<Expr> {
        let token = self.peek().clone();
        self.at += 1;
        Ok(match token {
            Token::Int(x) => Expr::Int(x),
            Token::Float(x) => Expr::Float(x),
            Token::Imaginary(x) => Expr::Imaginary(x),
            Token::Text(s) => Expr::Text(s),
            Token::Name(n) => match &*n {
                "None" => Expr::None,
                "True" => Expr::Bool(true),
                "False" => Expr::Bool(false),
                "inf" => Expr::Float(f64::INFINITY),
                "nan" => Expr::Float(f64::NAN),
                _ => Expr::Name(n),
            },
            Token::Sign("(") => {
                if self.take(")") {
                    return Ok(Expr::Tuple(Vec::new()));
                }
                let (value, _) = self.tuple_expr()?;
                self.need(")")?;
                value
            }
            Token::Sign("[") => Expr::List(self.items("]")?),
            Token::Sign("{") => {
                let mut pairs = Vec::new();
                while !self.take("}") {
                    let key = self.expr()?;
                    self.need(":")?;
                    pairs.push((key, self.expr()?));
                    if !self.take(",") {
                        self.need("}")?;
                        break;
                    }
                }
                Expr::Dict(pairs)
            }
            _ => {
                self.at -= 1;
                return Err(self.error("a value"));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_with_a_method() {
        let file = parse(
            "class M(Module):\n  __parameters__ = [\"w\", ]\n  w : Tensor\n  eps : Final[float] = 1.0e-05\n  \
             __annotations__[\"0\"] = __torch__.A\n  def forward(self: __torch__.M,\n    x: Tensor, k: int=3) -> Tensor:\n    \
             if torch.gt(k, -2):\n      y = (self).f(x, )\n    else:\n      y = x\n    a, b, = torch.max(y, 1)\n    \
             for _0 in range(k):\n      pass\n    return (a, b)\n",
        )
        .unwrap();
        let c = &file.classes[0];
        assert_eq!(c.fields.iter().map(|f| &*f.0).collect::<Vec<_>>(), ["w", "eps", "0"]);
        let f = &c.methods[0];
        assert_eq!(f.params.len(), 3);
        assert_eq!(f.body.len(), 4);
        assert!(matches!(&f.body[1], Stmt::Assign { targets, unpack: true, .. } if targets.len() == 2));
        assert!(parse("def f(:\n").is_err());
        assert!(parse(&format!("def f():\n  return {}1{}\n", "(".repeat(5000), ")".repeat(5000))).is_err());
    }
}
