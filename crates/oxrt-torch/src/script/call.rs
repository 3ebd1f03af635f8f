//! Calls of ATen operators: arguments from script values, results back.

use super::interp::Interp;
use super::meta;
use super::overload::{Param, Schema, known, resolve};
use super::value::{Cell, Sv};
use crate::alias::{Index, Shown, TensorId, View};
use crate::args::{Arg, Args};
use crate::aten::table::{Rule, find_complex};
use crate::cx::{Cx, Val};
use crate::lower::rule_of;
use oxrt_ir::{Attrs, Dim, ValueId};
use oxrt_tensor::{DType, Error, Result, bail};
use std::rc::Rc;

/// Element types by the numbers of c10, which the code of a script uses.
pub(crate) fn dtype_of_c10(n: i64) -> Option<DType> {
    Some(match n {
        0 => DType::U8,
        1 => DType::I8,
        2 => DType::I16,
        3 => DType::I32,
        4 => DType::I64,
        5 => DType::F16,
        6 => DType::F32,
        7 => DType::F64,
        9 => DType::C64,
        10 => DType::C128,
        11 => DType::Bool,
        15 => DType::BF16,
        _ => return None,
    })
}

pub(crate) fn c10_of_dtype(d: DType) -> Option<i64> {
    (0..16).find(|&n| dtype_of_c10(n) == Some(d))
}

const NAMES: [&str; 32] = [
    "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "17", "18", "19", "20",
    "21", "22", "23", "24", "25", "26", "27", "28", "29", "30", "31",
];

/// Results that operators on complex numbers give as real ones.
fn gives_real(target: &str) -> bool {
    let name = target.split('.').nth(1).unwrap_or_default();
    matches!(name, "abs" | "angle" | "real" | "imag" | "view_as_real" | "fft_irfft" | "_fft_c2r" | "fft_hfft")
}

/// Operators on real tensors that give complex ones.
fn gives_complex(target: &str) -> bool {
    let name = target.split('.').nth(1).unwrap_or_default();
    name.starts_with("fft_") && !gives_real(target) && !name.ends_with("shift")
        || matches!(name, "view_as_complex" | "complex" | "polar" | "stft" | "_fft_r2c" | "_fft_c2c")
}

impl Interp<'_> {
    /// `torch.name(…)` or `ops.space.name(…)`: an operator of the table.
    pub fn call_operator(
        &mut self,
        cx: &mut Cx<'static, '_>,
        space: &str,
        name: &str,
        args: &[Sv],
        named: &[(Rc<str>, Sv)],
    ) -> Result<Sv> {
        if let Some(v) = self.on_sequence(cx, name, args, named)? {
            return Ok(v);
        }
        let functional = name.strip_suffix('_').filter(|n| !n.is_empty() && !n.ends_with('_'));
        let base = format!("{space}.{}", functional.unwrap_or(name));
        let usable = |target: &str| rule_of(target).is_some();
        let found = resolve(&base, args, named, &self.heap, &usable);
        let Some((schema, bound)) = found else {
            let kinds: Vec<&str> = args.iter().map(Sv::kind).collect();
            let known = if known(&base) { " with these arguments" } else { "" };
            bail!(unsupported, "{base}({}) has no lowering{known}", kinds.join(", "))
        };
        let mut a = self.args_of(cx, schema, bound)?;
        if let Some(to) = self.autocast {
            autocast(cx, &mut a, to)?;
        }
        let (rule, in_place) = match functional {
            Some(_) => (rule_of(schema.target).map(|r| r.0), true),
            None => (rule_of(schema.target).map(|r| r.0), false),
        };
        let mut rule = rule.ok_or_else(|| Error::bug("a rule that went away"))?;
        let complex = a.tensors().iter().any(|&v| cx.is_complex(v));
        if complex && !matches!(rule, Rule::Vals(_)) {
            rule = find_complex(schema.target)
                .ok_or_else(|| Error::unsupported(format!("{} of complex tensors", schema.target)))?;
        }
        let marks = complex && !gives_real(schema.target) || gives_complex(schema.target);
        (a.out_dtype, a.out_dims) = meta::result_type(cx, &a)?;
        if in_place {
            return self.write_in_place(cx, a, rule);
        }
        let base_name = schema.target.split('.').nth(1).unwrap_or_default();
        if let Some(views) = self.pieces(cx, &a, base_name)? {
            return self.views(cx, &a, views);
        }
        let mut values = match rule {
            Rule::Skip => return Ok(Sv::None),
            Rule::One(f) => vec![f(cx, &a)?],
            Rule::Many(f) => f(cx, &a)?,
            Rule::View(f) => match f(cx, &a)? {
                Shown::View(view) if self.copies(cx, &a, base_name) => {
                    let (_, v) = base_of(&a)?;
                    vec![view.apply(cx, v)?]
                }
                Shown::View(view) => {
                    let (id, v) = base_of(&a)?;
                    let value = view.apply(cx, v)?;
                    if marks {
                        cx.complex.insert(value);
                    }
                    return Ok(Sv::Tensor(cx.new_view(id, view, value)?));
                }
                Shown::Copy(v) => vec![v],
            },
            Rule::Views(f) => {
                let views = f(cx, &a)?;
                return self.views(cx, &a, views);
            }
            Rule::Vals(f) => {
                let vals = f(cx, &a)?;
                let vals = vals.into_iter().map(|v| self.script_value(v)).collect::<Result<Vec<_>>>()?;
                return self.returned(schema, vals);
            }
        };
        if marks {
            cx.complex.extend(values.iter().copied());
        }
        let listed = schema.returns.first().is_some_and(|r| r.starts_with("Tensor[]"));
        if !listed {
            values.truncate(schema.returns.len().max(1));
        }
        let tensors = values.into_iter().map(|v| Sv::Tensor(cx.new_tensor(v))).collect();
        self.returned(schema, tensors)
    }

    fn returned(&mut self, schema: &Schema, mut values: Vec<Sv>) -> Result<Sv> {
        if schema.returns.first().is_some_and(|r| r.starts_with("Tensor[]")) {
            return Ok(self.heap.list(values));
        }
        if schema.returns.len() <= 1 {
            return values.pop().ok_or_else(|| Error::bug("an operator without result"));
        }
        // Results that the lowering left out are not there to be read.
        values.resize(schema.returns.len(), Sv::Uninit);
        Ok(Sv::Tuple(Rc::new(values)))
    }

    fn views(&mut self, cx: &mut Cx<'static, '_>, a: &Args<'static>, views: Vec<View>) -> Result<Sv> {
        let (id, base) = base_of(a)?;
        let values = match crate::aten::shape::split_at_once(cx, base, &views)? {
            Some(values) => values,
            None => views.iter().map(|v| v.apply(cx, base)).collect::<Result<Vec<_>>>()?,
        };
        let mut out = Vec::new();
        for (view, v) in views.into_iter().zip(values) {
            out.push(Sv::Tensor(cx.new_view(id, view, v)?));
        }
        Ok(self.heap.list(out))
    }

    /// The views of an operator that cuts a tensor up, whose pieces an exported program states.
    fn pieces(&mut self, cx: &mut Cx<'static, '_>, a: &Args<'static>, name: &str) -> Result<Option<Vec<View>>> {
        let split = matches!(
            name,
            "split"
                | "unsafe_split"
                | "split_with_sizes"
                | "unsafe_split_with_sizes"
                | "chunk"
                | "unsafe_chunk"
                | "tensor_split"
                | "unbind"
        );
        if !split {
            return Ok(None);
        }
        let (_, x) = base_of(a)?;
        let axis = cx.axis(x, a.int("dim")?)?;
        let n = cx.size(x, axis)?;
        if name == "unbind" {
            let count = n.as_const().filter(|c| (0..=10_000).contains(c));
            let Some(count) = count else { bail!(unsupported, "unbind of the dynamic size `{n}`") };
            let at = |i| View::Select { axis, index: Index::Size(Dim::Const(i)) };
            return Ok(Some((0..count).map(at).collect()));
        }
        let cuts = |sizes: Vec<Dim>| {
            let mut start = Dim::Const(0);
            let view = |size: Dim| {
                let end = start.clone() + size;
                let from = std::mem::replace(&mut start, end.clone());
                View::Slice { axis, start: from, end, step: 1 }
            };
            Some(sizes.into_iter().map(view).collect::<Vec<View>>())
        };
        let sizes = ["split_size", "split_sizes"].into_iter().find(|s| a.has(s));
        if let Some(sizes) = sizes {
            let list = a.dim_list(sizes)?;
            let whole =
                matches!(a.get(sizes), Some(Arg::List(_))) || matches!(a.get(sizes), Some(Arg::Other(Val::List(_))));
            if whole {
                return Ok(cuts(list));
            }
            let (Some(n), Some(step)) = (n.as_const(), list.first().and_then(Dim::as_const).filter(|s| *s > 0)) else {
                bail!(unsupported, "a split of the dynamic size `{n}`")
            };
            return Ok(cuts((0..n.max(1)).step_by(step as usize).map(|at| Dim::Const(step.min(n - at))).collect()));
        }
        if a.has("indices") {
            let mut places = a.dim_list("indices")?;
            places.insert(0, Dim::Const(0));
            places.push(n);
            return Ok(cuts(places.windows(2).map(|p| p[1].clone() - p[0].clone()).collect()));
        }
        let parts = a.int(if a.has("chunks") { "chunks" } else { "sections" })?;
        if parts <= 0 {
            bail!(invalid, "{name} into {parts} parts");
        }
        let Some(n) = n.as_const() else {
            let step = n.divide_exactly(&Dim::Const(parts));
            let Some(step) = step else { bail!(unsupported, "{name} of the dynamic size `{n}` into {parts}") };
            return Ok(cuts(vec![step; parts as usize]));
        };
        if name == "tensor_split" {
            return Ok(cuts((0..parts).map(|i| Dim::Const(n / parts + (i < n % parts) as i64)).collect()));
        }
        let step = ((n + parts - 1) / parts).max(1);
        Ok(cuts((0..n.max(1)).step_by(step as usize).map(|at| Dim::Const(step.min(n - at))).collect()))
    }

    /// Whether torch copies here: `contiguous` and `reshape` of a view that is not laid out row by row.
    fn copies(&self, cx: &Cx, a: &Args, name: &str) -> bool {
        let copying = ["contiguous", "reshape", "flatten", "reshape_as", "ravel"];
        if !copying.contains(&name) {
            return false;
        }
        let Ok((mut id, _)) = base_of(a) else { return false };
        while let Some((parent, view)) = &cx.slots[id.0 as usize].parent {
            if !matches!(**view, View::Same | View::Reshape(_)) {
                return true;
            }
            id = *parent;
        }
        false
    }

    /// `x.op_(…)`: the result of `op`, with type and shape of `x`, replaces `x` wherever it is seen.
    fn write_in_place(&mut self, cx: &mut Cx<'static, '_>, a: Args<'static>, rule: Rule) -> Result<Sv> {
        let (id, old) = base_of(&a)?;
        let v = match rule {
            Rule::Skip => return Ok(Sv::Tensor(id)),
            Rule::One(f) => f(cx, &a)?,
            Rule::Many(f) => *f(cx, &a)?.first().ok_or_else(|| Error::bug("no result"))?,
            Rule::View(f) => match f(cx, &a)? {
                Shown::View(View::Same) => return Ok(Sv::Tensor(id)),
                Shown::View(view) => {
                    let value = view.apply(cx, old)?;
                    return Ok(Sv::Tensor(cx.new_view(id, view, value)?));
                }
                Shown::Copy(v) => v,
            },
            _ => bail!(unsupported, "{} in place", a.target),
        };
        let (dtype, dims) = (cx.dtype(old)?, cx.dims(old)?);
        let v = cx.cast(v, dtype)?;
        let v = cx.expand(v, &dims)?;
        cx.write(id, v)?;
        Ok(Sv::Tensor(id))
    }

    /// Operators that take a list whose length is known at run time only.
    fn on_sequence(
        &mut self,
        cx: &mut Cx<'static, '_>,
        name: &str,
        args: &[Sv],
        named: &[(Rc<str>, Sv)],
    ) -> Result<Option<Sv>> {
        let Some(Sv::List(r)) = args.first() else { return Ok(None) };
        let Cell::Sequence(seq) = *self.heap.get(*r) else { return Ok(None) };
        let new_axis = match name {
            "cat" | "concat" | "concatenate" => 0,
            "stack" => 1,
            _ => return Ok(None),
        };
        let axis = args.get(1).or_else(|| named.iter().find(|(n, _)| &**n == "dim").map(|(_, v)| v));
        let axis = match axis {
            Some(Sv::Int(d)) => d.as_const().ok_or_else(|| Error::unsupported("a dynamic axis"))?,
            _ => 0,
        };
        let v = cx.op("ConcatFromSequence", &[seq], Attrs::new().with("axis", axis).with("new_axis", new_axis))?;
        Ok(Some(Sv::Tensor(cx.new_tensor(v))))
    }

    // ---- values and arguments ----

    fn args_of(
        &mut self,
        cx: &mut Cx<'static, '_>,
        schema: &'static Schema,
        bound: Vec<Option<Sv>>,
    ) -> Result<Args<'static>> {
        let mut named = Vec::new();
        for (p, v) in schema.params.iter().zip(bound) {
            let Some(v) = v else { continue };
            let arg = self.arg(cx, p, v).map_err(|e| e.at(format!("the argument `{}`", p.name)))?;
            named.push((p.name, arg));
        }
        let outputs = NAMES[..schema.returns.len().clamp(1, NAMES.len())].to_vec();
        Ok(Args { target: schema.target, first_name: None, named, outputs, out_dtype: None, out_dims: None })
    }

    fn arg(&mut self, cx: &mut Cx<'static, '_>, p: &Param, v: Sv) -> Result<Arg<'static>> {
        let ty = p.ty.trim_end_matches('?');
        match (ty, &v) {
            ("ScalarType", Sv::Int(d)) => return self.dtype_arg(d),
            ("Device" | "Layout" | "MemoryFormat" | "Generator", _) => return Ok(Arg::Other(Val::None)),
            ("int", Sv::Int(d)) if p.name == "dtype" => return self.dtype_arg(d),
            // Numbers of traced code are tensors of rank 0.
            ("Scalar", Sv::Tensor(_)) | ("int" | "SymInt", Sv::Tensor(_) | Sv::Scalar(_)) => {
                let to = if ty == "Scalar" { "item" } else { "int" };
                let number = self.convert(cx, to, &v)?;
                return self.argument(cx, number);
            }
            _ => {}
        }
        self.argument(cx, v)
    }

    fn dtype_arg(&self, d: &Dim) -> Result<Arg<'static>> {
        let dtype = d.as_const().and_then(dtype_of_c10);
        dtype.map(|d| Arg::Other(Val::DType(d))).ok_or_else(|| Error::unsupported(format!("element type number {d}")))
    }

    pub fn argument(&mut self, cx: &mut Cx<'static, '_>, v: Sv) -> Result<Arg<'static>> {
        Ok(match v {
            Sv::Tensor(id) => Arg::Tensor(id, cx.read(id)?),
            Sv::None => Arg::Other(Val::None),
            Sv::Int(d) => Arg::Other(Val::Int(d)),
            Sv::Float(x) => Arg::Other(Val::Float(x)),
            Sv::SymFloat(r) => Arg::Other(Val::SymFloat(r)),
            Sv::Bool(b) => Arg::Other(Val::Bool(b)),
            Sv::Scalar(v) => Arg::Other(Val::Runtime(v)),
            Sv::Complex(re, im) => Arg::Other(Val::Complex(re, im)),
            Sv::Text(s) => Arg::Other(Val::Text(s.to_string())),
            Sv::Device(_) => Arg::Other(Val::None),
            Sv::Tuple(items) => Arg::List(items.iter().map(|i| self.argument(cx, i.clone())).collect::<Result<_>>()?),
            Sv::List(r) => match self.heap.get(r).clone() {
                Cell::List(items) => Arg::List(items.into_iter().map(|i| self.argument(cx, i)).collect::<Result<_>>()?),
                _ => bail!(unsupported, "a list of unknown length"),
            },
            other => bail!(unsupported, "an argument of the kind {}", other.kind()),
        })
    }

    fn script_value(&mut self, v: Val<'static>) -> Result<Sv> {
        Ok(match v {
            Val::Tensor(id) => Sv::Tensor(id),
            Val::Int(d) => Sv::Int(d),
            Val::Float(x) => Sv::Float(x),
            Val::SymFloat(r) => Sv::SymFloat(r),
            Val::Bool(b) => Sv::Bool(b),
            Val::Runtime(v) => Sv::Scalar(v),
            Val::Complex(re, im) => Sv::Complex(re, im),
            Val::Text(s) => Sv::Text(s.into()),
            Val::None => Sv::None,
            other => bail!(unsupported, "a result of the kind {other:?}"),
        })
    }

    /// A number, or a tensor of one element, as a value of rank 0.
    pub fn scalar_value(&mut self, cx: &mut Cx<'static, '_>, v: &Sv) -> Result<ValueId> {
        match v {
            Sv::Tensor(id) => {
                let v = cx.read(*id)?;
                cx.reshape(v, &[])
            }
            Sv::Int(d) => cx.dim_scalar(d),
            Sv::Float(x) => cx.b.scalar(DType::F32, *x),
            Sv::SymFloat(r) => crate::aten::sym::ratio_value(cx, r, DType::F32),
            Sv::Bool(b) => Ok(cx.b.constant(oxrt_ir::Tensor::scalar(*b))),
            Sv::Scalar(v) => Ok(*v),
            other => bail!(unsupported, "a value of the kind {} at run time", other.kind()),
        }
    }
}

/// Operators that autocast computes in the narrow type (`ATen/autocast_mode.h`, the list that CPU and CUDA share).
const NARROW: [&str; 17] = [
    "conv1d",
    "conv2d",
    "conv3d",
    "convolution",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "bmm",
    "mm",
    "mv",
    "baddbmm",
    "addmm",
    "addbmm",
    "linear",
    "matmul",
    "scaled_dot_product_attention",
    "einsum",
];

fn autocast(cx: &mut Cx<'static, '_>, a: &mut Args<'static>, to: DType) -> Result<()> {
    if !a.target.split('.').nth(1).is_some_and(|name| NARROW.contains(&name)) {
        return Ok(());
    }
    fn narrow(cx: &mut Cx<'static, '_>, arg: &mut Arg<'static>, to: DType) -> Result<()> {
        match arg {
            Arg::Tensor(_, v) if cx.dtype(*v)? == DType::F32 => *v = cx.cast(*v, to)?,
            Arg::List(items) => items.iter_mut().try_for_each(|i| narrow(cx, i, to))?,
            _ => {}
        }
        Ok(())
    }
    a.named.iter_mut().try_for_each(|(_, arg)| narrow(cx, arg, to))
}

/// The tensor that views are taken of: the first argument.
fn base_of(a: &Args) -> Result<(TensorId, ValueId)> {
    match a.named.first() {
        Some((_, Arg::Tensor(id, v))) => Ok((*id, *v)),
        _ => bail!(invalid, "the first argument should be a tensor"),
    }
}
