//! Text form of a graph, for tests, logs and documentation.
//!
//! ```text
//! (f32[n, 3, h, w] x, i64[2] s) {
//!   a = Conv<kernel_shape=[3, 3], auto_pad="VALID">(x, f32[8, 3, 3, 3]{0.5})
//!   y, z = Split<axis=1>(a)
//!   t = oxrt.Gemm(y, _, 2.0)
//! } => t, z
//! ```
//!
//! Constants stand in place: `2.0` is an f32 scalar, `i64[2]{0, -1}` a tensor, `f32[8]{0.5}` repeats
//! one value, `f32[3]{..}` is a ramp 0, 1, 2 …. `_` is an absent input or output. Types of results are
//! not written; inference finds them. A node without results (a check) has no `=`. A subgraph is an attribute `body={(f32 a) { … } => b}`; it cannot
//! name outer values.

use crate::{Attr, Attrs, DType, Dim, Graph, Tensor, TensorType, ValueId};
use oxrt_tensor::{Error, Result, bail, num_elements};
use std::collections::{HashMap, HashSet};
use std::fmt;

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "(")?;
        for (i, &v) in self.inputs.iter().enumerate() {
            write!(f, "{}{} {}", if i > 0 { ", " } else { "" }, self[v].ty, self[v].name)?;
        }
        writeln!(f, ") {{")?;
        let operand = |v: Option<ValueId>| match v {
            None => "_".to_string(),
            Some(v) => match &self[v].constant {
                Some(t) => constant_text(t),
                None => self[v].name.clone(),
            },
        };
        for (_, node) in self.nodes() {
            let list = |ids: &[Option<ValueId>]| ids.iter().map(|v| operand(*v)).collect::<Vec<_>>().join(", ");
            match node.outputs() {
                [] => write!(f, "  {}", node.op)?,
                outputs => write!(f, "  {} = {}", list(outputs), node.op)?,
            }
            if node.attrs.iter().next().is_some() {
                let attrs: Vec<String> = node.attrs.iter().map(|(k, a)| format!("{k}={}", attr_text(a))).collect();
                write!(f, "<{}>", attrs.join(", "))?;
            }
            writeln!(f, "({})", list(node.inputs()))?;
        }
        let outputs: Vec<String> = self.outputs.iter().map(|&v| operand(Some(v))).collect();
        write!(f, "}} => {}", outputs.join(", "))
    }
}

fn constant_text(t: &Tensor) -> String {
    let ty = TensorType::of(t);
    if t.len() > 16 || t.strings().is_some() {
        return format!("{ty}{{...}}");
    }
    let values = t.to_f64_vec().unwrap_or_default();
    match (t.dtype(), t.rank(), &values[..]) {
        (DType::F32, 0, [x]) => format!("{x:?}"),
        _ if values.len() > 1 && values.iter().all(|v| v.to_bits() == values[0].to_bits()) => {
            format!("{ty}{{{}}}", values[0])
        }
        _ => format!("{ty}{{{}}}", values.iter().map(f64::to_string).collect::<Vec<_>>().join(", ")),
    }
}

fn attr_text(attr: &Attr) -> String {
    match attr {
        Attr::Int(x) => x.to_string(),
        Attr::Float(x) => format!("{x:?}"),
        Attr::String(s) => format!("{s:?}"),
        Attr::Ints(x) => format!("{x:?}"),
        Attr::Floats(x) => format!("{x:?}"),
        Attr::Strings(x) => format!("{x:?}"),
        Attr::Tensor(t) => constant_text(t),
        Attr::Tensors(ts) => format!("[{}]", ts.iter().map(constant_text).collect::<Vec<_>>().join(", ")),
        Attr::Type(t) => t.to_string(),
        Attr::Graph(g) => format!("{{{}}}", g.to_string().replace('\n', " ")),
        Attr::Graphs(gs) => format!("[{} graphs]", gs.len()),
    }
}

/// Reads the text form.
///
/// # Errors
/// With the column where the text stops making sense.
pub fn parse_graph(text: &str) -> Result<Graph> {
    Parser::new(text, HashSet::new()).graph().map(|p| p.graph)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    graph: Graph,
    names: HashMap<String, ValueId>,
    /// Names of the graphs around this one, and which of them it reads.
    around: HashSet<String>,
    captured: Vec<(String, ValueId)>,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str, around: HashSet<String>) -> Parser<'a> {
        Parser { text, at: 0, graph: Graph::new("graph"), names: HashMap::new(), around, captured: Vec::new() }
    }

    fn graph(mut self) -> Result<Parser<'a>> {
        let parsed = self.parse();
        let before = &self.text[self.at..];
        parsed.map_err(|e| e.at(format!("column {} of the graph text, before `{before:.30}`", self.at + 1)))?;
        Ok(self)
    }

    /// The value of that name, in this graph or around it.
    fn value(&mut self, name: &str) -> Result<ValueId> {
        if let Some(&v) = self.names.get(name) {
            return Ok(v);
        }
        if !self.around.contains(name) {
            bail!(invalid, "`{name}` is not defined above");
        }
        let v = self.graph.add_value(name, crate::ValueType::Unknown);
        self.names.insert(name.to_string(), v);
        self.captured.push((name.to_string(), v));
        Ok(v)
    }

    fn rest(&mut self) -> &'a str {
        let rest = &self.text[self.at..];
        let trimmed = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ';');
        self.at += rest.len() - trimmed.len();
        trimmed
    }

    fn eat(&mut self, token: &str) -> bool {
        let hit = self.rest().starts_with(token);
        if hit {
            self.at += token.len();
        }
        hit
    }

    fn expect(&mut self, token: &str) -> Result<()> {
        if self.eat(token) { Ok(()) } else { bail!(invalid, "expected `{token}`") }
    }

    /// Text up to the first of `stops` outside brackets.
    fn until(&mut self, stops: &[char]) -> &'a str {
        let rest = self.rest();
        let mut depth = 0i32;
        let end = rest
            .char_indices()
            .find(|&(_, c)| {
                let stop = depth == 0 && stops.contains(&c);
                match c {
                    '[' | '(' | '{' => depth += 1,
                    ']' | ')' | '}' => depth -= 1,
                    _ => {}
                }
                stop || depth < 0
            })
            .map_or(rest.len(), |(i, _)| i);
        self.at += end;
        &rest[..end]
    }

    fn word(&mut self) -> Result<&'a str> {
        let rest = self.rest();
        let end = rest.find(|c: char| !(c.is_alphanumeric() || "_./:-".contains(c))).unwrap_or(rest.len());
        if end == 0 {
            bail!(invalid, "expected a name");
        }
        self.at += end;
        Ok(&rest[..end])
    }

    fn tensor_type(&mut self) -> Result<TensorType> {
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
        let dtype: DType =
            rest[..end].parse().map_err(|()| Error::invalid(format!("`{}` is not an element type", &rest[..end])))?;
        self.at += end;
        if !self.eat("[") {
            return Ok(TensorType::new(dtype, vec![]));
        }
        let inner = self.until(&[']']);
        self.expect("]")?;
        if inner == ".." {
            return Ok(TensorType { dtype, dims: None });
        }
        let mut dims = Vec::new();
        let (mut depth, mut start) = (0, 0);
        for (i, c) in inner.char_indices().chain([(inner.len(), ',')]) {
            match c {
                '(' => depth += 1,
                ')' => depth -= 1,
                ',' if depth == 0 && !inner[start..i].trim().is_empty() => {
                    dims.push(inner[start..i].parse::<Dim>()?);
                    start = i + 1;
                }
                _ => {}
            }
        }
        Ok(TensorType::new(dtype, dims))
    }

    fn parse(&mut self) -> Result<()> {
        self.expect("(")?;
        while !self.eat(")") {
            let ty = self.tensor_type()?;
            let name = self.word()?.to_string();
            let v = self.graph.add_input(&name, ty.into());
            self.names.insert(name, v);
            self.eat(",");
        }
        self.expect("{")?;
        while !self.eat("}") {
            self.statement()?;
        }
        self.expect("=>")?;
        loop {
            let v = self.operand()?.ok_or_else(|| Error::invalid("an output cannot be absent"))?;
            self.graph.outputs.push(v);
            if !self.eat(",") {
                break;
            }
        }
        if self.rest().is_empty() { Ok(()) } else { bail!(invalid, "text after the outputs") }
    }

    fn statement(&mut self) -> Result<()> {
        let mut outputs = Vec::new();
        // A node without results begins with its operator.
        let head = self.until(&['=', '<', '(', ';', '}']).len();
        let bare = !self.text[self.at..].starts_with('=');
        self.at -= head;
        while !bare && !self.eat("=") {
            let name = self.word()?;
            outputs.push((name != "_").then(|| {
                let v = self.graph.add_value(name, crate::ValueType::Unknown);
                (name.to_string(), v)
            }));
            self.eat(",");
        }
        let op = self.word()?.to_string();
        let attrs = self.attrs()?;
        self.expect("(")?;
        let mut inputs = Vec::new();
        while !self.eat(")") {
            inputs.push(self.operand()?);
            self.eat(",");
        }
        let ids: Vec<Option<ValueId>> = outputs.iter().map(|o| o.as_ref().map(|o| o.1)).collect();
        let name = outputs.iter().flatten().next().map_or("node", |o| &o.0).to_string();
        self.graph.add_node_with_outputs(&op, &name, &inputs, attrs, &ids);
        self.names.extend(outputs.into_iter().flatten());
        Ok(())
    }

    fn attrs(&mut self) -> Result<Attrs> {
        let mut attrs = Attrs::new();
        if !self.eat("<") {
            return Ok(attrs);
        }
        while !self.eat(">") {
            let name = self.word()?.to_string();
            self.expect("=")?;
            let value = self.attr()?;
            attrs.set(&name, value);
            self.eat(",");
        }
        Ok(attrs)
    }

    fn attr(&mut self) -> Result<Attr> {
        if self.eat("\"") {
            let rest = &self.text[self.at..];
            let end = rest.find('"').ok_or_else(|| Error::invalid("a string without end"))?;
            self.at += end + 1;
            return Ok(Attr::String(rest[..end].to_string()));
        }
        if self.eat("[") {
            let items: Vec<&str> = self.until(&[']']).split(',').map(str::trim).filter(|s| !s.is_empty()).collect();
            self.expect("]")?;
            if let Ok(ints) = items.iter().map(|s| s.parse()).collect::<Result<Vec<i64>, _>>() {
                return Ok(Attr::Ints(ints));
            }
            if items.iter().all(|s| s.starts_with('"')) {
                return Ok(Attr::Strings(items.iter().map(|s| s.trim_matches('"').to_string()).collect()));
            }
            let floats = items.iter().map(|s| s.parse()).collect::<Result<Vec<f32>, _>>();
            return floats.map(Attr::Floats).map_err(|e| Error::invalid(e.to_string()));
        }
        if self.eat("{") {
            let inner = self.until(&['}']);
            self.expect("}")?;
            let around = self.around.iter().chain(self.names.keys()).cloned().collect();
            let mut body = Parser::new(inner, around).graph()?;
            for (name, v) in std::mem::take(&mut body.captured) {
                body.graph.captures.push((self.value(&name)?, v));
            }
            return Ok(Attr::Graph(Box::new(body.graph)));
        }
        if self.rest().starts_with(|c: char| c.is_ascii_alphabetic()) && !self.rest().starts_with("inf") {
            return Ok(Attr::Tensor(self.literal()?));
        }
        let text = self.until(&[',', '>']).trim();
        if let Ok(int) = text.parse() {
            return Ok(Attr::Int(int));
        }
        text.parse().map(Attr::Float).map_err(|_| Error::invalid(format!("`{text}` is not an attribute")))
    }

    fn operand(&mut self) -> Result<Option<ValueId>> {
        let rest = self.rest();
        let number = rest.starts_with(|c: char| c.is_ascii_digit() || c == '-');
        if number {
            let text = self.until(&[',', ')', ' ', '\n']).trim();
            let value: f32 = text.parse().map_err(|_| Error::invalid(format!("`{text}` is not a number")))?;
            return Ok(Some(self.constant(Tensor::scalar(value))));
        }
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let is_literal = rest[..end].parse::<DType>().is_ok() && rest[end..].starts_with(['[', '{']);
        if is_literal {
            let t = self.literal()?;
            return Ok(Some(self.constant(t)));
        }
        let name = self.word()?;
        if name == "_" {
            return Ok(None);
        }
        self.value(name).map(Some)
    }

    fn constant(&mut self, t: Tensor) -> ValueId {
        let name = format!("const_{}", self.graph.value_ids().count());
        self.graph.add_constant(&name, t)
    }

    fn literal(&mut self) -> Result<Tensor> {
        let ty = self.tensor_type()?;
        let shape = ty.static_shape().ok_or_else(|| Error::invalid("a constant needs a static shape"))?;
        let n = num_elements(&shape)?;
        if n > 1 << 24 {
            bail!(invalid, "a constant of {n} elements in a text");
        }
        self.expect("{")?;
        let body = self.until(&['}']).trim();
        self.expect("}")?;
        if ty.dtype == DType::String {
            let items = body.split(',').map(|s| s.trim().trim_matches('"').to_string()).collect();
            return Tensor::from_strings(&shape, items);
        }
        let values: Vec<f64> = match body {
            ".." => (0..n).map(|i| i as f64).collect(),
            _ => {
                let items: Result<Vec<f64>, _> =
                    body.split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::parse).collect();
                let items = items.map_err(|e| Error::invalid(format!("`{body}`: {e}")))?;
                if items.len() == 1 { vec![items[0]; n] } else { items }
            }
        };
        Tensor::from_f64(ty.dtype, &shape, &values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        let text = "(f32[n, 2*h + 1] x, i64[2] s) {\n  a, _ = Foo<axis=-1, mode=\"up\", p=[1, 2], t=i64[2]{3, 4}>(x, _, 2.5)\n  \
                    b = oxrt.Bar(a, i64[3]{1, -2, 3}, f32[4]{0.5})\n} => b, a";
        let g = parse_graph(text).unwrap();
        assert_eq!(g.to_string(), text);
        g.verify().unwrap();
        assert_eq!(parse_graph(&g.to_string()).unwrap().to_string(), text);
    }

    #[test]
    fn mistakes_are_errors() {
        for bad in [
            "",
            "(f32 x) { y = Neg(z) } => y",
            "(f99 x) { } => x",
            "(f32[(] x) { } => x",
            "(f32 x) { y = A<b=>(x) } => y",
            "(f32 x) { y = Neg(x) } => y z",
        ] {
            assert!(parse_graph(bad).is_err(), "{bad}");
        }
    }
}
