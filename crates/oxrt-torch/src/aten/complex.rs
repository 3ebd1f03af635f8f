//! Arithmetic of complex tensors.
//!
//! A complex tensor is kept as a real one whose last axis holds real and imaginary part. Operators that
//! know this are listed here and in `pairs.rs` (rearrangements) and `fourier.rs`; others refuse complex arguments.

use super::formula::F;
use crate::alias::{Shown, View};
use crate::args::{Arg, Args};
use crate::cx::{Cx, Val};
use crate::promote::Operand;
use oxrt_ir::{Attrs, DType, Dim, ValueId};
use oxrt_tensor::{Error, Result, bail};

/// Real and imaginary part.
pub(crate) fn parts(cx: &mut Cx, v: ValueId) -> Result<(ValueId, ValueId)> {
    let axis = cx.rank(v)?.checked_sub(1).ok_or_else(|| Error::bug("a complex tensor without parts"))?;
    let mut part = |k: f64| -> Result<ValueId> {
        let k = cx.b.scalar(DType::I64, k)?;
        cx.op("Gather", &[v, k], Attrs::new().with("axis", axis as i64))
    };
    Ok((part(0.0)?, part(1.0)?))
}

pub(crate) fn joined(cx: &mut Cx, re: ValueId, im: ValueId) -> Result<ValueId> {
    let dims = oxrt_ops::shape::broadcast_dims(&[&cx.dims(re)?, &cx.dims(im)?])?;
    let (re, im) = (cx.expand(re, &dims)?, cx.expand(im, &dims)?);
    let (re, im) = (cx.b.unsqueeze(re, &[-1])?, cx.b.unsqueeze(im, &[-1])?);
    cx.concat(&[re, im], dims.len())
}

/// A real tensor as a complex one.
pub(crate) fn from_real(cx: &mut Cx, x: ValueId, to: DType) -> Result<ValueId> {
    let x = cx.cast(x, crate::cx::real_dtype(to))?;
    let zero = cx.like(x, 0.0)?;
    joined(cx, x, zero)
}

/// `angle(Tensor self)` of a real tensor: 0 or π
pub fn real_angle(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = crate::promote::float_arg(cx, a, "self")?;
    let (zero, pi) = (cx.like(x, 0.0)?, cx.like(x, std::f64::consts::PI)?);
    let negative = cx.call("Less", &[x, zero])?;
    let y = cx.call("Where", &[negative, pi, zero])?;
    let nan = cx.call("IsNaN", &[x])?;
    cx.call("Where", &[nan, x, y])
}

/// An operand as real and imaginary part; a real one has no imaginary part.
fn operand(cx: &mut Cx, a: &Args, name: &str, dtype: DType) -> Result<(ValueId, Option<ValueId>)> {
    let o = Operand::of(a, name)?;
    if let Operand::Tensor(v) = o {
        if cx.is_complex(v) {
            let (re, im) = parts(cx, v)?;
            return Ok((cx.cast(re, dtype)?, Some(cx.cast(im, dtype)?)));
        }
    }
    if let Operand::Scalar(crate::args::Scalar::Complex(re, im)) = o {
        return Ok((cx.b.scalar(dtype, re)?, Some(cx.b.scalar(dtype, im)?)));
    }
    Ok((crate::promote::value(cx, &o, dtype)?, None))
}

fn real_type(cx: &Cx, a: &Args) -> Result<DType> {
    let complex: Vec<ValueId> = a.tensors().into_iter().filter(|&v| cx.is_complex(v)).collect();
    // A number of rank 0 takes the type of a tensor beside it.
    let found = complex.iter().find(|&&v| cx.rank(v).is_ok_and(|r| r > 1)).or(complex.first()).copied();
    found.map_or(Ok(DType::F32), |v| cx.dtype(v))
}

/// `mul.Tensor(Tensor self, Tensor other)`
pub fn mul(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let dtype = real_type(cx, a)?;
    let ((ar, ai), (br, bi)) = (operand(cx, a, "self", dtype)?, operand(cx, a, "other", dtype)?);
    let rr = cx.call("Mul", &[ar, br])?;
    let (re, im) = match (ai, bi) {
        (Some(ai), Some(bi)) => {
            let (ii, ri, ir) = (cx.call("Mul", &[ai, bi])?, cx.call("Mul", &[ar, bi])?, cx.call("Mul", &[ai, br])?);
            (cx.call("Sub", &[rr, ii])?, cx.call("Add", &[ri, ir])?)
        }
        (Some(ai), None) => (rr, cx.call("Mul", &[ai, br])?),
        (None, Some(bi)) => (rr, cx.call("Mul", &[ar, bi])?),
        (None, None) => bail!(bug, "a complex product of real tensors"),
    };
    joined(cx, re, im)
}

/// `div.Tensor(Tensor self, Tensor other)`
pub fn div(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let dtype = real_type(cx, a)?;
    let ((ar, ai), (br, bi)) = (operand(cx, a, "self", dtype)?, operand(cx, a, "other", dtype)?);
    let Some(bi) = bi else {
        let ai = ai.ok_or_else(|| Error::bug("a complex quotient of real tensors"))?;
        let (re, im) = (cx.call("Div", &[ar, br])?, cx.call("Div", &[ai, br])?);
        return joined(cx, re, im);
    };
    let zero = cx.like(ar, 0.0)?;
    let ai = ai.unwrap_or(zero);
    let (b2, c2) = (cx.call("Mul", &[br, br])?, cx.call("Mul", &[bi, bi])?);
    let norm = cx.call("Add", &[b2, c2])?;
    let (rr, ii) = (cx.call("Mul", &[ar, br])?, cx.call("Mul", &[ai, bi])?);
    let (ir, ri) = (cx.call("Mul", &[ai, br])?, cx.call("Mul", &[ar, bi])?);
    let (re, im) = (cx.call("Add", &[rr, ii])?, cx.call("Sub", &[ir, ri])?);
    let (re, im) = (cx.call("Div", &[re, norm])?, cx.call("Div", &[im, norm])?);
    joined(cx, re, im)
}

fn sum(cx: &mut Cx, a: &Args, op: &str) -> Result<ValueId> {
    sum_of(cx, a, op, "self", "other")
}

/// `left ± alpha · right`
fn sum_of(cx: &mut Cx, a: &Args, op: &str, left: &str, right: &str) -> Result<ValueId> {
    let dtype = real_type(cx, a)?;
    let ((ar, ai), (mut br, mut bi)) = (operand(cx, a, left, dtype)?, operand(cx, a, right, dtype)?);
    let alpha = a.opt_float("alpha")?.unwrap_or(1.0);
    if alpha != 1.0 {
        let by = cx.b.scalar(dtype, alpha)?;
        br = cx.call("Mul", &[br, by])?;
        bi = bi.map(|v| cx.call("Mul", &[v, by])).transpose()?;
    }
    let re = cx.call(op, &[ar, br])?;
    let zero = cx.like(re, 0.0)?;
    let im = cx.call(op, &[ai.unwrap_or(zero), bi.unwrap_or(zero)])?;
    joined(cx, re, im)
}

/// `add.Tensor(Tensor self, Tensor other, *, Scalar alpha=1)`
pub fn add(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    sum(cx, a, "Add")
}

/// `sub.Tensor(Tensor self, Tensor other, *, Scalar alpha=1)`
pub fn sub(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    sum(cx, a, "Sub")
}

/// `rsub.Scalar(Tensor self, Scalar other, Scalar alpha=1)`, `rsub.Tensor`
pub fn rsub(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    sum_of(cx, a, "Sub", "other", "self")
}

/// `neg(Tensor self)`
pub fn neg(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    cx.call("Neg", &[a.t("self")?])
}

/// `abs(Tensor self)`
pub fn abs(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let last = cx.rank(x)? - 1;
    cx.reduce("ReduceL2", x, &[last], false)
}

/// `angle(Tensor self)`
pub fn angle(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (re, im) = parts(cx, a.t("self")?)?;
    super::elementwise::atan2_values(cx, im, re)
}

/// `exp(Tensor self)`
pub fn exp(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (re, im) = parts(cx, a.t("self")?)?;
    let size = cx.call("Exp", &[re])?;
    let (c, s) = (cx.call("Cos", &[im])?, cx.call("Sin", &[im])?);
    let (re, im) = (cx.call("Mul", &[size, c])?, cx.call("Mul", &[size, s])?);
    joined(cx, re, im)
}

/// `_conj(Tensor self)`, `conj`, `conj_physical`
pub fn conj(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (re, im) = parts(cx, a.t("self")?)?;
    let im = cx.call("Neg", &[im])?;
    joined(cx, re, im)
}

/// `clone(Tensor self)`, `_to_copy`
pub fn copy(_: &mut Cx, a: &Args) -> Result<ValueId> {
    a.t("self")
}

/// `view`, `reshape`, `flatten`, `unsqueeze`, `squeeze`
pub fn reshape(_: &mut Cx, a: &Args) -> Result<Shown> {
    let mut dims = a.out_dims()?;
    dims.push(Dim::Const(2));
    Ok(View::Reshape(dims).into())
}

/// `numpy_T(Tensor self)`: all axes reversed
pub fn reverse_axes(cx: &mut Cx, a: &Args) -> Result<Shown> {
    let last = cx.rank(a.t("self")?)? - 1;
    Ok(View::Permute((0..last).rev().chain([last]).collect()).into())
}

/// `mH(Tensor self)`, `adjoint`, `matrix_H`: the conjugate of the transpose
pub fn adjoint(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let v = conj(cx, a)?;
    let rank = cx.rank(v)?;
    if rank < 3 {
        return Ok(v);
    }
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(rank - 2, rank - 3);
    cx.b.transpose(v, &perm)
}

/// `matmul(Tensor self, Tensor other)`, `mm`, `bmm`
pub fn matmul(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let dtype = real_type(cx, a)?;
    let other = if a.has("other") { "other" } else { "mat2" };
    let ((ar, ai), (br, bi)) = (operand(cx, a, "self", dtype)?, operand(cx, a, other, dtype)?);
    multilinear(cx, &[(ar, ai), (br, bi)], |cx, v| cx.call("MatMul", v))
}

/// `expand(Tensor self, SymInt[] size)`, `expand_as(Tensor self, Tensor other)`, where `self` may be real
pub fn expand(cx: &mut Cx, a: &Args) -> Result<Shown> {
    let mut dims = a.out_dims()?;
    if cx.is_complex(a.t("self")?) {
        dims.push(Dim::Const(2));
    }
    Ok(View::Expand(dims).into())
}

/// The axis of the complex tensor, which has one axis less than what holds it.
pub(crate) fn axis_of(cx: &Cx, v: ValueId, axis: i64) -> Result<usize> {
    oxrt_ops::shape::axis(axis, cx.rank(v)? - 1)
}

/// `permute(Tensor self, int[] dims)`
pub fn permute(cx: &mut Cx, a: &Args) -> Result<Shown> {
    let x = a.t("self")?;
    let mut perm = a.ints("dims")?.iter().map(|&d| axis_of(cx, x, d)).collect::<Result<Vec<_>>>()?;
    perm.push(perm.len());
    Ok(View::Permute(perm).into())
}

/// `sum.dim_IntList(Tensor self, int[1]? dim, bool keepdim=False)`, `sum`
pub fn total(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let axes = reduced_axes(cx, a, x)?;
    if axes.is_empty() { Ok(x) } else { cx.reduce("ReduceSum", x, &axes, a.bool("keepdim")?) }
}

/// The axes that `dim` names, all without it.
fn reduced_axes(cx: &Cx, a: &Args, x: ValueId) -> Result<Vec<usize>> {
    let axes = match a.opt_ints("dim")? {
        Some(list) => list.iter().map(|&d| axis_of(cx, x, d)).collect::<Result<Vec<_>>>()?,
        None => Vec::new(),
    };
    Ok(if axes.is_empty() { (0..cx.rank(x)? - 1).collect() } else { axes })
}

/// A function that is linear in each of its operands, of complex ones: of every choice of parts, with the sign that `i·i = -1` gives.
pub(crate) fn multilinear(
    cx: &mut Cx,
    operands: &[(ValueId, Option<ValueId>)],
    mut f: impl FnMut(&mut Cx, &[ValueId]) -> Result<ValueId>,
) -> Result<ValueId> {
    if operands.len() > 8 {
        bail!(unsupported, "a product of {} complex tensors", operands.len());
    }
    let mut sums: [Option<ValueId>; 2] = [None, None];
    for choice in 0..1usize << operands.len() {
        let imaginary = |k: usize| choice >> k & 1 == 1;
        let picked: Option<Vec<ValueId>> =
            operands.iter().enumerate().map(|(k, o)| if imaginary(k) { o.1 } else { Some(o.0) }).collect();
        let Some(picked) = picked else { continue };
        let (power, term) = (choice.count_ones() as usize, f(cx, &picked)?);
        let sum = &mut sums[power % 2];
        *sum = Some(match (*sum, power % 4 >= 2) {
            (None, false) => term,
            (None, true) => cx.call("Neg", &[term])?,
            (Some(s), false) => cx.call("Add", &[s, term])?,
            (Some(s), true) => cx.call("Sub", &[s, term])?,
        });
    }
    match sums {
        [Some(re), Some(im)] => joined(cx, re, im),
        _ => bail!(bug, "a complex product of real tensors"),
    }
}

fn tensor_operand(cx: &mut Cx, v: ValueId, dtype: DType) -> Result<(ValueId, Option<ValueId>)> {
    if cx.is_complex(v) {
        let (re, im) = parts(cx, v)?;
        return Ok((re, Some(im)));
    }
    Ok((cx.cast(v, dtype)?, None))
}

/// `einsum(str equation, Tensor[] tensors, *, int[]? path=None)`
pub fn einsum(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (equation, dtype) = (a.text("equation")?, real_type(cx, a)?);
    let mut operands = Vec::new();
    for v in a.ts("tensors")? {
        operands.push(tensor_operand(cx, v, dtype)?);
    }
    multilinear(cx, &operands, |cx, v| super::linear::einsum_values(cx, &equation, v))
}

/// `outer(Tensor self, Tensor vec2)`, `mv(Tensor self, Tensor vec)`, `dot(Tensor self, Tensor tensor)`
pub fn product(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let dtype = real_type(cx, a)?;
    let mut operands = Vec::new();
    for v in a.tensors() {
        operands.push(tensor_operand(cx, v, dtype)?);
    }
    let equation = match a.target {
        t if t.contains(".mv.") => "ij,j->i",
        t if t.contains(".dot.") => "i,i->",
        _ => "i,j->ij",
    };
    multilinear(cx, &operands, |cx, v| super::linear::einsum_values(cx, equation, v))
}

/// `linear(Tensor input, Tensor weight, Tensor? bias=None)`
pub fn linear(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let dtype = real_type(cx, a)?;
    let (x, w) = (tensor_operand(cx, a.t("input")?, dtype)?, tensor_operand(cx, a.t("weight")?, dtype)?);
    let y = multilinear(cx, &[x, w], |cx, v| super::linear::linear_values(cx, v[0], v[1], None))?;
    let Some(b) = a.opt_t("bias")? else { return Ok(y) };
    let b = if cx.is_complex(b) { b } else { from_real(cx, b, dtype)? };
    cx.call("Add", &[y, b])
}

/// `conv1d(Tensor input, Tensor weight, Tensor? bias=None, …)`, `conv2d`, `conv3d`
pub fn conv(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let dtype = real_type(cx, a)?;
    let (x, w) = (tensor_operand(cx, a.t("input")?, dtype)?, tensor_operand(cx, a.t("weight")?, dtype)?);
    let bare = a.with("bias", Arg::Other(Val::None));
    let y = multilinear(cx, &[x, w], |cx, v| {
        let call = bare.with("input", Arg::Tensor(cx.new_tensor(v[0]), v[0]));
        let call = call.with("weight", Arg::Tensor(cx.new_tensor(v[1]), v[1]));
        match a.target.ends_with(".padding") {
            true => super::conv::conv_named_padding(cx, &call),
            false => super::conv::conv(cx, &call),
        }
    })?;
    let Some(b) = a.opt_t("bias")? else { return Ok(y) };
    let b = if cx.is_complex(b) { b } else { from_real(cx, b, dtype)? };
    let behind: Vec<i64> = (1..cx.rank(w.0)? as i64 - 1).collect();
    let b = cx.b.unsqueeze(b, &behind)?;
    cx.call("Add", &[y, b])
}

/// `mean(Tensor self, *, ScalarType? dtype=None)`, `mean.dim(Tensor self, int[1]? dim, bool keepdim=False, …)`
pub fn mean(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let axes = reduced_axes(cx, a, x)?;
    if axes.is_empty() { Ok(x) } else { cx.reduce("ReduceMean", x, &axes, a.bool("keepdim")?) }
}

/// `square(Tensor self)`
pub fn square(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (re, im) = parts(cx, a.t("self")?)?;
    multilinear(cx, &[(re, Some(im)), (re, Some(im))], |cx, v| cx.call("Mul", v))
}

/// `reciprocal(Tensor self)`: the conjugate over the square of the size
pub fn reciprocal(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (re, im) = parts(cx, a.t("self")?)?;
    let dtype = cx.dtype(re)?;
    let (re, im) = (F::from(re), F::from(im));
    let norm = re.squared() + im.squared();
    let (x, y) = ((&re / &norm).emit(cx, dtype)?, (-(&im / &norm)).emit(cx, dtype)?);
    joined(cx, x, y)
}

/// The logarithm of the size, and the angle.
fn logarithm(cx: &mut Cx, x: ValueId) -> Result<(ValueId, ValueId)> {
    let last = cx.rank(x)? - 1;
    let size = cx.reduce("ReduceL2", x, &[last], false)?;
    let (re, im) = parts(cx, x)?;
    Ok((cx.call("Log", &[size])?, super::elementwise::atan2_values(cx, im, re)?))
}

/// `log(Tensor self)`
pub fn log(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (re, im) = logarithm(cx, a.t("self")?)?;
    joined(cx, re, im)
}

/// `sqrt(Tensor self)`: the root with a positive real part
pub fn sqrt(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let last = cx.rank(x)? - 1;
    let size = F::from(cx.reduce("ReduceL2", x, &[last], false)?);
    let (re, im) = parts(cx, x)?;
    let dtype = cx.dtype(re)?;
    let (re, im) = (F::from(re), F::from(im));
    let u = ((&size + &re) * 0.5).max(0.0).sqrt().emit(cx, dtype)?;
    let v = ((&size - &re) * 0.5).max(0.0).sqrt();
    let v = im.lt(0.0).pick(-&v, &v).emit(cx, dtype)?;
    joined(cx, u, v)
}

/// `pow.Tensor_Scalar(Tensor self, Scalar exponent)` of a real exponent: `r^p · e^(i p θ)`
pub fn pow(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let Some(p) = a.scalar("exponent")?.as_f64() else { return super::complex_functions::pow(cx, a) };
    let x = a.t("self")?;
    if p == 2.0 {
        return square(cx, a);
    }
    let dtype = cx.dtype(x)?;
    let last = cx.rank(x)? - 1;
    let size = F::from(cx.reduce("ReduceL2", x, &[last], false)?).pow(p);
    let (re, im) = parts(cx, x)?;
    let angle = F::from(super::elementwise::atan2_values(cx, im, re)?) * p;
    let (re, im) = ((&size * angle.cos()).emit(cx, dtype)?, (&size * angle.sin()).emit(cx, dtype)?);
    joined(cx, re, im)
}

/// `sin(Tensor self)`: sin a cosh b + i cos a sinh b
pub fn sin(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (re, im) = parts(cx, a.t("self")?)?;
    let (s, c) = (cx.call("Sin", &[re])?, cx.call("Cos", &[re])?);
    let (sh, ch) = (cx.call("Sinh", &[im])?, cx.call("Cosh", &[im])?);
    let (re, im) = (cx.call("Mul", &[s, ch])?, cx.call("Mul", &[c, sh])?);
    joined(cx, re, im)
}

/// `cos(Tensor self)`: cos a cosh b − i sin a sinh b
pub fn cos(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (re, im) = parts(cx, a.t("self")?)?;
    let (s, c) = (cx.call("Sin", &[re])?, cx.call("Cos", &[re])?);
    let (sh, ch) = (cx.call("Sinh", &[im])?, cx.call("Cosh", &[im])?);
    let (re, im) = (cx.call("Mul", &[c, ch])?, cx.call("Mul", &[s, sh])?);
    let im = cx.call("Neg", &[im])?;
    joined(cx, re, im)
}

/// `sgn(Tensor self)`: the direction, zero of zero
pub fn sgn(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let (dtype, last) = (cx.dtype(x)?, cx.rank(x)? - 1);
    let size = F::from(cx.reduce("ReduceL2", x, &[last], true)?);
    (F::from(x) / size.equals(0.0).pick(1.0, &size)).emit(cx, dtype)
}

/// `eq.Tensor(Tensor self, Tensor other)`, `eq.Scalar`, `ne.Tensor`, `ne.Scalar`
pub fn equal(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let dtype = real_type(cx, a)?;
    let ((ar, ai), (br, bi)) = (operand(cx, a, "self", dtype)?, operand(cx, a, "other", dtype)?);
    let zero = cx.b.scalar(dtype, 0.0)?;
    let same = cx.call("Equal", &[ar, br])?;
    let also = cx.call("Equal", &[ai.unwrap_or(zero), bi.unwrap_or(zero)])?;
    let same = cx.call("And", &[same, also])?;
    if a.target.contains(".ne.") { cx.call("Not", &[same]) } else { Ok(same) }
}

/// `linalg_vector_norm(Tensor self, Scalar ord=2, int[1]? dim=None, …)`: of the sizes
pub fn vector_norm(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let size = abs(cx, a)?;
    let a = a.with("self", Arg::Tensor(cx.new_tensor(size), size));
    super::reduce::vector_norm(cx, &a)
}

/// `chalf(Tensor self, *, MemoryFormat? memory_format=None)`: pairs of half precision, which nothing here computes with
pub fn half(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let pairs = if cx.is_complex(x) { x } else { from_real(cx, x, DType::C64)? };
    let y = cx.cast(pairs, DType::F16)?;
    cx.complex.insert(y);
    Ok(y)
}

/// `to.dtype(Tensor self, ScalarType dtype, …)`, `_to_copy`: to another precision, or the real part
pub fn to(cx: &mut Cx, a: &Args) -> Result<Shown> {
    let x = a.t("self")?;
    Ok(match a.out_dtype()? {
        d if !d.is_complex() => {
            cx.warn("a complex tensor is converted to a real one: its imaginary part is dropped".into());
            let (re, _) = parts(cx, x)?;
            Shown::Copy(cx.cast(re, d)?)
        }
        d if crate::cx::real_dtype(d) != cx.dtype(x)? => Shown::Copy(cx.cast(x, crate::cx::real_dtype(d))?),
        _ if a.bool("copy")? => Shown::Copy(x),
        _ => View::Same.into(),
    })
}
