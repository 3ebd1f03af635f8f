//! What `RNN`, `GRU` and `LSTM` share: directions, lengths, layouts, activations.

use crate::activation;
use crate::copy::permute;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::scalar::Program;
use oxrt_ir::{Attrs, Dim};
use oxrt_tensor::{Result, Tensor, bail};

/// A kind of recurrent cell.
pub struct Kind {
    pub gates: usize,
    /// Activations of one direction.
    pub activations: &'static [&'static str],
    /// One step: input part of the gates, then hidden and cell state, which it changes.
    pub step: fn(&Cell, &[f64], &mut [f64], &mut [f64]),
}

/// The weights of one direction.
pub struct Cell {
    pub hidden: usize,
    recurrence: Vec<f64>,
    /// Bias of the recurrence, per gate.
    bias: Vec<f64>,
    pub peepholes: Vec<f64>,
    activations: Vec<Program>,
    clip: f64,
    /// `linear_before_reset` of `GRU`, `input_forget` of `LSTM`.
    pub flag: bool,
}

impl Cell {
    /// R·h + bias of gate `g`.
    pub fn recur(&self, g: usize, h: &[f64]) -> Vec<f64> {
        (g * self.hidden..(g + 1) * self.hidden)
            .map(|row| {
                let weights = &self.recurrence[row * self.hidden..(row + 1) * self.hidden];
                weights.iter().zip(h).map(|(a, b)| a * b).sum::<f64>() + self.bias[row]
            })
            .collect()
    }

    /// The `i`th activation.
    pub fn act(&self, i: usize, x: f64) -> f64 {
        self.activations[i].eval_f64(&[x.clamp(-self.clip, self.clip)], &mut Vec::new())
    }
}

fn directions(attrs: &Attrs) -> Result<&[bool]> {
    Ok(match attrs.string_or("direction", "forward")? {
        "forward" => &[false],
        "reverse" => &[true],
        "bidirectional" => &[false, true],
        other => bail!(invalid, "the direction `{other}` is unknown"),
    })
}

/// Shape rule: Y, Y_h and, where there is one, Y_c.
pub fn infer(ctx: &mut Infer) -> Result<()> {
    let dtype = ctx.dtype(0)?;
    let n = directions(ctx.attrs())?.len();
    let hidden = match (ctx.dims(2), ctx.attrs().get_int("hidden_size")?) {
        (Some([_, _, h]), _) => Some(h.clone()),
        (_, Some(&h)) => Some(Dim::Const(h)),
        _ => None,
    };
    let last = hidden.unwrap_or_else(|| ctx.fresh());
    let (outputs, state) = match ctx.dims(0) {
        Some([a, b, _]) => {
            let (a, b, n) = (a.clone(), b.clone(), Dim::from(n));
            if ctx.attrs().bool_or("layout", false)? {
                (vec![a.clone(), b, n.clone(), last.clone()], vec![a, n, last])
            } else {
                (vec![a, n.clone(), b.clone(), last.clone()], vec![n, b, last])
            }
        }
        Some(other) => bail!(invalid, "the input should have three axes, found {other:?}"),
        None => (ctx.fresh_dims(4), ctx.fresh_dims(3)),
    };
    ctx.set(0, dtype, Some(outputs));
    ctx.set(1, dtype, Some(state.clone()));
    ctx.set(2, dtype, Some(state));
    Ok(())
}

/// Activations of all directions, each taking the numbers it needs from the lists in order.
///
/// # Errors
/// For activations that are unknown or too few.
pub fn activations(attrs: &Attrs, defaults: &[&str], directions: usize) -> Result<Vec<Program>> {
    let names: Vec<String> = match attrs.get_strings("activations")? {
        Some(list) => list.clone(),
        None => defaults.iter().map(|s| s.to_string()).cycle().take(defaults.len() * directions).collect(),
    };
    if names.len() != defaults.len() * directions {
        bail!(invalid, "{} activations for {directions} directions", names.len());
    }
    let lists = [attrs.get_floats("activation_alpha")?, attrs.get_floats("activation_beta")?];
    let [mut alphas, mut betas] = lists.map(|l| l.into_iter().flatten().map(|&x| x as f64));
    let mut programs = Vec::new();
    for name in &names {
        let (name, alpha, beta) = match name.to_ascii_lowercase().as_str() {
            "relu" => ("relu", None, None),
            "tanh" => ("tanh", None, None),
            "sigmoid" => ("sigmoid", None, None),
            "softsign" => ("softsign", None, None),
            "softplus" => ("softplus", None, None),
            "affine" => ("affine", Some(1.0), Some(0.0)),
            "leakyrelu" => ("leaky_relu", Some(0.01), None),
            "thresholdedrelu" => ("thresholded_relu", Some(1.0), None),
            "scaledtanh" => ("scaled_tanh", Some(1.0), Some(1.0)),
            "hardsigmoid" => ("hard_sigmoid", Some(0.2), Some(0.5)),
            "elu" => ("elu", Some(1.0), None),
            other => bail!(unsupported, "the activation `{other}`"),
        };
        let alpha = alpha.map_or(0.0, |default| alphas.next().unwrap_or(default));
        let beta = beta.map_or(0.0, |default| betas.next().unwrap_or(default));
        programs.push(activation::program(name, alpha, beta)?);
    }
    Ok(programs)
}

/// Inputs of all kinds: X, W, R, B, sequence lengths, initial hidden state; of `LSTM` also the initial cell
/// state and peepholes.
pub fn eval(ctx: &Eval, kind: &Kind, flag: &str) -> Result<Vec<Datum>> {
    let attrs = ctx.attrs();
    let batch_first = attrs.bool_or("layout", false)?;
    let swap = |t: &Tensor| if batch_first { permute(t, &[1, 0, 2]) } else { Ok(t.clone()) };
    for i in [0, 1, 2] {
        if ctx.tensor(i)?.rank() != 3 {
            bail!(invalid, "input {i} should have three axes, found {:?}", ctx.tensor(i)?.shape());
        }
    }
    let (x, w, r) = (swap(ctx.tensor(0)?)?, ctx.tensor(1)?, ctx.tensor(2)?);
    let ([length, batch, size], hidden) = ([x.shape()[0], x.shape()[1], x.shape()[2]], r.shape()[2]);
    let ways = directions(attrs)?;
    let (n, rows) = (ways.len(), kind.gates * hidden);
    if w.shape() != [n, rows, size] || r.shape() != [n, rows, hidden] {
        bail!(invalid, "weights {:?} and {:?} for an input of {:?}", w.shape(), r.shape(), x.shape());
    }
    let floats = |i: usize, shape: &[usize], state: bool| -> Result<Vec<f64>> {
        match ctx.opt(i)? {
            None => Ok(vec![0.0; shape.iter().product()]),
            Some(t) => {
                let t = if state && t.rank() == 3 { swap(t)? } else { t.clone() };
                if t.shape() != shape {
                    bail!(invalid, "input {i} should have the shape {shape:?}, found {:?}", t.shape());
                }
                t.to_f64_vec()
            }
        }
    };
    let bias = floats(3, &[n, 2 * rows], false)?;
    let hidden_start = floats(5, &[n, batch, hidden], true)?;
    let cell_start = floats(6, &[n, batch, hidden], true)?;
    let peepholes = floats(7, &[n, 3 * hidden], false)?;
    let lengths = match ctx.ints(4)? {
        Some(l) if l.len() != batch || l.iter().any(|&l| l < 0 || l as usize > length) => {
            bail!(invalid, "the lengths {l:?} do not fit a batch of {batch} and a length of {length}")
        }
        Some(l) => l.iter().map(|&l| l as usize).collect(),
        None => vec![length; batch],
    };
    let programs = activations(attrs, kind.activations, n)?;
    let clip = attrs.get_float("clip")?.map_or(f64::INFINITY, |&c| (c as f64).max(0.0));
    let (x, w, r) = (x.to_f64_vec()?, w.to_f64_vec()?, r.to_f64_vec()?);
    let mut all = vec![0.0; crate::copy::checked_len(&[length, n, batch, hidden])?];
    let (mut last_h, mut last_c) = (Vec::new(), Vec::new());
    for (d, &backwards) in ways.iter().enumerate() {
        let each = kind.activations.len();
        let cell = Cell {
            hidden,
            recurrence: r[d * rows * hidden..(d + 1) * rows * hidden].to_vec(),
            bias: bias[d * 2 * rows + rows..(d + 1) * 2 * rows].to_vec(),
            peepholes: peepholes[d * 3 * hidden..(d + 1) * 3 * hidden].to_vec(),
            activations: programs[d * each..(d + 1) * each].to_vec(),
            clip,
            flag: attrs.bool_or(flag, false)?,
        };
        for b in 0..batch {
            let state = (d * batch + b) * hidden..(d * batch + b + 1) * hidden;
            let (mut h, mut c) = (hidden_start[state.clone()].to_vec(), cell_start[state].to_vec());
            for step in 0..lengths[b] {
                let t = if backwards { lengths[b] - 1 - step } else { step };
                let input = &x[(t * batch + b) * size..(t * batch + b + 1) * size];
                let gates: Vec<f64> = (0..rows)
                    .map(|row| {
                        let weights = &w[(d * rows + row) * size..(d * rows + row + 1) * size];
                        weights.iter().zip(input).map(|(a, b)| a * b).sum::<f64>() + bias[d * 2 * rows + row]
                    })
                    .collect();
                (kind.step)(&cell, &gates, &mut h, &mut c);
                let at = ((t * n + d) * batch + b) * hidden;
                all[at..at + hidden].copy_from_slice(&h);
            }
            last_h.extend(h);
            last_c.extend(c);
        }
    }
    let dtype = ctx.dtype(0)?;
    let y = Tensor::from_f64(dtype, &[length, n, batch, hidden], &all)?;
    let y = if batch_first { permute(&y, &[2, 0, 1, 3])? } else { y };
    let state = |s: &[f64]| -> Result<Datum> { Ok(swap(&Tensor::from_f64(dtype, &[n, batch, hidden], s)?)?.into()) };
    Ok(vec![y.into(), state(&last_h)?, state(&last_c)?])
}
