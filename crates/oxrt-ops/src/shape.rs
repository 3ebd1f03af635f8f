//! Shape rules and index arithmetic that many operators share.

use crate::infer::Infer;
use oxrt_ir::{Contents, Dim};
use oxrt_tensor::{DType, Error, Result, bail};

/// Shape that the inputs broadcast to (numpy rules).
pub fn broadcast_shapes(shapes: &[&[usize]]) -> Result<Vec<usize>> {
    let rank = shapes.iter().map(|s| s.len()).max().unwrap_or(0);
    let mut out = vec![1usize; rank];
    for s in shapes {
        for (o, &d) in out[rank - s.len()..].iter_mut().zip(*s) {
            match (*o, d) {
                (a, b) if a == b || b == 1 => {}
                (1, b) => *o = b,
                _ => bail!(invalid, "the shapes {shapes:?} do not broadcast"),
            }
        }
    }
    Ok(out)
}

/// The same for symbolic dimensions. Two different ones give what they broadcast to, if they do.
pub fn broadcast_dims(inputs: &[&[Dim]]) -> Result<Vec<Dim>> {
    let rank = inputs.iter().map(|s| s.len()).max().unwrap_or(0);
    let mut out = vec![Dim::Const(1); rank];
    for s in inputs {
        for (o, d) in out[rank - s.len()..].iter_mut().zip(*s) {
            *o = match (o.as_const(), d.as_const()) {
                _ if o == d => continue,
                (_, Some(1)) => continue,
                (Some(1), _) => d.clone(),
                (Some(_), None) => continue,
                (None, Some(_)) => d.clone(),
                (Some(_), Some(_)) => bail!(invalid, "the shapes {inputs:?} do not broadcast"),
                (None, None) => o.broadcast(d),
            };
        }
    }
    Ok(out)
}

/// Numbers of a shape tensor as sizes.
pub fn sizes(list: &[i64]) -> Result<Vec<usize>> {
    let one = |&d: &i64| usize::try_from(d).map_err(|_| Error::invalid(format!("the size {d} is negative")));
    list.iter().map(one).collect()
}

/// `axis` counted from the front; negative ones count from the back.
pub fn axis(axis: i64, rank: usize) -> Result<usize> {
    let r = rank as i64;
    if axis < -r || axis >= r {
        bail!(invalid, "axis {axis} is outside a tensor of rank {rank}");
    }
    Ok(if axis < 0 { axis + r } else { axis } as usize)
}

/// Each axis counted from the front, sorted, without repeats.
pub fn axes(list: &[i64], rank: usize) -> Result<Vec<usize>> {
    let mut out = list.iter().map(|&a| axis(a, rank)).collect::<Result<Vec<_>>>()?;
    out.sort_unstable();
    if out.windows(2).any(|w| w[0] == w[1]) {
        bail!(invalid, "an axis is named twice in {list:?}");
    }
    Ok(out)
}

fn broadcast_inputs(ctx: &Infer) -> Result<Option<Vec<Dim>>> {
    let all: Option<Vec<&[Dim]>> = (0..ctx.num_inputs()).filter(|&i| ctx.has(i)).map(|i| ctx.dims(i)).collect();
    all.map(|dims| broadcast_dims(&dims)).transpose()
}

/// Rule of elementwise operators: broadcast shape, the type of the last input. Small contents are
/// carried through arithmetic.
pub fn infer_elementwise(ctx: &mut Infer) -> Result<()> {
    let last = (0..ctx.num_inputs()).rfind(|&i| ctx.has(i)).unwrap_or(0);
    let dtype = ctx.dtype(last)?;
    infer_elementwise_as(ctx, dtype)
}

/// Rule of comparisons and tests: broadcast shape, bool.
pub fn infer_predicate(ctx: &mut Infer) -> Result<()> {
    infer_elementwise_as(ctx, DType::Bool)
}

/// Broadcast shape and the type `dtype`.
pub fn infer_elementwise_as(ctx: &mut Infer, dtype: DType) -> Result<()> {
    let dims = broadcast_inputs(ctx)?;
    let rank = dims.as_ref().map(Vec::len);
    ctx.set(0, dtype, dims);
    if rank.is_some_and(|r| r <= 1)
        && let Some(c) = elementwise_contents(ctx)
    {
        ctx.set_contents(0, c);
    }
    Ok(())
}

/// Elements of the result when those of every input are known (constants or dimension expressions).
fn elementwise_contents(ctx: &Infer) -> Option<Contents> {
    use crate::scalar::{Instr, Program};
    let inputs: Vec<Option<Contents>> = (0..ctx.num_inputs())
        .map(|i| if ctx.has(i) { ctx.whole(i).map(Some) } else { Some(None) })
        .collect::<Option<_>>()?;
    let present = || inputs.iter().flatten();
    let len = present().find(|c| c.elements.len() != 1).map_or(1, |c| c.elements.len());
    if present().any(|c| c.elements.len() != len && c.elements.len() != 1) {
        return None;
    }
    let scalar = present().all(|c| c.scalar);
    let float = (0..ctx.num_inputs()).any(|i| ctx.value_type(i).and_then(|t| t.dtype()).is_some_and(|d| d.is_float()));
    let program = Program::of_node(ctx.node()).ok()??;
    let bounds = |d: &Dim| d.bounds(&|s| ctx.symbols().bounds(s));
    let last = (0..ctx.num_inputs()).rfind(|&i| ctx.has(i))?;
    let (least, most) = exact_range(ctx.dtype(last).ok()?)?;
    let mut elements = Vec::with_capacity(len);
    for e in 0..len {
        let mut regs: Vec<Dim> = Vec::new();
        for instr in &program.instrs {
            let r = |r: crate::scalar::Reg| &regs[r.0 as usize];
            let v = match *instr {
                Instr::Input(i) => {
                    let c = &inputs.get(i as usize)?.as_ref()?.elements;
                    c.get(if c.len() == 1 { 0 } else { e })?.clone()
                }
                Instr::Const(c) if c.fract() == 0.0 && c.abs() < 1e15 => Dim::Const(c as i64),
                Instr::Const(_) => return None,
                Instr::Unary(op, a) => unary_dim(op, r(a))?,
                Instr::Binary(op, a, b) => binary_dim(op, r(a), r(b), float, &bounds)?,
                Instr::Select(c, a, b) => match r(c).as_const() {
                    Some(0) => r(b).clone(),
                    Some(_) => r(a).clone(),
                    None if r(a) == r(b) => r(a).clone(),
                    None => return None,
                },
            };
            // A dimension cannot be -0.
            let negated = matches!(instr, Instr::Unary(crate::scalar::Unary::Neg, _));
            if float && v.is(0) && (negated || regs.iter().any(|d| d.as_const().is_some_and(|c| c < 0))) {
                return None;
            }
            // Beyond this the type wraps or rounds, which dimensions do not.
            if v.as_const().is_some_and(|c| c < least || c > most) {
                return None;
            }
            regs.push(v);
        }
        elements.push(regs.pop()?);
    }
    Some(Contents { scalar, elements })
}

/// Whole numbers that the type holds exactly, and arithmetic on dimensions too.
pub(crate) fn exact_range(dtype: DType) -> Option<(i64, i64)> {
    let bits = dtype.bits() as u32;
    Some(match dtype {
        DType::F64 => (-(1 << 53), 1 << 53),
        DType::F32 => (-(1 << 24), 1 << 24),
        DType::F16 => (-(1 << 11), 1 << 11),
        DType::BF16 => (-(1 << 8), 1 << 8),
        DType::Bool => (0, 1),
        // Saturated arithmetic ends at the bounds of i64 themselves.
        DType::I64 | DType::U64 => (if dtype == DType::I64 { -i64::MAX } else { 0 }, i64::MAX - 1),
        d if d.is_signed_int() => (-(1 << (bits - 1)), (1 << (bits - 1)) - 1),
        d if d.is_unsigned_int() => (0, (1 << bits) - 1),
        _ => return None,
    })
}

fn unary_dim(op: crate::scalar::Unary, a: &Dim) -> Option<Dim> {
    use crate::scalar::Unary::*;
    Some(match op {
        Neg => -a.clone(),
        Floor | Ceil | Round | Trunc => a.clone(),
        Abs => Dim::Const(a.as_const()?.checked_abs()?),
        Not => Dim::Const((a.as_const()? == 0) as i64),
        Sign => Dim::Const(a.as_const()?.signum()),
        _ => return None,
    })
}

/// With `float`, the operands are floats that hold whole numbers: only a division without rest stays one.
fn binary_dim(
    op: crate::scalar::Binary,
    a: &Dim,
    b: &Dim,
    float: bool,
    bounds: &dyn Fn(&Dim) -> (i64, i64),
) -> Option<Dim> {
    use crate::scalar::Binary::*;
    Some(match op {
        Add => a.clone() + b.clone(),
        Sub => a.clone() - b.clone(),
        Mul => a.clone() * b.clone(),
        Div if float => a.divide_exactly(b)?,
        // Truncation is flooring for operands of one sign.
        Div if bounds(a).0 >= 0 && bounds(b).0 > 0 => a.floor_div(b),
        Div => Dim::Const(a.as_const()?.checked_div(b.as_const()?)?),
        Mod => a.modulo(b),
        Fmod if bounds(a).0 >= 0 && bounds(b).0 > 0 => a.modulo(b),
        // Bounds may decide: 8·batch is never less than 3 where batch is at least 1.
        Min | Max => {
            let (lo, hi) = bounds(&(a.clone() - b.clone()));
            let ordered = if hi <= 0 { Some((a, b)) } else { (lo >= 0).then_some((b, a)) };
            match (ordered, op) {
                (Some((less, _)), Min) => less.clone(),
                (Some((_, more)), _) => more.clone(),
                (None, Min) => a.at_most(b),
                (None, _) => a.at_least(b),
            }
        }
        Lt | Le | Gt | Ge | Eq | Ne => {
            // Decided when the bounds of the difference leave one answer.
            let (lo, hi) = bounds(&(a.clone() - b.clone()));
            let answer = match op {
                Lt if hi < 0 => true,
                Lt if lo >= 0 => false,
                Le if hi <= 0 => true,
                Le if lo > 0 => false,
                Gt if lo > 0 => true,
                Gt if hi <= 0 => false,
                Ge if lo >= 0 => true,
                Ge if hi < 0 => false,
                Eq | Ne if lo == 0 && hi == 0 => op == Eq,
                Eq | Ne if lo > 0 || hi < 0 => op == Ne,
                _ => return None,
            };
            Dim::Const(answer as i64)
        }
        And => Dim::Const((a.as_const()? != 0 && b.as_const()? != 0) as i64),
        Or => Dim::Const((a.as_const()? != 0 || b.as_const()? != 0) as i64),
        Xor => Dim::Const(((a.as_const()? != 0) != (b.as_const()? != 0)) as i64),
        Pow => Dim::Const(a.as_const()?.checked_pow(u32::try_from(b.as_const()?).ok()?)?),
        _ => return None,
    })
}

/// Elements of input `i` as fractions (numerator, denominator): whole ones, and those that a division or
/// a multiplication by a power of two just made. This keeps sizes exact on their detour through floats.
pub fn fractions(ctx: &Infer, i: usize) -> Option<(bool, Vec<(Dim, Dim)>)> {
    ctx.fractions_of(ctx.node().input(i)?)
}

/// Rule of `Floor` and `Ceil`, which end the detour of a size through floats.
pub fn infer_rounded(ctx: &mut Infer, round: fn(&Dim, &Dim) -> Dim) -> Result<()> {
    infer_elementwise(ctx)?;
    if let Some((scalar, list)) = fractions(ctx, 0)
        && list.iter().all(|(_, d)| ctx.bounds(d).0 > 0)
    {
        let elements: Vec<Dim> = list.iter().map(|(n, d)| round(n, d)).collect();
        // A negative fraction may round to -0, which no dimension is.
        let negative = list.iter().any(|(n, _)| ctx.bounds(n).0 < 0);
        if !negative || !elements.iter().any(|d| d.is(0)) {
            ctx.set_contents(0, Contents { scalar, elements });
        }
    }
    Ok(())
}

/// The dimensions of `a` and `b` as one: a constant wins, two constants must agree.
pub fn unify(a: &Dim, b: &Dim) -> Result<Dim> {
    match (a.as_const(), b.as_const()) {
        (Some(x), Some(y)) if x != y => bail!(invalid, "the sizes {x} and {y} should be equal"),
        (None, Some(_)) => Ok(b.clone()),
        _ => Ok(a.clone()),
    }
}

/// Rule of operators whose output 0 has the type of input 0.
pub fn same_as_input(ctx: &mut Infer) -> Result<()> {
    let t = ctx.ty(0)?.clone();
    ctx.set_type(0, t.into());
    Ok(())
}
