//! What the language has beside tensors: numbers, text, lists, dicts. The serializer writes all of it as `torch.*`
//! and `ops.prim.*` calls.

use super::call::{c10_of_dtype, dtype_of_c10};
use super::interp::{Interp, Truth};
use super::numbers::{is_number, known};
use super::value::{Cell, Sv, same};
use crate::cx::Cx;
use oxrt_ir::Dim;
use oxrt_tensor::{DType, Error, Result, bail};
use std::rc::Rc;

/// A number of unknown sign that sizes a tensor is not negative.
fn is_size(cx: &mut Cx, d: &Dim) {
    if let Some(range) = d.as_symbol().and_then(|s| cx.symbols.ranges.get_mut(s)) {
        range.min = range.min.max(0);
    }
}

impl Interp<'_> {
    /// `int(x)` and its like: functions without a namespace.
    pub fn call_bare(&mut self, cx: &mut Cx<'static, '_>, name: &str, args: Vec<Sv>) -> Result<Sv> {
        match (name, &args[..]) {
            ("int" | "float" | "bool", [v]) => self.convert(cx, name, v),
            ("str", [v]) => Ok(Sv::Text(self.show(v).into())),
            ("getattr", [v, Sv::Text(name)]) => self.attribute(v, name),
            ("hasattr", [v, Sv::Text(name)]) => Ok(Sv::Bool(self.attribute(v, name).is_ok())),
            ("print", _) => Ok(Sv::None),
            ("ord", [Sv::Text(s)]) => Ok(Sv::int(s.chars().next().map_or(0, |c| c as i64))),
            ("list", [v]) => {
                let items = self.items(v)?;
                Ok(self.heap.list(items))
            }
            ("len", [_]) => self.call_torch(cx, "len", args, Vec::new()),
            _ => bail!(unsupported, "the function `{name}`"),
        }
    }

    /// `ops.prim.name(…)`.
    pub fn call_prim(&mut self, cx: &mut Cx<'static, '_>, name: &str, args: Vec<Sv>) -> Result<Sv> {
        Ok(match (name, &args[..]) {
            ("NumToTensor", [v]) => {
                let value = self.scalar_value(cx, v)?;
                Sv::Tensor(cx.new_tensor(value))
            }
            ("RaiseException", rest) => {
                let message = rest.first().map(|v| self.show(v)).unwrap_or_default();
                self.raised = Some(message.clone());
                bail!(invalid, "the model raises: {message}")
            }
            ("data" | "unchecked_unwrap_optional" | "unchecked_cast", [v, ..]) => v.clone(),
            ("dtype", [Sv::Tensor(id)]) => {
                let v = cx.read(*id)?;
                let d = cx.dtype(v)?;
                Sv::int(c10_of_dtype(d).ok_or_else(|| Error::unsupported(format!("the element type {d}")))?)
            }
            ("device", [_]) => Sv::Device("cpu".into()),
            ("type", [Sv::Device(d)]) => Sv::Text(d.split(':').next().unwrap_or_default().into()),
            ("index", [Sv::Device(_)]) => Sv::None,
            ("layout", [_]) => Sv::int(0),
            ("shape", [v]) => self.call_torch(cx, "size", vec![v.clone()], Vec::new())?,
            ("ndim", [v]) => self.call_torch(cx, "dim", vec![v.clone()], Vec::new())?,
            ("requires_grad", [_]) => Sv::Bool(true),
            ("grad", [_]) => Sv::None,
            (
                "is_cuda" | "is_sparse" | "is_mkldnn" | "is_quantized" | "is_nested" | "is_meta" | "is_mps" | "is_xpu"
                | "is_xla" | "is_maia" | "is_vulkan" | "is_ipu" | "is_ort" | "is_hpu" | "is_sparse_csr" | "is_tracing"
                | "is_leaf" | "is_inference",
                _,
            ) => Sv::Bool(name == "is_leaf"),
            ("is_scripting", _) => Sv::Bool(true),
            ("min" | "max", [list]) => {
                let items = self.items(list)?;
                let Some((first, rest)) = items.split_first() else { bail!(invalid, "{name} of an empty list") };
                let mut best = first.clone();
                for v in rest {
                    best = self.arithmetic(cx, name, &best, v)?;
                }
                best
            }
            ("min" | "max", [a, b]) => self.arithmetic(cx, name, a, b)?,
            ("abs", [v]) if is_number(v) => {
                self.unary(cx, "abs", v)?.ok_or_else(|| Error::unsupported("abs of this number"))?
            }
            ("name" | "value", [v]) => v.clone(),
            ("TupleIndex", [t, i]) => self.item(cx, t, i)?,
            ("rangelist", [n]) => {
                let n = self.const_int(n)?.clamp(0, 1 << 20);
                self.heap.list((0..n).map(Sv::int).collect())
            }
            ("AutogradZero" | "AutogradAnyNonZero", _) => bail!(unsupported, "gradients"),
            _ => match args.first() {
                Some(Sv::Tensor(_)) => self.call_torch(cx, name, args, Vec::new())?,
                _ => bail!(unsupported, "prim.{name}"),
            },
        })
    }

    /// `torch.name(…)`.
    pub fn call_torch(
        &mut self,
        cx: &mut Cx<'static, '_>,
        name: &str,
        mut args: Vec<Sv>,
        named: Vec<(Rc<str>, Sv)>,
    ) -> Result<Sv> {
        if let Some(v) = self.builtin(cx, name, &args, &named)? {
            return Ok(v);
        }
        // Backend switches follow the arguments of `convolution`.
        let name = match name {
            "_convolution" => {
                args.truncate(9);
                "convolution"
            }
            // The padding is a word.
            "_convolution_mode" => match args.get(1) {
                Some(Sv::Tensor(w)) => {
                    let w = cx.read(*w)?;
                    ["conv1d", "conv2d", "conv3d"][cx.rank(w)?.clamp(3, 5) - 3]
                }
                _ => "conv2d",
            },
            // Legacy spellings.
            "__and__" | "__or__" | "__xor__" if matches!(args.first(), Some(Sv::Tensor(_))) => match name {
                "__and__" => "bitwise_and",
                "__or__" => "bitwise_or",
                _ => "bitwise_xor",
            },
            "__iand__" => "bitwise_and_",
            "__ior__" => "bitwise_or_",
            "tensor_float" | "tensor_int" => "tensor",
            other => other,
        };
        self.call_operator(cx, "aten", name, &args, &named)
    }

    fn builtin(
        &mut self,
        cx: &mut Cx<'static, '_>,
        name: &str,
        args: &[Sv],
        named: &[(Rc<str>, Sv)],
    ) -> Result<Option<Sv>> {
        let given =
            |i: usize, key: &str| args.get(i).or_else(|| named.iter().find(|(n, _)| &**n == key).map(|(_, v)| v));
        Ok(Some(match (name, args) {
            // tensors
            ("size", [Sv::Tensor(id)]) => {
                let v = cx.read(*id)?;
                let mut dims = cx.dims(v)?;
                if cx.is_complex(v) {
                    dims.pop();
                }
                dims.iter().for_each(|d| is_size(cx, d));
                self.heap.list(dims.into_iter().map(Sv::Int).collect())
            }
            ("size", [Sv::Tensor(id), axis]) => {
                let v = cx.read(*id)?;
                let axis = cx.axis(v, self.const_int(axis)?)?;
                let d = cx.size(v, axis)?;
                is_size(cx, &d);
                Sv::Int(d)
            }
            ("dim" | "ndimension", [Sv::Tensor(id)]) => {
                let v = cx.read(*id)?;
                Sv::int((cx.rank(v)? - cx.is_complex(v) as usize) as i64)
            }
            ("numel", [Sv::Tensor(id)]) => {
                let v = cx.read(*id)?;
                Sv::Int(cx.dims(v)?.into_iter().product())
            }
            ("len", [Sv::Tensor(id)]) => {
                let v = cx.read(*id)?;
                Sv::Int(cx.size(v, 0)?)
            }
            ("stride", [Sv::Tensor(id)]) => {
                let v = cx.read(*id)?;
                let dims = cx.dims(v)?;
                let strides = (0..dims.len()).map(|i| Sv::Int(dims[i + 1..].iter().cloned().product()));
                let strides = strides.collect();
                self.heap.list(strides)
            }
            ("stride", [Sv::Tensor(id), axis]) => {
                let v = cx.read(*id)?;
                let axis = cx.axis(v, self.const_int(axis)?)?;
                Sv::Int(cx.dims(v)?[axis + 1..].iter().cloned().product())
            }
            ("storage_offset", [Sv::Tensor(_)]) => Sv::int(0),
            ("is_contiguous", [Sv::Tensor(_), ..]) => Sv::Bool(true),
            ("is_floating_point", [Sv::Tensor(id)]) => {
                let v = cx.read(*id)?;
                Sv::Bool(cx.dtype(v)?.is_float() && !cx.is_complex(v))
            }
            ("is_complex", [Sv::Tensor(id)]) => {
                let v = cx.read(*id)?;
                Sv::Bool(cx.is_complex(v))
            }
            ("is_signed", [Sv::Tensor(id)]) => {
                let v = cx.read(*id)?;
                Sv::Bool(!matches!(cx.dtype(v)?, DType::U8 | DType::Bool))
            }
            ("get_device", [_]) => Sv::int(-1),
            ("item" | "ScalarImplicit", [v]) => self.convert(cx, "item", v)?,
            ("IntImplicit" | "Int", [v]) => self.convert(cx, "int", v)?,
            ("FloatImplicit" | "Float", [v]) => self.convert(cx, "float", v)?,
            ("Bool" | "is_nonzero", [v]) => self.convert(cx, "bool", v)?,
            ("tensor" | "as_tensor", [v, ..]) => {
                let dtype = match given(1, "dtype") {
                    Some(Sv::Int(d)) => d.as_const().and_then(dtype_of_c10),
                    _ => None,
                };
                self.tensor(cx, v, dtype)?
            }
            ("is_grad_enabled", _) => Sv::Bool(true),
            ("is_autocast_enabled" | "is_autocast_cpu_enabled" | "is_tracing" | "has_torch_function", _) => {
                Sv::Bool(false)
            }
            ("is_scripting", _) => Sv::Bool(true),
            ("set_grad_enabled" | "warn" | "manual_seed" | "backward", _) => Sv::None,
            ("_assert", [Sv::Bool(true), ..]) => Sv::None,
            ("_assert", [v, rest @ ..]) => {
                let message = rest.first().map(|v| self.show(v)).unwrap_or_default();
                let condition = match v {
                    Sv::Tensor(id) => cx.read(*id)?,
                    v => self.scalar_value(cx, v)?,
                };
                crate::aten::assertions::check(cx, condition, &message)?;
                Sv::None
            }
            ("device", [Sv::Text(s), ..]) => Sv::Device(s.clone()),
            ("requires_grad_" | "retain_grad", [v, ..]) => v.clone(),
            ("result_type", [a, b]) => {
                let mut of = |v: &Sv| -> Result<DType> {
                    let v = self.scalar_value(cx, v).or_else(|_| match v {
                        Sv::Tensor(id) => cx.read(*id),
                        _ => Err(Error::invalid("result_type of other than numbers and tensors")),
                    })?;
                    cx.dtype(v)
                };
                let (x, y) = (of(a)?, of(b)?);
                let d = crate::promote::promote(x, y);
                Sv::int(c10_of_dtype(d).ok_or_else(|| Error::unsupported(format!("the element type {d}")))?)
            }
            // containers
            ("len", [Sv::List(r)]) => match self.heap.get(*r).clone() {
                Cell::Sequence(seq) => {
                    let n = cx.call("SequenceLength", &[seq])?;
                    self.number_of(cx, n)?
                }
                Cell::List(items) => Sv::int(items.len() as i64),
                _ => bail!(bug, "a list that is none"),
            },
            ("len", [v @ (Sv::Tuple(_) | Sv::Dict(_) | Sv::NamedTuple(..))]) => Sv::int(self.items(v)?.len() as i64),
            ("append", [Sv::List(r), v]) => {
                if let Cell::Sequence(seq) = *self.heap.get(*r) {
                    let Sv::Tensor(id) = v else { bail!(unsupported, "a {} in a list at run time", v.kind()) };
                    let v = cx.read(*id)?;
                    let longer = cx.call("SequenceInsert", &[seq, v])?;
                    *self.heap.get_mut(*r) = Cell::Sequence(longer);
                } else {
                    self.list_mut(*r)?.push(v.clone());
                }
                args[0].clone()
            }
            ("extend", [Sv::List(r), more]) => {
                let more = self.items(more)?;
                self.list_mut(*r)?.extend(more);
                Sv::None
            }
            ("insert", [Sv::List(r), at, v]) => {
                let at = self.const_int(at)?;
                let list = self.list_mut(*r)?;
                let n = list.len() as i64;
                list.insert(if at < 0 { at + n } else { at }.clamp(0, n) as usize, v.clone());
                Sv::None
            }
            ("pop", [Sv::List(r), rest @ ..]) => {
                let n = self.items(&args[0])?.len();
                let at = self.place_of(rest.first().unwrap_or(&Sv::int(-1)), n)?;
                self.list_mut(*r)?.remove(at)
            }
            ("Delete", [Sv::List(r), at]) => {
                let n = self.items(&args[0])?.len();
                let at = self.place_of(at, n)?;
                self.list_mut(*r)?.remove(at);
                Sv::None
            }
            ("clear", [Sv::List(r)]) => {
                self.list_mut(*r)?.clear();
                Sv::None
            }
            ("reverse", [Sv::List(r)]) => {
                self.list_mut(*r)?.reverse();
                Sv::None
            }
            ("copy" | "list", [v @ (Sv::List(_) | Sv::Tuple(_) | Sv::Dict(_))])
                if !(name == "copy" && matches!(v, Sv::Dict(_))) =>
            {
                let items = self.items(v)?;
                self.heap.list(items)
            }
            ("remove", [Sv::List(r), v]) => {
                let items = self.items(&args[0])?;
                let Some(at) = items.iter().position(|i| same(i, v)) else {
                    bail!(invalid, "a list lacks what it should lose")
                };
                self.list_mut(*r)?.remove(at);
                Sv::None
            }
            ("index", [l @ Sv::List(_), v]) if !matches!(v, Sv::List(_)) => {
                let at = self.items(l)?.iter().position(|i| same(i, v));
                Sv::int(at.ok_or_else(|| Error::invalid("a list lacks the element that is looked for"))? as i64)
            }
            ("count", [l @ Sv::List(_), v]) => Sv::int(self.items(l)?.iter().filter(|i| same(i, v)).count() as i64),
            ("sort" | "sorted", [l @ Sv::List(r), rest @ ..]) => {
                let mut items = self.items(l)?;
                let keys: Option<Vec<f64>> = items.iter().map(known).collect();
                let Some(_) = keys else {
                    if !items.iter().all(|i| matches!(i, Sv::Text(_))) {
                        bail!(unsupported, "a sort of values that are known at run time only");
                    }
                    items.sort_by_key(|i| self.show(i));
                    return Ok(Some(self.heap.list(items)));
                };
                items.sort_by(|a, b| known(a).unwrap_or(0.0).total_cmp(&known(b).unwrap_or(0.0)));
                if matches!(rest.first(), Some(Sv::Bool(true))) {
                    items.reverse();
                }
                if name == "sorted" {
                    self.heap.list(items)
                } else {
                    *self.list_mut(*r)? = items;
                    Sv::None
                }
            }
            ("slice", [l @ (Sv::List(_) | Sv::Tuple(_)), rest @ ..]) => {
                let items = self.items(l)?;
                let part = self.slice_items(&items, rest)?;
                if matches!(l, Sv::Tuple(_)) { Sv::Tuple(Rc::new(part)) } else { self.heap.list(part) }
            }
            ("select" | "__getitem__", [l @ (Sv::List(_) | Sv::Tuple(_) | Sv::Dict(_) | Sv::Text(_)), i]) => {
                self.item(cx, l, i)?
            }
            ("_set_item", [l, i, v]) => {
                self.set_item(l, i, v.clone())?;
                Sv::None
            }
            ("dict", []) => Sv::Dict(self.heap.add(Cell::Dict(Vec::new()))),
            ("dict" | "copy", [Sv::Dict(r)]) => {
                let cell = self.heap.get(*r).clone();
                Sv::Dict(self.heap.add(cell))
            }
            ("dict", [l @ Sv::List(_)]) => {
                let mut pairs = Vec::new();
                for item in self.items(l)? {
                    match &self.items(&item)?[..] {
                        [k, v] => pairs.push((k.clone(), v.clone())),
                        _ => bail!(invalid, "a dict of something other than pairs"),
                    }
                }
                Sv::Dict(self.heap.add(Cell::Dict(pairs)))
            }
            (
                "keys" | "values" | "items" | "get" | "update" | "setdefault" | "pop" | "clear" | "Delete",
                [Sv::Dict(r), rest @ ..],
            ) => {
                return self.on_dict(name, *r, rest).map(Some);
            }
            ("__contains__", [Sv::Text(s), _]) => return self.on_text(name, &s.clone(), &args[1..]),
            ("__contains__", [l, v]) => {
                let items = self.items(l)?;
                if items.iter().any(|i| same(i, v)) {
                    Sv::Bool(true)
                } else {
                    let mut any = Sv::Bool(false);
                    for i in items.iter().filter(|i| is_number(i) && is_number(v)) {
                        let equal = self.compare(cx, "eq", i, v)?;
                        any = self.either(cx, any, equal)?;
                    }
                    any
                }
            }
            ("__range_length", [lo, hi, step]) => {
                let (lo, hi, step) = (self.int(lo)?, self.int(hi)?, self.const_int(step)?);
                match step {
                    0 => bail!(invalid, "a range with step 0"),
                    s if s > 0 => Sv::Int((hi - lo).ceil_div(&Dim::Const(s)).at_least(&Dim::Const(0))),
                    s => Sv::Int((lo - hi).ceil_div(&Dim::Const(-s)).at_least(&Dim::Const(0))),
                }
            }
            ("__derive_index", [i, start, step]) => Sv::Int(self.int(start)? + self.int(i)? * self.int(step)?),
            // identity, logic
            ("__is__" | "__isnot__", [a, b]) => {
                let equal = match (a, b) {
                    (Sv::None, Sv::None) => true,
                    (Sv::None, _) | (_, Sv::None) => false,
                    (a, b) => same(a, b),
                };
                Sv::Bool(equal == (name == "__is__"))
            }
            ("__not__", [v]) => match self.truth(cx, v)? {
                Truth::Known(t) => Sv::Bool(!t),
                Truth::AtRunTime(c) => Sv::Scalar(cx.call("Not", &[c])?),
            },
            (
                "__and__" | "__or__" | "__xor__",
                [a @ (Sv::Bool(_) | Sv::Scalar(_)), b @ (Sv::Bool(_) | Sv::Scalar(_))],
            ) => match (name, a, b) {
                ("__and__", Sv::Bool(x), Sv::Bool(y)) => Sv::Bool(*x && *y),
                ("__or__", Sv::Bool(x), Sv::Bool(y)) => Sv::Bool(*x || *y),
                ("__xor__", Sv::Bool(x), Sv::Bool(y)) => Sv::Bool(x != y),
                ("__or__", x, y) => self.either(cx, x.clone(), y.clone())?,
                ("__and__", Sv::Bool(t), other) | ("__and__", other, Sv::Bool(t)) => {
                    if *t {
                        other.clone()
                    } else {
                        Sv::Bool(false)
                    }
                }
                _ => self.arithmetic(cx, name, a, b)?,
            },
            ("eq" | "ne", [a, b]) if !matches!((a, b), (Sv::Tensor(_), _) | (_, Sv::Tensor(_))) => {
                if is_number(a) && is_number(b) {
                    return self.compare(cx, name, a, b).map(Some);
                }
                let equal = self.equal(cx, a, b)?;
                match (name, equal) {
                    ("eq", v) => v,
                    (_, Sv::Bool(t)) => Sv::Bool(!t),
                    (_, Sv::Scalar(v)) => Sv::Scalar(cx.call("Not", &[v])?),
                    (_, other) => other,
                }
            }
            ("lt" | "le" | "gt" | "ge", [a, b]) if is_number(a) && is_number(b) => self.compare(cx, name, a, b)?,
            (
                "add" | "sub" | "mul" | "div" | "truediv" | "floordiv" | "remainder" | "fmod" | "pow" | "__lshift__"
                | "__rshift__" | "__and__" | "__or__" | "__xor__" | "gcd" | "atan2" | "copysign",
                [a, b],
            ) if is_number(a) && is_number(b) => {
                let op = if name == "div" { "truediv" } else { name };
                // Python's true division of integers gives a float.
                if let ("truediv", Sv::Int(x), Sv::Int(y)) = (op, a, b) {
                    if let (Some(x), Some(y)) = (x.as_const(), y.as_const().filter(|y| *y != 0)) {
                        return Ok(Some(Sv::Float(x as f64 / y as f64)));
                    }
                }
                self.arithmetic(cx, op, a, b)?
            }
            ("add", [a @ Sv::List(_), b @ Sv::List(_)]) => {
                let mut all = self.items(a)?;
                all.extend(self.items(b)?);
                self.heap.list(all)
            }
            ("add_", [a @ Sv::List(r), b @ Sv::List(_)]) => {
                let more = self.items(b)?;
                self.list_mut(*r)?.extend(more);
                a.clone()
            }
            ("add", [a @ Sv::Tuple(_), b @ Sv::Tuple(_)]) => {
                let mut all = self.items(a)?;
                all.extend(self.items(b)?);
                Sv::Tuple(Rc::new(all))
            }
            ("mul", [l @ Sv::List(_), n @ Sv::Int(_)]) | ("mul", [n @ Sv::Int(_), l @ Sv::List(_)]) => {
                let (items, n) = (self.items(l)?, self.const_int(n)?.clamp(0, 1 << 20) as usize);
                let all = items.iter().cycle().take(items.len() * n).cloned().collect();
                self.heap.list(all)
            }
            ("sum", [l @ Sv::List(_)]) => {
                let mut total = Sv::int(0);
                for v in self.items(l)? {
                    total = self.arithmetic(cx, "add", &total, &v)?;
                }
                total
            }
            ("all" | "any", [l @ Sv::List(_)]) => {
                let mut out = Sv::Bool(name == "all");
                for v in self.items(l)? {
                    out = match (name, &out, &v) {
                        ("any", _, _) => self.either(cx, out, v)?,
                        (_, Sv::Bool(a), Sv::Bool(b)) => Sv::Bool(*a && *b),
                        (_, a, b) => self.arithmetic(cx, "__and__", &a.clone(), b)?,
                    };
                }
                out
            }
            // text
            ("format", _) => Sv::Text(self.format(args)?.into()),
            ("str", [v]) => Sv::Text(self.show(v).into()),
            ("percentFormat", _) => Sv::Text(args.first().map(|v| self.show(v)).unwrap_or_default().into()),
            (_, [Sv::Text(s), rest @ ..]) => return self.on_text(name, &s.clone(), rest),
            (_, [v]) if is_number(v) => return self.unary(cx, name, v),
            _ => return Ok(None),
        }))
    }
}
