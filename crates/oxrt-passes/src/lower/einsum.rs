//! Einsum is, operand by operand, a sum, a product with broadcasting, or a product of matrices.

use super::{replace, where_sizes_allow, widened};
use crate::driver::{Rewrite, Rule};
use oxrt_ir::{Attrs, Dim, NodeId, ValueId};
use oxrt_ops::{Builder, einsum};
use oxrt_tensor::{DType, Error, Result};

pub(crate) const RULE: Rule = Rule { name: "lower-einsum", ops: &["Einsum"], apply };

/// A tensor and the labels of its axes; no label twice, once the diagonals are taken.
struct Term {
    value: ValueId,
    labels: Vec<einsum::Label>,
}

impl Term {
    fn has(&self, l: &einsum::Label) -> bool {
        self.labels.contains(l)
    }

    /// Two axes of one label.
    fn twice(&self) -> Option<(usize, usize)> {
        (0..self.labels.len()).find_map(|j| Some((self.labels[..j].iter().position(|l| *l == self.labels[j])?, j)))
    }

    /// Takes the diagonal of axes `i < j`: of both as one axis, every element a row and a place further on.
    fn diagonal(&mut self, b: &mut Builder, i: usize, j: usize) -> Result<()> {
        let dims = b.dims(self.value)?;
        let n = dims[i].as_const().filter(|_| dims[i] == dims[j]);
        let n = n.ok_or_else(|| Error::unsupported("a diagonal of axes without one fixed size"))?;
        let perm: Vec<usize> = (0..dims.len()).filter(|&d| d != i && d != j).chain([i, j]).collect();
        let front: Vec<Dim> = perm[..dims.len() - 2].iter().map(|&d| dims[d].clone()).collect();
        let last = b.transpose(self.value, &perm)?;
        let flat = b.reshape(last, &[&front[..], &[Dim::Const(n * n)]].concat())?;
        let (from, to, axis, step) = (b.ints(&[0]), b.ints(&[n * n]), b.ints(&[front.len() as i64]), b.ints(&[n + 1]));
        self.value = b.call("Slice", &[flat, from, to, axis, step])?;
        self.labels = perm[..dims.len() - 1].iter().map(|&d| self.labels[d]).collect();
        Ok(())
    }

    /// Sizes of the axes named.
    fn sizes(&self, b: &Builder, labels: &[einsum::Label]) -> Result<Vec<Dim>> {
        let dims = b.dims(self.value)?;
        Ok(labels.iter().filter_map(|l| Some(dims[self.labels.iter().position(|m| m == l)?].clone())).collect())
    }

    /// With the axes in the order of `labels`, which are all of its own.
    fn ordered(&self, b: &mut Builder, labels: &[einsum::Label]) -> Result<ValueId> {
        let perm: Vec<usize> = labels.iter().filter_map(|l| self.labels.iter().position(|m| m == l)).collect();
        b.transpose(self.value, &perm)
    }

    /// Without the axes that `keep` refuses, which are summed.
    fn summed(self, b: &mut Builder, keep: impl Fn(&einsum::Label) -> bool) -> Result<Term> {
        let gone: Vec<i64> = (0..self.labels.len()).filter(|&i| !keep(&self.labels[i])).map(|i| i as i64).collect();
        if gone.is_empty() {
            return Ok(self);
        }
        let axes = b.ints(&gone);
        let value = b.op("ReduceSum", &[self.value, axes], Attrs::new().with("keepdims", 0))?;
        Ok(Term { value, labels: self.labels.into_iter().filter(keep).collect() })
    }
}

fn apply(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &rw.model.graph;
    let inputs: Option<Vec<ValueId>> = g[id].inputs().iter().copied().collect();
    let Some(inputs) = inputs else { return Ok(false) };
    let ranks: Option<Vec<usize>> = inputs.iter().map(|&v| Some(g.dims(v)?.len())).collect();
    let (Some(ranks), Some(dtype)) = (ranks, inputs.first().and_then(|&v| g[v].ty.dtype())) else { return Ok(false) };
    // Products of matrices have kernels for these.
    if !(dtype.is_float() && dtype.bits() >= 16 || matches!(dtype, DType::I32 | DType::I64 | DType::U32 | DType::U64)) {
        return Ok(false);
    }
    let (operands, result) = einsum::parse(&g[id].attrs, &ranks)?;
    let terms = inputs.into_iter().zip(operands).map(|(value, labels)| Term { value, labels }).collect();
    let Some(new) = where_sizes_allow(product(&mut rw.builder(id), terms, &result, dtype))? else { return Ok(false) };
    replace(&mut rw.model.graph, id, new);
    Ok(true)
}

fn product(b: &mut Builder, mut terms: Vec<Term>, result: &[einsum::Label], dtype: DType) -> Result<ValueId> {
    for t in &mut terms {
        b.note_symbols(t.value);
        while let Some((i, j)) = t.twice() {
            t.diagonal(b, i, j)?;
        }
        t.value = widened(b, t.value)?;
    }
    let mut rest = terms.into_iter();
    let Some(mut left) = rest.next() else { return Err(Error::unsupported("a product of nothing")) };
    let mut rest: Vec<Term> = rest.collect();
    rest.reverse();
    while let Some(right) = rest.pop() {
        let later = |l: &einsum::Label| result.contains(l) || rest.iter().any(|t| t.has(l));
        let a_labels = left.labels.clone();
        let a = left.summed(b, |l| later(l) || right.has(l))?;
        let c = right.summed(b, |l| later(l) || a_labels.contains(l))?;
        left = pair(b, a, c, later)?;
    }
    let left = left.summed(b, |l| result.contains(l))?;
    let y = left.ordered(b, result)?;
    b.cast(y, dtype)
}

/// The product of two terms without the labels of both that nobody needs later, which are summed.
fn pair(b: &mut Builder, x: Term, y: Term, later: impl Fn(&einsum::Label) -> bool) -> Result<Term> {
    let of = |t: &Term, keep: &dyn Fn(&einsum::Label) -> bool| -> Vec<einsum::Label> {
        t.labels.iter().copied().filter(|l| keep(l)).collect()
    };
    let both = of(&x, &|l| y.has(l) && later(l));
    let (rows, columns) = (of(&x, &|l| !y.has(l)), of(&y, &|l| !x.has(l)));
    let inner = of(&x, &|l| y.has(l) && !later(l));
    let same = x.sizes(b, &inner)? == y.sizes(b, &inner)?;
    if inner.is_empty() || !same {
        // Axes of size 1 stretch, as in any product.
        let labels = [&both[..], &inner[..], &rows[..], &columns[..]].concat();
        let (front, p) = (both.len() + inner.len(), x.ordered(b, &[&both[..], &inner[..], &rows[..]].concat())?);
        let p = match columns.len() {
            0 => p,
            n => b.unsqueeze(p, &(0..n).map(|i| (front + rows.len() + i) as i64).collect::<Vec<_>>())?,
        };
        let q = y.ordered(b, &[&both[..], &inner[..], &columns[..]].concat())?;
        let q = match rows.len() {
            0 => q,
            n => b.unsqueeze(q, &(0..n).map(|i| (front + i) as i64).collect::<Vec<_>>())?,
        };
        let value = b.call("Mul", &[p, q])?;
        return Term { value, labels }.summed(b, |l| !inner.contains(l));
    }
    let merged = |dims: &[Dim]| dims.iter().fold(Dim::Const(1), |n, d| n * d.clone());
    let (m, n, k) = (x.sizes(b, &rows)?, y.sizes(b, &columns)?, x.sizes(b, &inner)?);
    let p = x.ordered(b, &[&both[..], &rows[..], &inner[..]].concat())?;
    let p = b.reshape(p, &[&x.sizes(b, &both)?[..], &[merged(&m), merged(&k)]].concat())?;
    let q = y.ordered(b, &[&both[..], &inner[..], &columns[..]].concat())?;
    let q = b.reshape(q, &[&y.sizes(b, &both)?[..], &[merged(&k), merged(&n)]].concat())?;
    let value = b.call("MatMul", &[p, q])?;
    let batch = b.dims(value)?[..both.len()].to_vec();
    let value = b.reshape(value, &[&batch[..], &m[..], &n[..]].concat())?;
    Ok(Term { value, labels: [both, rows, columns].concat() })
}
