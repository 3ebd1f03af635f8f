//! <https://onnx.ai/onnx/operators/onnx__Einsum.html>

use crate::copy::{checked_len, walk};
use crate::def::OpDef;
use crate::einsum::{Label, parse};
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::shape::unify;
use oxrt_ir::Dim;
use oxrt_tensor::{Error, Result, Tensor, bail, strides_of};

/// Sums of products named by letters: `bij,bjk->bik`.
pub const OP: OpDef = OpDef::new("Einsum", &[12, 28], 1..=usize::MAX, infer, eval).examples(&[
    (
        "(f32[2, 2] a, f32[2, 2] b) { y = Einsum<equation=\"ij,jk->ki\">(a, b) } => y",
        &["a = 1 2 3 4", "b = 5 6 7 8"],
        "19 43 22 50",
    ),
    ("(f32[2, 2] a) { y = Einsum<equation=\"ii\">(a) } => y", &["a = 1 2 3 4"], "5"),
    ("(f32[1, 2] a, f32[2] b) { y = Einsum<equation=\"...i, i -> ...\">(a, b) } => y", &["a = 1 2", "b = 5 6"], "17"),
]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let dtype = ctx.dtype(0)?;
    let all: Option<Vec<&[Dim]>> = (0..ctx.num_inputs()).map(|i| ctx.dims(i)).collect();
    let Some(all) = all else {
        ctx.set(0, dtype, None);
        return Ok(());
    };
    let (operands, result) = parse(ctx.attrs(), &all.iter().map(|d| d.len()).collect::<Vec<_>>())?;
    let size = |l: &Label| -> Result<Dim> {
        let mut size = Dim::Const(1);
        for (labels, dims) in operands.iter().zip(&all) {
            for (_, d) in labels.iter().zip(*dims).filter(|(m, d)| *m == l && !d.is(1)) {
                size = if size.is(1) { d.clone() } else { unify(&size, d)? };
            }
        }
        Ok(size)
    };
    let dims = result.iter().map(size).collect::<Result<Vec<_>>>()?;
    ctx.set(0, dtype, Some(dims));
    Ok(())
}

/// Labels with sizes, and data in the order of the labels.
struct Term {
    labels: Vec<Label>,
    shape: Vec<usize>,
    data: Vec<f64>,
}

impl Term {
    /// Step in the data along `label`: repeats add up (a diagonal), sizes of 1 stand still.
    fn step(&self, label: &Label) -> isize {
        let strides = strides_of(&self.shape);
        (0..self.labels.len()).filter(|&i| self.labels[i] == *label && self.shape[i] != 1).map(|i| strides[i] as isize).sum()
    }

    fn size(&self, label: &Label) -> usize {
        (0..self.labels.len()).filter(|&i| self.labels[i] == *label).map(|i| self.shape[i]).max().unwrap_or(1)
    }
}

/// The product of two terms, summed over what `keep` does not name.
fn contract(a: &Term, b: &Term, keep: &[Label]) -> Result<Term> {
    let mut summed: Vec<Label> = Vec::new();
    for l in a.labels.iter().chain(&b.labels) {
        if !keep.contains(l) && !summed.contains(l) {
            summed.push(*l);
        }
    }
    let size = |l: &Label| match (a.size(l), b.size(l)) {
        (x, y) if x == y || y == 1 => Ok(x),
        (1, y) => Ok(y),
        (x, y) => Err(Error::invalid(format!("an axis is {x} in one input and {y} in another"))),
    };
    let sizes = |list: &[Label]| list.iter().map(size).collect::<Result<Vec<usize>>>();
    let offsets = |t: &Term, list: &[Label], sizes: &[usize]| {
        walk(sizes, &list.iter().map(|l| t.step(l)).collect::<Vec<_>>(), 0)
    };
    let (shape, inner) = (sizes(keep)?, sizes(&summed)?);
    checked_len(&shape)?;
    let (oa, ob) = (offsets(a, keep, &shape)?, offsets(b, keep, &shape)?);
    let (ia, ib) = (offsets(a, &summed, &inner)?, offsets(b, &summed, &inner)?);
    let sum = |(&x, &y): (&usize, &usize)| ia.iter().zip(&ib).map(|(i, j)| a.data[x + i] * b.data[y + j]).sum();
    let data = oa.iter().zip(&ob).map(sum).collect();
    Ok(Term { labels: keep.to_vec(), shape, data })
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let inputs: Vec<&Tensor> = (0..ctx.inputs.len()).map(|i| ctx.tensor(i)).collect::<Result<_>>()?;
    let (operands, result) = parse(ctx.attrs(), &inputs.iter().map(|t| t.rank()).collect::<Vec<_>>())?;
    let one = Term { labels: vec![], shape: vec![], data: vec![1.0] };
    let mut sum = one;
    for (i, t) in inputs.iter().enumerate() {
        let term = Term { labels: operands[i].clone(), shape: t.shape().to_vec(), data: t.to_f64_vec()? };
        for (k, l) in term.labels.iter().enumerate() {
            if term.shape[k] != 1 && term.shape[k] != term.size(l) {
                bail!(invalid, "an axis has two sizes in {:?}", term.shape);
            }
        }
        // What later operands or the result still need.
        let mut keep: Vec<Label> = Vec::new();
        for l in sum.labels.iter().chain(&term.labels) {
            let needed = result.contains(l) || operands[i + 1..].iter().any(|o| o.contains(l));
            if needed && !keep.contains(l) {
                keep.push(*l);
            }
        }
        let keep = if i + 1 == inputs.len() { result.clone() } else { keep };
        sum = contract(&sum, &term, &keep)?;
    }
    Ok(vec![Tensor::from_f64(inputs[0].dtype(), &sum.shape, &sum.data)?.into()])
}
