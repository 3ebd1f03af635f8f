//! Shape rules and index arithmetic that many operators share.

use crate::infer::Infer;
use oxrt_ir::{Contents, Dim};
use oxrt_tensor::{DType, Result, bail};

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

/// The same for symbolic dimensions. Two different symbols give their maximum, which is right whenever
/// the sizes broadcast at all and neither is zero.
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
                (None, None) => o.at_least(d),
            };
        }
    }
    Ok(out)
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

/// Rule of elementwise operators: broadcast shape, the type of the last input. Small integer contents
/// are carried through arithmetic.
pub fn infer_elementwise(ctx: &mut Infer) -> Result<()> {
    let last = ctx.num_inputs() - 1;
    let dtype = ctx.dtype(last)?;
    let dims = broadcast_inputs(ctx)?;
    ctx.set(0, dtype, dims);
    if dtype.is_int() || dtype == DType::Bool {
        if let Some(c) = elementwise_contents(ctx) {
            ctx.set_contents(0, c);
        }
    }
    Ok(())
}

/// Rule of comparisons and tests: broadcast shape, bool.
pub fn infer_predicate(ctx: &mut Infer) -> Result<()> {
    let dims = broadcast_inputs(ctx)?;
    ctx.set(0, DType::Bool, dims);
    if let Some(c) = elementwise_contents(ctx) {
        ctx.set_contents(0, c);
    }
    Ok(())
}

/// Elements of the result when those of every input are known (constants or dimension expressions).
fn elementwise_contents(ctx: &Infer) -> Option<Contents> {
    use crate::scalar::{Instr, Program};
    let inputs: Vec<&Contents> = (0..ctx.num_inputs()).map(|i| ctx.contents(i)).collect::<Option<_>>()?;
    let len = inputs.iter().map(|c| c.elements.len()).max()?;
    if inputs.iter().any(|c| c.elements.len() != len && c.elements.len() != 1) {
        return None;
    }
    let scalar = crate::registry::find(&ctx.node().op)?.scalar?;
    let program = Program::of(scalar, ctx.attrs(), inputs.len()).ok()?;
    let bounds = |d: &Dim| d.bounds(&|s| ctx.symbols().bounds(s));
    let mut elements = Vec::with_capacity(len);
    for e in 0..len {
        let mut regs: Vec<Dim> = Vec::new();
        for instr in &program.instrs {
            let r = |r: crate::scalar::Reg| &regs[r.0 as usize];
            let v = match *instr {
                Instr::Input(i) => {
                    let c = &inputs[i as usize].elements;
                    c[if c.len() == 1 { 0 } else { e }].clone()
                }
                Instr::Const(c) if c.fract() == 0.0 => Dim::Const(c as i64),
                Instr::Const(_) => return None,
                Instr::Unary(op, a) => unary_dim(op, r(a))?,
                Instr::Binary(op, a, b) => binary_dim(op, r(a), r(b), &bounds)?,
                Instr::Select(c, a, b) => match r(c).as_const() {
                    Some(0) => r(b).clone(),
                    Some(_) => r(a).clone(),
                    None if r(a) == r(b) => r(a).clone(),
                    None => return None,
                },
            };
            regs.push(v);
        }
        elements.push(regs.pop()?);
    }
    Some(Contents { scalar: inputs.iter().all(|c| c.scalar), elements })
}

fn unary_dim(op: crate::scalar::Unary, a: &Dim) -> Option<Dim> {
    use crate::scalar::Unary::*;
    Some(match op {
        Neg => -a.clone(),
        Floor | Ceil | Round | Trunc => a.clone(),
        Abs => Dim::Const(a.as_const()?.abs()),
        Not => Dim::Const((a.as_const()? == 0) as i64),
        Sign => Dim::Const(a.as_const()?.signum()),
        _ => return None,
    })
}

fn binary_dim(op: crate::scalar::Binary, a: &Dim, b: &Dim, bounds: &dyn Fn(&Dim) -> (i64, i64)) -> Option<Dim> {
    use crate::scalar::Binary::*;
    Some(match op {
        Add => a.clone() + b.clone(),
        Sub => a.clone() - b.clone(),
        Mul => a.clone() * b.clone(),
        // Truncation is flooring for operands of one sign.
        Div if bounds(a).0 >= 0 && bounds(b).0 > 0 => a.floor_div(b),
        Div => Dim::Const(a.as_const()?.checked_div(b.as_const()?)?),
        Mod => a.modulo(b),
        Fmod if bounds(a).0 >= 0 && bounds(b).0 > 0 => a.modulo(b),
        Min => a.at_most(b),
        Max => a.at_least(b),
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
        _ => return None,
    })
}

/// Rule of operators whose output 0 has the type of input 0.
pub fn same_as_input(ctx: &mut Infer) -> Result<()> {
    let t = ctx.ty(0)?.clone();
    ctx.set_type(0, t.into());
    Ok(())
}
