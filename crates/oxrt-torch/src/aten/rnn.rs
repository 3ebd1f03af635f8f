//! Recurrent layers: LSTM, GRU and plain RNN with the gates in ONNX's order.

use crate::args::Args;
use crate::cx::Cx;
use oxrt_ir::{Attrs, Dim, Tensor, ValueId};
use oxrt_tensor::{Result, bail};

struct Cell {
    op: &'static str,
    /// torch's gate that stands at each place of ONNX's order.
    gates: &'static [usize],
    activations: Option<&'static str>,
}

/// torch: i f g o; ONNX: i o f c.
const LSTM: Cell = Cell { op: "LSTM", gates: &[0, 3, 1, 2], activations: None };
/// torch: r z n; ONNX: z r h.
const GRU: Cell = Cell { op: "GRU", gates: &[1, 0, 2], activations: None };
const RNN_TANH: Cell = Cell { op: "RNN", gates: &[0], activations: Some("Tanh") };
const RNN_RELU: Cell = Cell { op: "RNN", gates: &[0], activations: Some("Relu") };

/// Blocks of rows in another order; constants are reordered here and now.
fn reorder(cx: &mut Cx, v: ValueId, gates: &[usize]) -> Result<ValueId> {
    if gates.len() == 1 {
        return Ok(v);
    }
    let rows = cx.static_size(v, 0, "a recurrent weight")? as usize;
    if !rows.is_multiple_of(gates.len()) {
        bail!(invalid, "{rows} rows for {} gates", gates.len());
    }
    let block = rows / gates.len();
    if let Some(t) = cx.b.graph.constant(v) {
        let bytes = t.bytes();
        let len = bytes.len() / gates.len();
        let moved: Vec<u8> = gates.iter().flat_map(|&g| bytes[g * len..(g + 1) * len].iter().copied()).collect();
        let t = Tensor::from_bytes(t.dtype(), t.shape(), &moved)?;
        return Ok(cx.b.constant(t));
    }
    let parts = (gates.iter())
        .map(|&g| cx.slice(v, 0, &Dim::from(g * block), &Dim::from((g + 1) * block), 1))
        .collect::<Result<Vec<_>>>()?;
    cx.concat(&parts, 0)
}

/// Joins along axis 0; constants here and now.
fn join(cx: &mut Cx, parts: &[ValueId]) -> Result<ValueId> {
    if let [one] = parts {
        return Ok(*one);
    }
    let tensors: Option<Vec<Tensor>> = parts.iter().map(|&v| cx.b.graph.constant(v).cloned()).collect();
    let Some(tensors) = tensors else { return cx.concat(parts, 0) };
    let mut shape = tensors[0].shape().to_vec();
    shape[0] = tensors.iter().map(|t| t.shape()[0]).sum();
    let bytes: Vec<u8> = tensors.iter().flat_map(|t| t.bytes().iter().copied()).collect();
    let t = Tensor::from_bytes(tensors[0].dtype(), &shape, &bytes)?;
    Ok(cx.b.constant(t))
}

/// With a first axis of one.
fn lead(cx: &mut Cx, v: ValueId) -> Result<ValueId> {
    if let Some(t) = cx.b.graph.constant(v) {
        let shape: Vec<usize> = std::iter::once(1).chain(t.shape().iter().copied()).collect();
        let t = t.reshaped(&shape)?;
        return Ok(cx.b.constant(t));
    }
    cx.b.unsqueeze(v, &[0])
}

fn run(cx: &mut Cx, a: &Args, cell: &Cell) -> Result<Vec<ValueId>> {
    let has_cell_state = cell.op == "LSTM";
    // Packed rows of sequences of different lengths come with how many there are at each time.
    let packed = a.has("batch_sizes");
    let (mut x, sequence_lengths) = match packed {
        true => {
            let (x, lengths) = super::packed::unpack(cx, a.t("data")?, a.t("batch_sizes")?)?;
            (x, Some(cx.cast(lengths, oxrt_ir::DType::I32)?))
        }
        false => (a.t("input")?, None),
    };
    let mut states = if has_cell_state { a.ts("hx")? } else { vec![a.t("hx")?] };
    let params = a.ts("params")?;
    let (layers, biases) = (a.int("num_layers")?.max(0) as usize, a.bool("has_biases")?);
    let directions = if a.bool("bidirectional")? { 2 } else { 1 };
    if a.bool("train")? && a.float("dropout")? != 0.0 {
        cx.warn(
            "the model was exported in training mode: dropout is left out (call `model.eval()` before exporting)"
                .into(),
        );
    }
    let per = if biases { 4 } else { 2 };
    if params.len() == layers * directions * (per + 1) && has_cell_state {
        if packed {
            bail!(unsupported, "packed sequences through an LSTM with projections");
        }
        return projected(cx, a, x, &states, &params, layers, directions, biases);
    }
    if params.len() != layers * directions * per || layers == 0 || layers > params.len() || states.is_empty() {
        bail!(invalid, "{} weights for {layers} layers in {directions} directions", params.len());
    }
    let unbatched = cx.rank(x)? == 2;
    let batch_first = !packed && a.bool("batch_first")? && !unbatched;
    if unbatched {
        x = cx.b.unsqueeze(x, &[1])?;
        states = states.into_iter().map(|s| cx.b.unsqueeze(s, &[1])).collect::<Result<_>>()?;
    } else if batch_first {
        x = cx.b.transpose(x, &[1, 0, 2])?;
    }
    let hidden = cx.static_size(params[1], 1, "a recurrent weight")?;
    let mut last: Vec<Vec<ValueId>> = vec![Vec::new(); states.len()];
    for layer in 0..layers {
        let (mut w, mut r, mut b) = (Vec::new(), Vec::new(), Vec::new());
        for direction in 0..directions {
            let at = (layer * directions + direction) * per;
            let p = &params[at..at + per];
            for (list, v) in [(&mut w, p[0]), (&mut r, p[1])] {
                let v = reorder(cx, v, cell.gates)?;
                list.push(lead(cx, v)?);
            }
            if biases {
                let (bi, bh) = (reorder(cx, p[2], cell.gates)?, reorder(cx, p[3], cell.gates)?);
                let both = join(cx, &[bi, bh])?;
                b.push(lead(cx, both)?);
            }
        }
        let (w, r) = (join(cx, &w)?, join(cx, &r)?);
        let b = if biases { Some(join(cx, &b)?) } else { None };
        let (from, to) = (Dim::from(layer * directions), Dim::from((layer + 1) * directions));
        let initial = states.iter().map(|&s| cx.slice(s, 0, &from, &to, 1)).collect::<Result<Vec<_>>>()?;
        let mut inputs = vec![Some(x), Some(w), Some(r), b, sequence_lengths];
        inputs.extend(initial.into_iter().map(Some));
        let mut attrs = Attrs::new().with("hidden_size", hidden);
        if directions == 2 {
            attrs.set("direction", "bidirectional");
        }
        if cell.op == "GRU" {
            attrs.set("linear_before_reset", 1);
        }
        if let Some(f) = cell.activations {
            attrs.set("activations", vec![f.to_string(); directions]);
        }
        let out = cx.b.op_multi(cell.op, &inputs, attrs, 1 + states.len())?;
        // [time, directions, batch, hidden] → [time, batch, directions · hidden]
        x = if directions == 1 {
            cx.b.squeeze(out[0], &[1])?
        } else {
            let y = cx.b.transpose(out[0], &[0, 2, 1, 3])?;
            let dims = cx.dims(y)?;
            cx.reshape(y, &[dims[0].clone(), dims[1].clone(), Dim::from(directions) * hidden])?
        };
        last.iter_mut().zip(&out[1..]).for_each(|(list, &v)| list.push(v));
    }
    if batch_first {
        x = cx.b.transpose(x, &[1, 0, 2])?;
    }
    if packed {
        x = super::packed::repack(cx, x, a.t("batch_sizes")?)?;
    }
    let mut results = vec![x];
    for list in last {
        results.push(cx.concat(&list, 0)?);
    }
    if unbatched {
        results = results.into_iter().map(|v| cx.b.squeeze(v, &[1])).collect::<Result<_>>()?;
    }
    Ok(results)
}

/// `lstm.input(Tensor input, Tensor[] hx, Tensor[] params, bool has_biases, int num_layers, float dropout, bool
/// train, bool bidirectional, bool batch_first) -> (output, h, c)`
pub fn lstm(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    run(cx, a, &LSTM)
}

/// `gru.input(Tensor input, Tensor hx, Tensor[] params, …) -> (output, h)`
pub fn gru(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    run(cx, a, &GRU)
}

/// `rnn_tanh.input(Tensor input, Tensor hx, Tensor[] params, …) -> (output, h)`
pub fn rnn_tanh(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    run(cx, a, &RNN_TANH)
}

/// `rnn_relu.input(Tensor input, Tensor hx, Tensor[] params, …) -> (output, h)`
pub fn rnn_relu(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    run(cx, a, &RNN_RELU)
}

/// Products of input and state with their weights.
fn gates(cx: &mut Cx, a: &Args, h: ValueId) -> Result<(ValueId, ValueId)> {
    let x = super::linear::linear_values(cx, a.t("input")?, a.t("w_ih")?, a.opt_t("b_ih")?)?;
    let y = super::linear::linear_values(cx, h, a.t("w_hh")?, a.opt_t("b_hh")?)?;
    Ok((x, y))
}

fn chunks(cx: &mut Cx, v: ValueId, n: usize) -> Result<Vec<ValueId>> {
    let axis = cx.rank(v)? - 1;
    let size = cx.size(v, axis)?.floor_div(&Dim::from(n));
    (0..n).map(|i| cx.slice(v, axis, &(size.clone() * i as i64), &(size.clone() * (i as i64 + 1)), 1)).collect()
}

/// `lstm_cell(Tensor input, Tensor[] hx, Tensor w_ih, Tensor w_hh, Tensor? b_ih=None, Tensor? b_hh=None) -> (h, c)`
pub fn lstm_cell(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let states = a.ts("hx")?;
    let [h, c] = states[..] else { bail!(invalid, "an LSTM cell with {} states", states.len()) };
    let (x, y) = gates(cx, a, h)?;
    let g = cx.call("Add", &[x, y])?;
    let parts = chunks(cx, g, 4)?;
    let (i, f, o) =
        (cx.call("Sigmoid", &[parts[0]])?, cx.call("Sigmoid", &[parts[1]])?, cx.call("Sigmoid", &[parts[3]])?);
    let g = cx.call("Tanh", &[parts[2]])?;
    let (kept, new) = (cx.call("Mul", &[f, c])?, cx.call("Mul", &[i, g])?);
    let c = cx.call("Add", &[kept, new])?;
    let t = cx.call("Tanh", &[c])?;
    Ok(vec![cx.call("Mul", &[o, t])?, c])
}

/// `gru_cell(Tensor input, Tensor hx, Tensor w_ih, Tensor w_hh, Tensor? b_ih=None, Tensor? b_hh=None)`
pub fn gru_cell(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let h = a.t("hx")?;
    let (x, y) = gates(cx, a, h)?;
    let (x, y) = (chunks(cx, x, 3)?, chunks(cx, y, 3)?);
    let r = cx.call("Add", &[x[0], y[0]])?;
    let r = cx.call("Sigmoid", &[r])?;
    let z = cx.call("Add", &[x[1], y[1]])?;
    let z = cx.call("Sigmoid", &[z])?;
    let n = cx.call("Mul", &[r, y[2]])?;
    let n = cx.call("Add", &[x[2], n])?;
    let n = cx.call("Tanh", &[n])?;
    let d = cx.call("Sub", &[h, n])?;
    let d = cx.call("Mul", &[z, d])?;
    cx.call("Add", &[n, d])
}

fn plain_cell(cx: &mut Cx, a: &Args, activation: &str) -> Result<ValueId> {
    let (x, y) = gates(cx, a, a.t("hx")?)?;
    let s = cx.call("Add", &[x, y])?;
    cx.call(activation, &[s])
}

/// `rnn_tanh_cell(Tensor input, Tensor hx, Tensor w_ih, Tensor w_hh, Tensor? b_ih=None, Tensor? b_hh=None)`
pub fn rnn_tanh_cell(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    plain_cell(cx, a, "Tanh")
}

/// `rnn_relu_cell(Tensor input, Tensor hx, Tensor w_ih, Tensor w_hh, Tensor? b_ih=None, Tensor? b_hh=None)`
pub fn rnn_relu_cell(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    plain_cell(cx, a, "Relu")
}

/// An LSTM whose hidden state is projected (`proj_size`), which ONNX's LSTM does not know: a `Scan` over time.
#[allow(clippy::too_many_arguments)]
fn projected(
    cx: &mut Cx,
    a: &Args,
    mut x: ValueId,
    states: &[ValueId],
    params: &[ValueId],
    layers: usize,
    directions: usize,
    biases: bool,
) -> Result<Vec<ValueId>> {
    let [h0, c0] = states[..] else { bail!(invalid, "an LSTM with {} states", states.len()) };
    let unbatched = cx.rank(x)? == 2;
    let batch_first = a.bool("batch_first")? && !unbatched;
    let (mut h0, mut c0) = (h0, c0);
    if unbatched {
        x = cx.b.unsqueeze(x, &[1])?;
        (h0, c0) = (cx.b.unsqueeze(h0, &[1])?, cx.b.unsqueeze(c0, &[1])?);
    } else if batch_first {
        x = cx.b.transpose(x, &[1, 0, 2])?;
    }
    let per = if biases { 5 } else { 3 };
    let (mut last_h, mut last_c) = (Vec::new(), Vec::new());
    for layer in 0..layers {
        let mut sides = Vec::new();
        for direction in 0..directions {
            let index = layer * directions + direction;
            let p = &params[index * per..(index + 1) * per];
            let hidden = cx.static_size(p[1], 0, "a recurrent weight")? / 4;
            let at = cx.b.scalar(oxrt_ir::DType::I64, index as f64)?;
            let first = |cx: &mut Cx, v: ValueId| cx.op("Gather", &[v, at], Attrs::new().with("axis", 0));
            let (h, c) = (first(cx, h0)?, first(cx, c0)?);
            let turned = |cx: &mut Cx, v: ValueId| cx.b.transpose(v, &[1, 0]);
            let (w, r, proj) = (turned(cx, p[0])?, turned(cx, p[1])?, turned(cx, p[per - 1])?);
            // What does not depend on the state is computed for all times at once.
            let mut gates = cx.call("MatMul", &[x, w])?;
            if biases {
                let both = cx.call("Add", &[p[2], p[3]])?;
                gates = cx.call("Add", &[gates, both])?;
            }
            let out = super::hop::scan_values(
                cx,
                "lstm",
                &[h, c],
                &[gates],
                &[r, proj],
                direction == 1,
                |cx, state, gates, held| {
                    let recurrent = cx.call("MatMul", &[state[0], held[0]])?;
                    let sum = cx.call("Add", &[gates[0], recurrent])?;
                    let gate = |cx: &mut Cx, k: i64, f: &str| -> Result<ValueId> {
                        let part = cx.slice(sum, 1, &Dim::Const(k * hidden), &Dim::Const((k + 1) * hidden), 1)?;
                        cx.call(f, &[part])
                    };
                    let (i, f) = (gate(cx, 0, "Sigmoid")?, gate(cx, 1, "Sigmoid")?);
                    let (g, o) = (gate(cx, 2, "Tanh")?, gate(cx, 3, "Sigmoid")?);
                    let (kept, new) = (cx.call("Mul", &[f, state[1]])?, cx.call("Mul", &[i, g])?);
                    let c = cx.call("Add", &[kept, new])?;
                    let shown = cx.call("Tanh", &[c])?;
                    let h = cx.call("Mul", &[o, shown])?;
                    let h = cx.call("MatMul", &[h, held[1]])?;
                    Ok(vec![h, c, h])
                },
            )?;
            last_h.push(cx.b.unsqueeze(out[0], &[0])?);
            last_c.push(cx.b.unsqueeze(out[1], &[0])?);
            sides.push(out[2]);
        }
        x = cx.concat(&sides, 2)?;
    }
    let (mut h, mut c) = (cx.concat(&last_h, 0)?, cx.concat(&last_c, 0)?);
    if unbatched {
        (x, h, c) = (cx.b.squeeze(x, &[1])?, cx.b.squeeze(h, &[1])?, cx.b.squeeze(c, &[1])?);
    } else if batch_first {
        x = cx.b.transpose(x, &[1, 0, 2])?;
    }
    Ok(vec![x, h, c])
}
