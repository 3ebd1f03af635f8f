//! Operands of the example's size made as long as the dynamic size that they meet.

use super::Walk;
use oxrt_ir::{DType, Dim, NodeId, Tensor, ValueId, ValueType};
use oxrt_ops::Builder;
use oxrt_tensor::Result;

impl Walk<'_> {
    /// Makes axis `axis` of input `i`, of the example's size, as long as `wanted`.
    pub(super) fn grow_input(&mut self, id: NodeId, i: usize, axis: usize, wanted: &Dim) -> Result<()> {
        let dims = self.dims(id, i);
        let Some(n) = dims.get(axis).and_then(Dim::as_const) else { return Ok(()) };
        if n <= 1 || self.at_example(wanted) != Some(n) {
            return Ok(());
        }
        let Some(v) = self.model.graph[id].input(i) else { return Ok(()) };
        let what = format!("`{}` {dims:?} should have the size {wanted} on axis {axis}", self.model.graph[v].name);
        match self.grown(id, v, axis, n, wanted, 0)? {
            Some((new, limit)) => {
                let what = if limit {
                    format!("{what}; the file has its first {n} rows, so {wanted} must not exceed {n}")
                } else {
                    what
                };
                self.note(id, what, true);
                if let (true, Some(s)) = (limit, wanted.as_symbol()) {
                    let mut range = self.model.symbols.get(s).unwrap_or_default();
                    range.max = Some(range.max.map_or(n, |m| m.min(n)));
                    self.model.symbols.declare(s.clone(), range);
                }
                self.model.graph.set_input(id, i, Some(new));
            }
            None => self.note(id, what, false),
        }
        Ok(())
    }

    /// `v` with another size of an axis, and whether the file limits that size.
    pub(super) fn grown(
        &mut self,
        id: NodeId,
        v: ValueId,
        axis: usize,
        n: i64,
        wanted: &Dim,
        depth: usize,
    ) -> Result<Option<(ValueId, bool)>> {
        if depth > 16 {
            return Ok(None);
        }
        if let Some(t) = self.model.graph.constant(v).cloned() {
            return self.grown_constant(id, &t, axis, n, wanted).map(Some);
        }
        let g = &self.model.graph;
        let Some((maker, _)) = g[v].producer() else { return Ok(None) };
        let node = g[maker].clone();
        let dims = g.dims(v).map(<[Dim]>::to_vec).unwrap_or_default();
        let mut inner_axis = axis;
        match &*node.op {
            "Expand" | "ConstantOfShape" => {
                let at = if &*node.op == "Expand" { 1 } else { 0 };
                let Some(mut stated) = self.stated(maker, at) else { return Ok(None) };
                let Some(entry) = stated.get_mut(axis) else { return Ok(None) };
                *entry = wanted.clone();
                let mut inputs: Vec<Option<ValueId>> = node.inputs().to_vec();
                let x = if at == 1 { node.input(0) } else { None };
                // What is expanded may be of that size itself.
                if let Some(x) = x {
                    let lead = dims.len() - self.model.graph.dims(x).map_or(0, <[Dim]>::len);
                    let own = axis.checked_sub(lead).and_then(|a| self.model.graph.dims(x)?.get(a)?.as_const());
                    if own == Some(n) {
                        let Some((x, limit)) = self.grown(id, x, axis - lead, n, wanted, depth + 1)? else {
                            return Ok(None);
                        };
                        inputs[0] = Some(x);
                        let shape = self.builder(id).shape_value(&stated)?;
                        inputs[1] = Some(shape);
                        return self.again(id, &node, inputs).map(|v| Some((v, limit)));
                    }
                }
                let shape = self.builder(id).shape_value(&stated)?;
                inputs[at] = Some(shape);
                self.again(id, &node, inputs).map(|v| Some((v, false)))
            }
            "Tile" => {
                let Some(mut repeats) = self.stated(maker, 1) else { return Ok(None) };
                let own = self.dims(maker, 0).get(axis).and_then(Dim::as_const);
                let (Some(entry), Some(1)) = (repeats.get_mut(axis), own) else { return Ok(None) };
                *entry = wanted.clone();
                let shape = self.builder(id).shape_value(&repeats)?;
                self.again(id, &node, vec![node.input(0), Some(shape)]).map(|v| Some((v, false)))
            }
            "Transpose" => {
                let perm = node.attrs.ints("perm")?.map(<[i64]>::to_vec);
                inner_axis = perm.map_or(dims.len() - 1 - axis, |p| p[axis] as usize);
                self.grown_through(id, &node, &[(0, inner_axis)], n, wanted, depth)
            }
            "Unsqueeze" => {
                let Some(axes) = self.stated(maker, 1) else { return Ok(None) };
                let rank = dims.len() as i64;
                let axes: Vec<i64> =
                    axes.iter().filter_map(Dim::as_const).map(|a| if a < 0 { a + rank } else { a }).collect();
                inner_axis -= axes.iter().filter(|&&a| a < axis as i64).count();
                self.grown_through(id, &node, &[(0, inner_axis)], n, wanted, depth)
            }
            "Cast" | "Not" | "Neg" | "Identity" | "Sigmoid" | "Tanh" | "Relu" | "Sqrt" | "Exp" => {
                self.grown_through(id, &node, &[(0, inner_axis)], n, wanted, depth)
            }
            "Add" | "Sub" | "Mul" | "Div" | "Where" | "Equal" | "And" | "Or" => {
                let mut through = Vec::new();
                for i in 0..node.inputs().len() {
                    let own = self.dims(maker, i);
                    let lead = dims.len() - own.len();
                    if axis >= lead && own[axis - lead].as_const() == Some(n) {
                        through.push((i, axis - lead));
                    }
                }
                self.grown_through(id, &node, &through, n, wanted, depth)
            }
            _ => Ok(None),
        }
    }

    /// The node again, over inputs that have grown.
    pub(super) fn grown_through(
        &mut self,
        id: NodeId,
        node: &oxrt_ir::Node,
        inputs: &[(usize, usize)],
        n: i64,
        wanted: &Dim,
        depth: usize,
    ) -> Result<Option<(ValueId, bool)>> {
        let mut all: Vec<Option<ValueId>> = node.inputs().to_vec();
        let mut limited = false;
        for &(i, axis) in inputs {
            let Some(v) = node.input(i) else { return Ok(None) };
            let Some((v, limit)) = self.grown(id, v, axis, n, wanted, depth + 1)? else { return Ok(None) };
            all[i] = Some(v);
            limited |= limit;
        }
        if inputs.is_empty() {
            return Ok(None);
        }
        self.again(id, node, all).map(|v| Some((v, limited)))
    }

    pub(super) fn again(&mut self, id: NodeId, node: &oxrt_ir::Node, inputs: Vec<Option<ValueId>>) -> Result<ValueId> {
        let mut b = self.builder(id);
        Ok(b.op_multi(&node.op, &inputs, node.attrs.clone(), 1)?[0])
    }

    /// A constant of the example's size: rows that are all alike are one row repeated, rows that rise evenly are
    /// computed, a triangle is drawn anew, of any other table the first rows are taken.
    pub(super) fn grown_constant(
        &mut self,
        id: NodeId,
        t: &Tensor,
        axis: usize,
        n: i64,
        wanted: &Dim,
    ) -> Result<(ValueId, bool)> {
        let shape = t.shape().to_vec();
        let outer: usize = shape[..axis].iter().product();
        let inner: usize = shape[axis + 1..].iter().product();
        let n = n as usize;
        let bytes = t.bytes();
        let plain = t.strings().is_none() && t.dtype().size().is_some();
        let dims: Vec<Dim> = shape.iter().map(|&d| d.into()).collect();
        if plain {
            let size = t.dtype().size().unwrap_or(1);
            let row = |o: usize, i: usize| {
                let at = (o * n + i) * inner * size;
                &bytes[at..at + inner * size]
            };
            let alike = (0..outer).all(|o| (1..n).all(|i| row(o, i) == row(o, 0)));
            let first: Vec<u8> = (0..outer).flat_map(|o| row(o, 0).to_vec()).collect();
            let mut one = shape.clone();
            one[axis] = 1;
            let base = Tensor::from_bytes(t.dtype(), &one, &first)?;
            if alike {
                let mut grown = dims.clone();
                grown[axis] = wanted.clone();
                let mut b = self.builder(id);
                let base = b.constant(base);
                let shape = b.shape_value(&grown)?;
                return Ok((b.call("Expand", &[base, shape])?, false));
            }
            let values = if t.dtype() == DType::Bool { None } else { t.to_f64_vec().ok() };
            if let Some(values) = values {
                let at = |o: usize, i: usize, k: usize| values[(o * n + i) * inner + k];
                let step = |k: usize| at(0, 1, k) - at(0, 0, k);
                let even = (0..outer)
                    .all(|o| (0..n).all(|i| (0..inner).all(|k| at(o, i, k) == at(o, 0, k) + step(k) * i as f64)));
                if even {
                    let one_step = (0..inner).all(|k| step(k) == step(0));
                    let steps: Vec<f64> = if one_step { vec![step(0)] } else { (0..inner).map(step).collect() };
                    let by = if one_step { Vec::new() } else { shape[axis + 1..].to_vec() };
                    let by = Tensor::from_f64(t.dtype(), &by, &steps)?;
                    let mut b = self.builder(id);
                    let places = count(&mut b, wanted)?;
                    let places = b.cast(places, t.dtype())?;
                    let mut column = vec![Dim::Const(1); shape.len() - axis];
                    column[0] = wanted.clone();
                    let places = b.reshape(places, &column)?;
                    let by = b.constant(by);
                    let places = b.call("Mul", &[places, by])?;
                    let base = b.constant(base);
                    return Ok((b.call("Add", &[base, places])?, false));
                }
            }
            // A square: the other axis of the same size, if the two values lie on either side of a diagonal.
            if let Some(v) = self.triangle(id, t, wanted)? {
                return Ok((v, false));
            }
        }
        let mut b = self.builder(id);
        let whole = b.constant(t.clone());
        let (from, to, axes) = (b.ints(&[0]), b.dim_value(wanted)?, b.ints(&[axis as i64]));
        let v = b.call("Slice", &[whole, from, to, axes])?;
        let mut grown = dims;
        grown[axis] = wanted.clone();
        b.graph[v].ty = ValueType::tensor(t.dtype(), grown);
        Ok((v, true))
    }

    /// `[…, n, n]` with one value where `column - row <= k` and another elsewhere.
    pub(super) fn triangle(&mut self, id: NodeId, t: &Tensor, wanted: &Dim) -> Result<Option<ValueId>> {
        let shape = t.shape();
        let r = shape.len();
        if r < 2 || shape[r - 1] != shape[r - 2] || shape[..r - 2].iter().any(|&d| d != 1) {
            return Ok(None);
        }
        let n = shape[r - 1];
        let Ok(values) = t.to_f64_vec() else { return Ok(None) };
        let (corner, other) = (values[(n - 1) * n], values[n - 1]);
        let same = |a: f64, b: f64| a == b || a.is_nan() && b.is_nan();
        if same(corner, other) {
            return Ok(None);
        }
        let k = (0..n).filter(|&c| same(values[c], corner)).count() as i64 - 1;
        let k = if k >= 0 { k } else { -((1..n).take_while(|&row| !same(values[row * n], corner)).count() as i64) - 1 };
        let fits = (0..n).all(|row| {
            (0..n).all(|c| same(values[row * n + c], if c as i64 - row as i64 <= k { corner } else { other }))
        });
        if !fits {
            return Ok(None);
        }
        let mut b = self.builder(id);
        let places = count(&mut b, wanted)?;
        let rows = b.reshape(places, &[wanted.clone(), Dim::Const(1)])?;
        let offset = b.scalar(DType::I64, k as f64)?;
        let edge = b.call("Add", &[rows, offset])?;
        let below = b.call("LessOrEqual", &[places, edge])?;
        let mut v = match t.dtype() {
            DType::Bool if corner != 0.0 => below,
            DType::Bool => b.call("Not", &[below])?,
            dtype => {
                let (yes, no) = (b.scalar(dtype, corner)?, b.scalar(dtype, other)?);
                b.call("Where", &[below, yes, no])?
            }
        };
        if r > 2 {
            let axes: Vec<i64> = (0..r as i64 - 2).collect();
            v = b.unsqueeze(v, &axes)?;
        }
        Ok(Some(v))
    }
}

/// `0 … n-1` as i64.
fn count(b: &mut Builder, n: &Dim) -> Result<ValueId> {
    let (zero, one) = (b.scalar(DType::I64, 0.0)?, b.scalar(DType::I64, 1.0)?);
    let size = b.dim_value(n)?;
    let size = b.squeeze(size, &[0])?;
    let v = b.call("Range", &[zero, size, one])?;
    b.graph[v].ty = ValueType::tensor(DType::I64, vec![n.clone()]);
    Ok(v)
}
