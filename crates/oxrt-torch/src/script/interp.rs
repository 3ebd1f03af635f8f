//! Evaluates a script on values of the graph: what is known is computed here and now, what is not becomes nodes.
//! Calls are inlined; branches and loops that the data decides become `If` and `Loop` (see `control`).

use super::ast::{Expr, Function, Line, Stmt};
use super::code::{Code, CodeFile, Item};
use super::value::{Cell, Heap, Ref, Sv};
use crate::cx::Cx;
use oxrt_ir::{Dim, Source, ValueId};
use oxrt_tensor::{Error, Result, bail};
use rustc_hash::FxHashMap;
use std::rc::Rc;
use std::sync::Arc;

/// Statements that one import may run: an endless loop ends here.
const MAX_STEPS: u64 = 20_000_000;
/// Deepest nesting of calls.
const MAX_CALLS: usize = 150;

pub(crate) type Env = FxHashMap<Rc<str>, Sv>;

/// One call under way.
pub(crate) struct Frame {
    pub env: Env,
    file: Rc<CodeFile>,
}

/// How a block ended.
pub(crate) enum Flow {
    Next,
    Return(Sv),
}

/// A truth value.
pub(crate) enum Truth {
    Known(bool),
    /// A bool of rank 0.
    AtRunTime(ValueId),
}

pub(crate) struct Interp<'p> {
    pub code: &'p Code<'p>,
    pub heap: Heap,
    pub constants: Vec<Sv>,
    pub frames: Vec<Frame>,
    /// Integers that are read from values of rank 0: their symbols and where they stand.
    pub int_sources: Vec<(Dim, ValueId)>,
    /// Comparisons of sizes made at run time, and how they come out when every size is at least 1 and as large as
    /// may be: what decides a branch whose sides cannot be joined.
    pub usual: FxHashMap<ValueId, bool>,
    /// The message of an exception that the script raised, while its error travels up.
    pub raised: Option<String>,
    /// The element type that autocast computes in, inside its block.
    pub autocast: Option<oxrt_tensor::DType>,
    placed: bool,
    steps: u64,
    last_source: Option<(*const CodeFile, Line, Arc<Source>)>,
}

impl<'p> Interp<'p> {
    pub fn new(code: &'p Code<'p>) -> Interp<'p> {
        Interp {
            code,
            heap: Heap::default(),
            constants: Vec::new(),
            frames: Vec::new(),
            int_sources: Vec::new(),
            usual: FxHashMap::default(),
            raised: None,
            autocast: None,
            placed: false,
            steps: 0,
            last_source: None,
        }
    }

    fn env(&mut self) -> Result<&mut Env> {
        self.frames.last_mut().map(|f| &mut f.env).ok_or_else(|| Error::bug("no call under way"))
    }

    // ---- statements ----

    pub fn block(&mut self, cx: &mut Cx<'static, '_>, block: &[Stmt]) -> Result<Flow> {
        for stmt in block {
            self.steps += 1;
            if self.steps > MAX_STEPS {
                bail!(unsupported, "the script runs more than {MAX_STEPS} statements");
            }
            match self.statement(cx, stmt) {
                Ok(Flow::Next) => {}
                Ok(done) => return Ok(done),
                Err(e) => {
                    // The innermost statement names the place.
                    if std::mem::replace(&mut self.placed, true) {
                        return Err(e);
                    }
                    return Err(e.at(self.place(line_of(stmt))));
                }
            }
        }
        Ok(Flow::Next)
    }

    /// Forgets an error that was dealt with.
    pub fn recovered(&mut self) {
        self.placed = false;
        self.raised = None;
    }

    fn place(&self, line: Line) -> String {
        let Some(frame) = self.frames.last() else { return String::new() };
        let python = self.code.python_line(&frame.file, line);
        match python.location.is_empty() {
            true => format!("{}:{}", frame.file.path, line.number),
            false => format!("{} (`{}`)", python.location, python.code),
        }
    }

    fn note_source(&mut self, cx: &mut Cx<'static, '_>, line: Line) {
        let Some(frame) = self.frames.last() else { return };
        let file = Rc::as_ptr(&frame.file);
        if let Some((f, l, source)) = &self.last_source {
            if *f == file && *l == line && source.module == cx.b.prefix {
                cx.b.source = Some(source.clone());
                return;
            }
        }
        let python = self.code.python_line(&frame.file, line);
        let source = Arc::new(Source { module: cx.b.prefix.clone(), location: python.location, code: python.code });
        self.last_source = Some((file, line, source.clone()));
        cx.b.source = Some(source);
    }

    fn statement(&mut self, cx: &mut Cx<'static, '_>, stmt: &Stmt) -> Result<Flow> {
        self.note_source(cx, line_of(stmt));
        match stmt {
            Stmt::Assign { targets, unpack, value, .. } => {
                let v = self.eval(cx, value)?;
                self.assign(cx, targets, *unpack, v)?;
                Ok(Flow::Next)
            }
            Stmt::Expr(e, _) => {
                self.eval(cx, e)?;
                Ok(Flow::Next)
            }
            Stmt::Return(e, _) => Ok(Flow::Return(self.eval(cx, e)?)),
            Stmt::If { test, yes, no, .. } => {
                let v = self.eval(cx, test)?;
                match self.truth(cx, &v)? {
                    Truth::Known(true) => self.block(cx, yes),
                    Truth::Known(false) => self.block(cx, no),
                    Truth::AtRunTime(c) => self.branch(cx, c, yes, no).map(|()| Flow::Next),
                }
            }
            Stmt::For { name, count, body, .. } => {
                let n = match self.eval(cx, count)? {
                    Sv::Int(d) => d,
                    other => bail!(invalid, "a loop over a range of {}", other.kind()),
                };
                self.for_loop(cx, name, &n, body)
            }
            Stmt::While { test, body, .. } => self.while_loop(cx, test, body),
            Stmt::With { context, name, body, .. } => self.with(cx, context, name.as_ref(), body),
        }
    }

    /// A block under a context: what autocast means is applied to the operators inside, other contexts are called as Python calls them.
    fn with(
        &mut self,
        cx: &mut Cx<'static, '_>,
        context: &Expr,
        name: Option<&Rc<str>>,
        body: &[Stmt],
    ) -> Result<Flow> {
        let v = self.eval(cx, context)?;
        let Sv::Object(object) = v else { bail!(unsupported, "a {} as context", v.kind()) };
        let Cell::Object { class, fields, .. } = self.heap.get(object) else { bail!(bug, "an object that is none") };
        if class.ends_with("autocast_mode.autocast") {
            let field = |wanted: &str| fields.iter().find(|(n, _)| &**n == wanted).map(|(_, v)| v);
            let on = !matches!(field("_enabled"), Some(Sv::Bool(false)));
            let to = match field("fast_dtype") {
                Some(Sv::Int(d)) => d.as_const().and_then(super::call::dtype_of_c10),
                _ => None,
            };
            let before = std::mem::replace(&mut self.autocast, to.filter(|_| on));
            let flow = self.block(cx, body);
            self.autocast = before;
            return flow;
        }
        let entered = self.call_method(cx, object, "__enter__", Vec::new(), Vec::new())?;
        if let Some(name) = name {
            self.env()?.insert(name.clone(), entered);
        }
        let flow = self.block(cx, body)?;
        self.call_method(cx, object, "__exit__", vec![Sv::None; 3], Vec::new())?;
        Ok(flow)
    }

    fn assign(&mut self, cx: &mut Cx<'static, '_>, targets: &[Expr], unpack: bool, v: Sv) -> Result<()> {
        if !unpack {
            return self.assign_one(cx, &targets[0], v);
        }
        let items: Vec<Sv> = match &v {
            Sv::Tuple(items) => items.to_vec(),
            Sv::NamedTuple(_, items) => items.iter().map(|f| f.1.clone()).collect(),
            Sv::List(r) => match self.heap.get(*r) {
                Cell::List(items) => items.clone(),
                _ => bail!(unsupported, "unpacking a list of unknown length"),
            },
            other => bail!(invalid, "unpacking a {}", other.kind()),
        };
        if items.len() != targets.len() {
            bail!(invalid, "{} values for {} names", items.len(), targets.len());
        }
        targets.iter().zip(items).try_for_each(|(t, v)| self.assign_one(cx, t, v))
    }

    fn assign_one(&mut self, cx: &mut Cx<'static, '_>, target: &Expr, v: Sv) -> Result<()> {
        match target {
            Expr::Name(n) => {
                self.env()?.insert(n.clone(), v);
                Ok(())
            }
            Expr::Attr(object, name) => {
                let Sv::Object(r) = self.eval(cx, object)? else {
                    bail!(invalid, "an attribute of something other than an object is set")
                };
                let Cell::Object { fields, .. } = self.heap.get_mut(r) else { bail!(bug, "an object that is none") };
                match fields.iter_mut().find(|(n, _)| n == name) {
                    Some((_, old)) => *old = v,
                    None => fields.push((name.clone(), v)),
                }
                Ok(())
            }
            Expr::Item(list, index) => {
                let (list, index) = (self.eval(cx, list)?, self.eval(cx, index)?);
                self.set_item(&list, &index, v)
            }
            Expr::Tuple(items) => self.assign(cx, items, true, v),
            _ => bail!(unsupported, "an assignment to an expression"),
        }
    }

    pub fn truth(&mut self, cx: &mut Cx<'static, '_>, v: &Sv) -> Result<Truth> {
        let value = match v {
            Sv::Bool(b) => return Ok(Truth::Known(*b)),
            Sv::None => return Ok(Truth::Known(false)),
            Sv::Int(d) => match d.as_const() {
                Some(x) => return Ok(Truth::Known(x != 0)),
                None => self.compare(cx, "ne", v, &Sv::int(0)).and_then(|v| self.scalar_value(cx, &v))?,
            },
            Sv::Float(x) => return Ok(Truth::Known(*x != 0.0)),
            Sv::Scalar(v) => *v,
            Sv::Tensor(id) => {
                let v = cx.read(*id)?;
                cx.reshape(v, &[])?
            }
            other => bail!(invalid, "a {} as a condition", other.kind()),
        };
        if let Some(t) = super::fold::known_value(cx, value) {
            let known = t.to_f64_vec()?.first().is_some_and(|x| *x != 0.0);
            return Ok(Truth::Known(known));
        }
        let value = cx.cast(value, oxrt_tensor::DType::Bool)?;
        Ok(Truth::AtRunTime(value))
    }

    // ---- calls ----

    /// Runs a function with its arguments in order; named ones and defaults fill the rest.
    pub fn call_function(
        &mut self,
        cx: &mut Cx<'static, '_>,
        file: &Rc<CodeFile>,
        f: &Function,
        args: Vec<Sv>,
        named: Vec<(Rc<str>, Sv)>,
    ) -> Result<Sv> {
        if self.frames.len() >= MAX_CALLS {
            bail!(unsupported, "calls nested deeper than {MAX_CALLS}");
        }
        if args.len() > f.params.len() {
            bail!(invalid, "`{}` takes {} arguments, given {}", f.name, f.params.len(), args.len());
        }
        let mut env = Env::default();
        let given = args.len();
        for (p, v) in f.params.iter().zip(args) {
            env.insert(p.name.clone(), v);
        }
        for (name, v) in named {
            if !f.params.iter().any(|p| p.name == name) {
                bail!(invalid, "`{}` has no parameter `{name}`", f.name);
            }
            env.insert(name, v);
        }
        self.frames.push(Frame { env, file: file.clone() });
        let result = self.run_function(cx, f, given);
        self.frames.pop();
        result
    }

    fn run_function(&mut self, cx: &mut Cx<'static, '_>, f: &Function, given: usize) -> Result<Sv> {
        for p in &f.params[given..] {
            if self.env()?.contains_key(&p.name) {
                continue;
            }
            let Some(default) = &p.default else { bail!(invalid, "`{}` lacks the argument `{}`", f.name, p.name) };
            let v = self.eval(cx, default)?;
            self.env()?.insert(p.name.clone(), v);
        }
        match self.block(cx, &f.body)? {
            Flow::Return(v) => Ok(v),
            Flow::Next => Ok(Sv::None),
        }
    }

    /// `object.method(…)`.
    pub fn call_method(
        &mut self,
        cx: &mut Cx<'static, '_>,
        object: Ref,
        method: &str,
        args: Vec<Sv>,
        named: Vec<(Rc<str>, Sv)>,
    ) -> Result<Sv> {
        let Cell::Object { class, path, .. } = self.heap.get(object) else { bail!(bug, "an object that is none") };
        let (class, path) = (class.clone(), path.clone());
        let Some((file, i)) = self.code.class(&class)? else { bail!(invalid, "the archive lacks the class {class}") };
        let found = file.class(i).methods.iter().find(|m| &*m.name == method).cloned();
        let Some(f) = found else { bail!(invalid, "the class {class} has no method `{method}`") };
        let mut all = vec![Sv::Object(object)];
        all.extend(args);
        let outer = (cx.b.prefix.clone(), cx.b.source.clone());
        if !path.is_empty() {
            cx.b.prefix = path.to_string();
        }
        let result = self.call_function(cx, &file, &f, all, named);
        (cx.b.prefix, cx.b.source) = outer;
        result
    }

    /// A function, or a class to make an object of, by its full name.
    fn call_global(
        &mut self,
        cx: &mut Cx<'static, '_>,
        name: &str,
        args: Vec<Sv>,
        named: Vec<(Rc<str>, Sv)>,
    ) -> Result<Sv> {
        if let Some(class) = name.strip_suffix(".__new__") {
            let cell = Cell::Object { class: class.into(), path: "".into(), fields: Vec::new() };
            return Ok(Sv::Object(self.heap.add(cell)));
        }
        match self.code.find(name)? {
            Some(Item::Function(file, f)) => self.call_function(cx, &file, &f, args, named),
            Some(Item::Class(file, i)) => {
                let class = file.class(i);
                if &*class.base == "NamedTuple" {
                    let names = class.fields.iter().map(|f| f.0.clone());
                    let mut fields: Vec<(Rc<str>, Sv)> = names.zip(args).collect();
                    fields.extend(named);
                    return Ok(Sv::NamedTuple(name.into(), Rc::new(fields)));
                }
                let cell = Cell::Object { class: name.into(), path: "".into(), fields: Vec::new() };
                let object = self.heap.add(cell);
                if class.methods.iter().any(|m| &*m.name == "__init__") {
                    self.call_method(cx, object, "__init__", args, named)?;
                }
                Ok(Sv::Object(object))
            }
            None => bail!(invalid, "the archive lacks `{name}`"),
        }
    }

    // ---- expressions ----

    pub fn eval_all(&mut self, cx: &mut Cx<'static, '_>, items: &[Expr]) -> Result<Vec<Sv>> {
        items.iter().map(|e| self.eval(cx, e)).collect()
    }

    pub fn eval(&mut self, cx: &mut Cx<'static, '_>, e: &Expr) -> Result<Sv> {
        Ok(match e {
            Expr::None => Sv::None,
            Expr::Bool(b) => Sv::Bool(*b),
            Expr::Int(x) => Sv::int(*x),
            Expr::Float(x) => Sv::Float(*x),
            Expr::Imaginary(x) => Sv::Complex(0.0, *x),
            Expr::Text(s) => Sv::Text(s.clone()),
            Expr::Name(n) => match self.env()?.get(n) {
                Some(v) => v.clone(),
                None => bail!(invalid, "the script reads `{n}` before it is set"),
            },
            Expr::Attr(..) => match self.dotted(e) {
                Some(path) => self.global(&path)?,
                None => {
                    let Expr::Attr(object, name) = e else { bail!(bug, "an attribute that is none") };
                    let v = self.eval(cx, object)?;
                    self.attribute(&v, name)?
                }
            },
            Expr::Item(list, index) => {
                let (list, index) = (self.eval(cx, list)?, self.eval(cx, index)?);
                self.item(cx, &list, &index)?
            }
            Expr::Tuple(items) => Sv::Tuple(Rc::new(self.eval_all(cx, items)?)),
            Expr::List(items) => {
                let items = self.eval_all(cx, items)?;
                self.heap.list(items)
            }
            Expr::Dict(pairs) => {
                let mut out = Vec::new();
                for (k, v) in pairs {
                    out.push((self.eval(cx, k)?, self.eval(cx, v)?));
                }
                Sv::Dict(self.heap.add(Cell::Dict(out)))
            }
            Expr::Neg(v) => {
                let v = self.eval(cx, v)?;
                self.call_torch(cx, "neg", vec![v], Vec::new())?
            }
            Expr::Not(v) => {
                let v = self.eval(cx, v)?;
                self.call_torch(cx, "__not__", vec![v], Vec::new())?
            }
            Expr::Choice { test, yes, no } => {
                let test = self.eval(cx, test)?;
                match self.truth(cx, &test)? {
                    Truth::Known(t) => self.eval(cx, if t { yes } else { no })?,
                    Truth::AtRunTime(c) => {
                        let (yes, no) = (self.eval(cx, yes)?, self.eval(cx, no)?);
                        self.choose(cx, c, &yes, &no)?
                    }
                }
            }
            Expr::Call(f, args, named) => self.call(cx, f, args, named)?,
        })
    }

    /// One of two numbers or tensors, by a bool of rank 0.
    fn choose(&mut self, cx: &mut Cx<'static, '_>, c: ValueId, yes: &Sv, no: &Sv) -> Result<Sv> {
        if super::value::same(yes, no) {
            return Ok(yes.clone());
        }
        let (x, y) = (self.scalar_value(cx, yes)?, self.scalar_value(cx, no)?);
        let v = cx.call("Where", &[c, x, y])?;
        self.number_of(cx, v)
    }

    /// A value of rank 0 as a Python number: integers get a symbol, so that they can size things.
    pub fn number_of(&mut self, cx: &mut Cx<'static, '_>, v: ValueId) -> Result<Sv> {
        let dtype = cx.dtype(v)?;
        if let Some(t) = super::fold::known_value(cx, v).filter(|t| t.len() == 1) {
            return Ok(match dtype {
                d if d.is_float() => Sv::Float(t.to_f64_vec()?[0]),
                oxrt_tensor::DType::Bool => Sv::Bool(t.to_f64_vec()?[0] != 0.0),
                _ => Sv::int(t.to_i64_vec()?[0]),
            });
        }
        if !dtype.is_int() {
            return Ok(Sv::Scalar(v));
        }
        if let Some(d) = cx.b.graph[v].contents.as_ref().and_then(|c| c.elements.first()) {
            return Ok(Sv::Int(d.clone()));
        }
        let v = cx.cast(v, oxrt_tensor::DType::I64)?;
        let symbol = cx.b.symbols.fresh();
        let d = Dim::from(symbol.clone());
        // Nothing is known of its sign.
        cx.symbols.ranges.insert(symbol, oxrt_ir::Range { min: i64::MIN / 4, max: None });
        cx.b.note_dim_value(d.clone(), v);
        self.int_sources.push((d.clone(), v));
        Ok(Sv::Int(d))
    }

    /// `a.b.c` when it starts at one of the language's own names.
    fn dotted(&self, e: &Expr) -> Option<String> {
        match e {
            Expr::Name(n) => {
                let known = matches!(&**n, "torch" | "ops" | "__torch__" | "CONSTANTS");
                let shadowed = self.frames.last().is_some_and(|f| f.env.contains_key(n));
                (known && !shadowed).then(|| n.to_string())
            }
            Expr::Attr(inner, name) => Some(format!("{}.{name}", self.dotted(inner)?)),
            _ => None,
        }
    }

    fn global(&mut self, path: &str) -> Result<Sv> {
        if let Some(name) = path.strip_prefix("CONSTANTS.c") {
            let found = name.parse::<usize>().ok().and_then(|i| self.constants.get(i));
            return found.cloned().ok_or_else(|| Error::invalid(format!("the archive has no constant `{path}`")));
        }
        if path.starts_with("__torch__.") {
            // A member of an enumeration, or a function.
            if let Some((class, member)) = path.rsplit_once('.') {
                if let Some((file, i)) = self.code.class(class)? {
                    let field = file.class(i).fields.iter().find(|f| &*f.0 == member);
                    if let Some((_, _, Some(value))) = field {
                        let value = constant(value)?;
                        return Ok(value);
                    }
                }
            }
            return Ok(Sv::Global(path.into()));
        }
        bail!(unsupported, "the value `{path}`")
    }

    pub fn attribute(&mut self, v: &Sv, name: &str) -> Result<Sv> {
        match v {
            Sv::Object(r) => {
                let Cell::Object { class, fields, .. } = self.heap.get(*r) else {
                    bail!(bug, "an object that is none")
                };
                if let Some((_, v)) = fields.iter().find(|(n, _)| &**n == name) {
                    return Ok(v.clone());
                }
                let class = class.clone();
                if let Some((file, i)) = self.code.class(&class)? {
                    let field = file.class(i).fields.iter().find(|f| &*f.0 == name);
                    if let Some((_, _, Some(value))) = field {
                        return self.constant_field(value);
                    }
                    if file.class(i).methods.iter().any(|m| &*m.name == name) {
                        return Ok(Sv::Method(*r, name.into()));
                    }
                }
                bail!(invalid, "an object of {class} has no `{name}`")
            }
            Sv::NamedTuple(class, fields) => (fields.iter().find(|(n, _)| &**n == name))
                .map(|f| f.1.clone())
                .ok_or_else(|| Error::invalid(format!("{class} has no field `{name}`"))),
            other => bail!(unsupported, "the attribute `{name}` of a {}", other.kind()),
        }
    }

    fn constant_field(&mut self, e: &Expr) -> Result<Sv> {
        Ok(match e {
            Expr::List(items) => {
                let items = items.iter().map(|i| self.constant_field(i)).collect::<Result<Vec<_>>>()?;
                self.heap.list(items)
            }
            Expr::Call(f, args, _) if **f == Expr::Name("annotate".into()) && args.len() == 2 => {
                self.constant_field(&args[1])?
            }
            other => constant(other)?,
        })
    }

    fn call(&mut self, cx: &mut Cx<'static, '_>, f: &Expr, args: &[Expr], named: &[(Rc<str>, Expr)]) -> Result<Sv> {
        // Forms whose first argument is a type.
        if let Expr::Name(n) = f {
            let local = self.frames.last().is_some_and(|f| f.env.contains_key(n));
            match (&**n, args) {
                _ if local => {}
                ("annotate" | "unchecked_cast", [ty, e]) => {
                    let v = self.eval(cx, e)?;
                    // A tensor where a number is needed is converted silently.
                    return match (ty, &v) {
                        (Expr::Name(to), Sv::Tensor(_)) if matches!(&**to, "int" | "float" | "bool") => {
                            self.convert(cx, to, &v)
                        }
                        _ => Ok(v),
                    };
                }
                ("uninitialized", [_]) => return Ok(Sv::Uninit),
                ("isinstance", [e, ty]) => {
                    let v = self.eval(cx, e)?;
                    return Ok(Sv::Bool(self.is_instance(&v, ty)));
                }
                (name, _) => {
                    let args = self.eval_all(cx, args)?;
                    return self.call_bare(cx, name, args);
                }
            }
        }
        let mut named_values = Vec::new();
        let path = self.dotted(f);
        if let Some(path) = path {
            let values = self.eval_all(cx, args)?;
            for (n, e) in named {
                named_values.push((n.clone(), self.eval(cx, e)?));
            }
            if let Some(name) = path.strip_prefix("torch.") {
                return self.call_torch(cx, name, values, named_values);
            }
            if let Some(name) = path.strip_prefix("ops.") {
                return match name.split_once('.') {
                    Some(("prim", name)) => self.call_prim(cx, name, values),
                    Some(("aten", name)) => self.call_torch(cx, name, values, named_values),
                    Some((space, name)) => self.call_operator(cx, space, name, &values, &named_values),
                    None => bail!(invalid, "the operator `{path}`"),
                };
            }
            return self.call_global(cx, &path, values, named_values);
        }
        if let Expr::Attr(object, method) = f {
            let object = self.eval(cx, object)?;
            let values = self.eval_all(cx, args)?;
            for (n, e) in named {
                named_values.push((n.clone(), self.eval(cx, e)?));
            }
            return match object {
                Sv::Object(r) => match self.attribute(&Sv::Object(r), method)? {
                    Sv::Method(r, name) => self.call_method(cx, r, &name, values, named_values),
                    Sv::Object(inner) => self.call_method(cx, inner, "forward", values, named_values),
                    other => bail!(invalid, "`{method}` is a {}, not a method", other.kind()),
                },
                other => bail!(unsupported, "the method `{method}` of a {}", other.kind()),
            };
        }
        let callee = self.eval(cx, f)?;
        let values = self.eval_all(cx, args)?;
        for (n, e) in named {
            named_values.push((n.clone(), self.eval(cx, e)?));
        }
        match callee {
            Sv::Global(name) => self.call_global(cx, &name, values, named_values),
            Sv::Method(r, name) => self.call_method(cx, r, &name, values, named_values),
            Sv::Object(r) => self.call_method(cx, r, "forward", values, named_values),
            other => bail!(invalid, "a {} is called", other.kind()),
        }
    }

    fn is_instance(&self, v: &Sv, ty: &Expr) -> bool {
        match ty {
            Expr::Tuple(any) => any.iter().any(|t| self.is_instance(v, t)),
            Expr::None => matches!(v, Sv::None),
            Expr::Name(n) => match &**n {
                "Tensor" => matches!(v, Sv::Tensor(_)),
                "int" => matches!(v, Sv::Int(_)),
                "float" => matches!(v, Sv::Float(_) | Sv::SymFloat(_)),
                "bool" => matches!(v, Sv::Bool(_)),
                "str" => matches!(v, Sv::Text(_)),
                "NoneType" => matches!(v, Sv::None),
                "Device" => matches!(v, Sv::Device(_)),
                "Any" => true,
                "list" | "List" => matches!(v, Sv::List(_)),
                "tuple" | "Tuple" => matches!(v, Sv::Tuple(_) | Sv::NamedTuple(..)),
                "dict" | "Dict" => matches!(v, Sv::Dict(_)),
                _ => false,
            },
            Expr::Item(head, inner) => {
                let Expr::Name(head) = &**head else { return false };
                match (&**head, v) {
                    ("Optional", v) => matches!(v, Sv::None) || self.is_instance(v, inner),
                    ("List", Sv::List(r)) => match self.heap.get(*r) {
                        Cell::List(items) => items.iter().all(|i| self.is_instance(i, inner)),
                        _ => **inner == Expr::Name("Tensor".into()),
                    },
                    ("Dict", Sv::Dict(_)) => true,
                    ("Tuple", Sv::Tuple(items)) => match &**inner {
                        Expr::Tuple(types) => {
                            types.len() == items.len()
                                && types.iter().zip(items.iter()).all(|(t, i)| self.is_instance(i, t))
                        }
                        one => items.len() == 1 && self.is_instance(&items[0], one),
                    },
                    ("Union", v) => self.is_instance(v, inner),
                    _ => false,
                }
            }
            Expr::Attr(..) => match (self.dotted(ty), v) {
                (Some(name), Sv::Object(r)) => {
                    matches!(self.heap.get(*r), Cell::Object { class, .. } if **class == *name)
                }
                (Some(name), Sv::NamedTuple(class, _)) => **class == *name,
                _ => false,
            },
            _ => false,
        }
    }
}

fn line_of(stmt: &Stmt) -> Line {
    match stmt {
        Stmt::Assign { line, .. }
        | Stmt::If { line, .. }
        | Stmt::For { line, .. }
        | Stmt::While { line, .. }
        | Stmt::With { line, .. } => *line,
        Stmt::Expr(_, line) | Stmt::Return(_, line) => *line,
    }
}

/// A constant of a class.
fn constant(e: &Expr) -> Result<Sv> {
    Ok(match e {
        Expr::None => Sv::None,
        Expr::Bool(b) => Sv::Bool(*b),
        Expr::Int(x) => Sv::int(*x),
        Expr::Float(x) => Sv::Float(*x),
        Expr::Text(s) => Sv::Text(s.clone()),
        Expr::Tuple(items) => Sv::Tuple(Rc::new(items.iter().map(constant).collect::<Result<_>>()?)),
        Expr::Call(f, args, _) => match (&**f, &args[..]) {
            (Expr::Attr(t, n), [Expr::Text(s)]) if **t == Expr::Name("torch".into()) && &**n == "device" => {
                Sv::Device(s.clone())
            }
            _ => bail!(unsupported, "a constant that is computed"),
        },
        _ => bail!(unsupported, "a constant that is computed"),
    })
}
