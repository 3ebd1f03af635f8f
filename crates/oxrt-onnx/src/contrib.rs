//! Operators of onnxruntime (`com.microsoft`, and the old experimental ones of the default domain), written out as
//! standard operators when a file is read, so that every backend runs them and models that onnxruntime optimised load.
//!
//! Definitions: <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md>. Operators that have no
//! short form in standard ones live in `oxrt-ops` under their full name.

mod attention;
mod experimental;
mod fused;
pub(crate) mod nchwc;
mod norm;
mod quant;
mod tensor;
mod weights;

use oxrt_ir::{Attrs, Dim, ValueId};
use oxrt_ops::Builder;
use oxrt_tensor::{DType, Error, Result, bail};

/// Makes the values of a node's outputs; `None` for one that is absent and need not be made.
pub(crate) type Expand = fn(&mut Call) -> Result<Vec<Option<ValueId>>>;

const MICROSOFT: &[&[(&str, Expand)]] =
    &[attention::TABLE, fused::TABLE, norm::TABLE, quant::TABLE, tensor::TABLE, weights::TABLE];

/// All that is written out: (domain, operator).
#[cfg(test)]
pub(crate) fn names() -> Vec<(&'static str, &'static str)> {
    let ours = MICROSOFT.iter().flat_map(|t| t.iter()).map(|(name, _)| ("com.microsoft", *name));
    let blocks = nchwc::TABLE.iter().map(|(name, _)| (nchwc::DOMAIN, *name));
    ours.chain(blocks).chain(experimental::TABLE.iter().map(|(name, _)| ("", *name))).collect()
}

/// How a node of this operator is written out, if it is.
pub(crate) fn find(domain: &str, op: &str, version: i64) -> Option<Expand> {
    let tables: &[&[(&str, Expand)]] = match domain {
        "com.microsoft" => MICROSOFT,
        "" => &[experimental::TABLE],
        nchwc::DOMAIN => &[nchwc::TABLE],
        _ => return None,
    };
    // Layer normalisation was an experimental operator of the default domain before it was a standard one.
    if domain.is_empty() && op == "LayerNormalization" && version < 17 {
        return Some(norm::layer_normalization);
    }
    tables.iter().flat_map(|t| t.iter()).find(|(name, _)| *name == op).map(|(_, e)| *e)
}

/// A node that is being written out.
pub(crate) struct Call<'a, 'g> {
    pub b: &'a mut Builder<'g>,
    pub attrs: &'a Attrs,
    pub inputs: &'a [Option<ValueId>],
    /// Which outputs the node has.
    pub wanted: &'a [bool],
    /// Channels of a block of `com.microsoft.nchwc`, where they are known.
    pub block: Option<usize>,
}

impl Call<'_, '_> {
    /// Required input `i`.
    fn input(&self, i: usize) -> Result<ValueId> {
        self.opt(i).ok_or_else(|| Error::invalid(format!("input {i} is missing")))
    }

    fn opt(&self, i: usize) -> Option<ValueId> {
        self.inputs.get(i).copied().flatten()
    }

    fn wants(&self, i: usize) -> bool {
        self.wanted.get(i).copied().unwrap_or(false)
    }

    /// Refuses a node that has one of these inputs.
    fn refuse_inputs(&self, inputs: &[(usize, &str)]) -> Result<()> {
        match inputs.iter().find(|(i, _)| self.opt(*i).is_some()) {
            Some((_, what)) => bail!(unsupported, "{what}"),
            None => Ok(()),
        }
    }

    /// Refuses a node with an int attribute other than `plain`.
    fn refuse_attr(&self, name: &str, plain: i64) -> Result<()> {
        match self.attrs.int_or(name, plain)? {
            x if x == plain => Ok(()),
            x => bail!(unsupported, "the attribute `{name}` = {x}"),
        }
    }

    fn call(&mut self, op: &str, inputs: &[ValueId]) -> Result<ValueId> {
        self.b.call(op, inputs)
    }

    fn add(&mut self, x: ValueId, y: ValueId) -> Result<ValueId> {
        self.b.call("Add", &[x, y])
    }

    fn mul(&mut self, x: ValueId, y: ValueId) -> Result<ValueId> {
        self.b.call("Mul", &[x, y])
    }

    /// `x · c`, or `x` itself for 1.
    fn scaled(&mut self, x: ValueId, c: f64) -> Result<ValueId> {
        if c == 1.0 {
            return Ok(x);
        }
        let c = self.b.scalar_like(x, c)?;
        self.mul(x, c)
    }

    /// `x + y` when there is a `y`.
    fn add_opt(&mut self, x: ValueId, y: Option<ValueId>) -> Result<ValueId> {
        match y {
            Some(y) => self.add(x, y),
            None => Ok(x),
        }
    }

    /// Elements `from..to` along an axis.
    fn slice(&mut self, x: ValueId, axis: i64, from: i64, to: i64) -> Result<ValueId> {
        let (from, to, axis) = (self.b.ints(&[from]), self.b.ints(&[to]), self.b.ints(&[axis]));
        self.b.call("Slice", &[x, from, to, axis])
    }

    /// Element `i` of an axis, which goes.
    fn pick(&mut self, x: ValueId, axis: i64, i: i64) -> Result<ValueId> {
        let at = self.b.constant(oxrt_tensor::Tensor::scalar(i));
        self.b.op("Gather", &[x, at], Attrs::new().with("axis", axis))
    }

    fn concat(&mut self, parts: &[ValueId], axis: i64) -> Result<ValueId> {
        self.b.op("Concat", parts, Attrs::new().with("axis", axis))
    }

    fn split(&mut self, x: ValueId, axis: i64, sizes: &[Dim]) -> Result<Vec<ValueId>> {
        let shape = self.b.shape_value(sizes)?;
        self.b.op_multi("Split", &[Some(x), Some(shape)], Attrs::new().with("axis", axis), sizes.len())
    }

    /// Exchanges the last two axes.
    fn turned(&mut self, x: ValueId) -> Result<ValueId> {
        let rank = self.b.rank(x)?;
        if rank < 2 {
            return Ok(x);
        }
        let mut perm: Vec<usize> = (0..rank).collect();
        perm.swap(rank - 2, rank - 1);
        self.b.transpose(x, &perm)
    }

    /// From [N, …, C] to [N, C, …].
    fn channels_first(&mut self, x: ValueId) -> Result<ValueId> {
        let rank = self.b.rank(x)?;
        let perm: Vec<usize> = [0, rank - 1].into_iter().chain(1..rank - 1).take(rank).collect();
        self.b.transpose(x, &perm)
    }

    /// From [N, C, …] to [N, …, C].
    fn channels_last(&mut self, x: ValueId) -> Result<ValueId> {
        let rank = self.b.rank(x)?;
        let perm: Vec<usize> = [0].into_iter().chain(2..rank).chain([1]).take(rank).collect();
        self.b.transpose(x, &perm)
    }

    /// The size of an axis of `v`, as an i64 vector of one element.
    fn size(&mut self, v: ValueId, axis: usize) -> Result<ValueId> {
        match self.b.graph.dims(v).and_then(|d| d.get(axis)).and_then(Dim::as_const) {
            Some(n) => Ok(self.b.ints(&[n])),
            None => self.b.op("Shape", &[v], Attrs::new().with("start", axis as i64).with("end", axis as i64 + 1)),
        }
    }

    /// 0, 1, … for an axis of `v`, as a vector of i64.
    fn range(&mut self, v: ValueId, axis: usize) -> Result<ValueId> {
        let n = self.size(v, axis)?;
        let n = self.b.reshape_const(n, &[])?;
        self.range_value(n)
    }

    /// The same for a scalar value.
    fn range_value(&mut self, n: ValueId) -> Result<ValueId> {
        let (zero, one) = (self.b.scalar(DType::I64, 0.0)?, self.b.scalar(DType::I64, 1.0)?);
        self.b.call("Range", &[zero, n, one])
    }
}

/// An activation that onnxruntime fuses into the node before it.
fn activation(c: &mut Call, x: ValueId, name: &str, params: &[f32]) -> Result<ValueId> {
    let param = |i: usize, default: f32| params.get(i).copied().unwrap_or(default);
    let attrs = Attrs::new();
    match name {
        "" => Ok(x),
        "Relu" | "Tanh" | "Sigmoid" | "Softplus" | "Softsign" | "HardSwish" => c.b.call(name, &[x]),
        "Gelu" => c.b.call(name, &[x]),
        "LeakyRelu" => c.b.op(name, &[x], attrs.with("alpha", param(0, 0.01))),
        "Elu" => c.b.op(name, &[x], attrs.with("alpha", param(0, 1.0))),
        "ThresholdedRelu" => c.b.op(name, &[x], attrs.with("alpha", param(0, 1.0))),
        "HardSigmoid" => c.b.op(name, &[x], attrs.with("alpha", param(0, 0.2)).with("beta", param(1, 0.5))),
        "Selu" => {
            let attrs = attrs.with("alpha", param(0, 1.673_263_2)).with("gamma", param(1, 1.050_701));
            c.b.op(name, &[x], attrs)
        }
        "Clip" => {
            let (lo, hi) =
                (c.b.scalar_like(x, param(0, f32::MIN) as f64)?, c.b.scalar_like(x, param(1, f32::MAX) as f64)?);
            c.b.call(name, &[x, lo, hi])
        }
        "QuickGelu" => c.b.op("Swish", &[x], attrs.with("alpha", param(0, 1.702))),
        other => bail!(unsupported, "the fused activation `{other}`"),
    }
}

/// Copies the attributes of these names.
fn keep(attrs: &Attrs, names: &[&str]) -> Attrs {
    Attrs(attrs.0.iter().filter(|(k, _)| names.contains(&k.as_str())).map(|(k, v)| (k.clone(), v.clone())).collect())
}
