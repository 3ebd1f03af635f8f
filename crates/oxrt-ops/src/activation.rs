//! Activation functions by name, as scalar instructions: for their own operators, for the epilogues of
//! fused operators, and for recurrent networks.

use crate::scalar::{Binary, Emit, Program, Reg, Unary};
use oxrt_ir::Attrs;
use oxrt_tensor::{Result, Tensor, bail};

/// Emits the activation `name` of `x`. What `alpha` and `beta` mean depends on the function.
pub fn emit(e: &mut Emit, name: &str, alpha: f64, beta: f64, x: Reg) -> Result<Reg> {
    use Binary::*;
    Ok(match name {
        "none" => x,
        "relu" => e.bin_c(Max, x, 0.0),
        // Limits of an int8 or of ReLU6: alpha to beta.
        "clip" => {
            let low = e.bin_c(Max, x, alpha);
            e.bin_c(Min, low, beta)
        }
        "leaky_relu" => {
            let scaled = e.bin_c(Mul, x, alpha);
            negative_or(e, x, scaled)
        }
        "elu" => {
            let rest = exp_minus_one(e, x);
            let scaled = e.bin_c(Mul, rest, alpha);
            negative_or(e, x, scaled)
        }
        "thresholded_relu" => {
            let above = e.bin_c(Gt, x, alpha);
            let zero = e.c(0.0);
            e.select(above, x, zero)
        }
        "sigmoid" => e.un(Unary::Sigmoid, x),
        "silu" => {
            let gate = e.un(Unary::Sigmoid, x);
            e.bin(Mul, x, gate)
        }
        // x · sigmoid(alpha · x)
        "swish" => {
            let scaled = e.bin_c(Mul, x, alpha);
            let gate = e.un(Unary::Sigmoid, scaled);
            e.bin(Mul, x, gate)
        }
        "affine" => {
            let scaled = e.bin_c(Mul, x, alpha);
            e.bin_c(Add, scaled, beta)
        }
        "hard_sigmoid" => {
            let line = emit(e, "affine", alpha, beta, x)?;
            emit(e, "clip", 0.0, 1.0, line)?
        }
        "hard_swish" => {
            let gate = emit(e, "hard_sigmoid", 1.0 / 6.0, 0.5, x)?;
            e.bin(Mul, x, gate)
        }
        "tanh" => e.un(Unary::Tanh, x),
        // alpha · tanh(beta · x)
        "scaled_tanh" => {
            let inner = e.bin_c(Mul, x, beta);
            let t = e.un(Unary::Tanh, inner);
            e.bin_c(Mul, t, alpha)
        }
        "softsign" => {
            let size = e.un(Unary::Abs, x);
            let below = e.bin_c(Add, size, 1.0);
            e.bin(Div, x, below)
        }
        // max(x, 0) + log(1 + exp(-|x|)), which does not overflow.
        "softplus" => {
            let size = e.un(Unary::Abs, x);
            let minus = e.un(Unary::Neg, size);
            let small = e.un(Unary::Exp, minus);
            let one = e.bin_c(Add, small, 1.0);
            let log = e.un(Unary::Log, one);
            let high = e.bin_c(Max, x, 0.0);
            e.bin(Add, high, log)
        }
        "mish" => {
            let soft = emit(e, "softplus", 0.0, 0.0, x)?;
            let gate = e.un(Unary::Tanh, soft);
            e.bin(Mul, x, gate)
        }
        "gelu" => {
            let scaled = e.bin_c(Mul, x, std::f64::consts::FRAC_1_SQRT_2);
            let erf = e.un(Unary::Erf, scaled);
            half_of_one_plus(e, x, erf)
        }
        "gelu_tanh" => {
            let square = e.bin(Mul, x, x);
            let cube = e.bin(Mul, square, x);
            let small = e.bin_c(Mul, cube, 0.044715);
            let sum = e.bin(Add, x, small);
            let inner = e.bin_c(Mul, sum, std::f64::consts::FRAC_2_PI.sqrt());
            let t = e.un(Unary::Tanh, inner);
            half_of_one_plus(e, x, t)
        }
        _ => bail!(unsupported, "the activation `{name}`"),
    })
}

/// The activation that the attributes of a fused operator name.
pub fn emit_attrs(e: &mut Emit, attrs: &Attrs, x: Reg) -> Result<Reg> {
    let (alpha, beta) = (attrs.float_or("act_alpha", 0.0)?, attrs.float_or("act_beta", 0.0)?);
    emit(e, attrs.string_or("activation", "none")?, alpha as f64, beta as f64, x)
}

/// Ends a fused operator: adds the residual and applies the activation of the attributes.
pub fn epilogue(data: &mut [f64], residual: Option<&Tensor>, shape: &[usize], attrs: &Attrs) -> Result<()> {
    if let Some(r) = residual {
        if r.shape() != shape {
            bail!(invalid, "a residual of shape {:?} for a result of shape {shape:?}", r.shape());
        }
        data.iter_mut().zip(r.to_f64_vec()?).for_each(|(v, r)| *v += r);
    }
    let mut e = Emit::default();
    let x = e.input(0);
    let y = emit_attrs(&mut e, attrs, x)?;
    let program = e.finish(y);
    let mut scratch = Vec::new();
    data.iter_mut().for_each(|v| *v = program.eval_f64(&[*v], &mut scratch));
    Ok(())
}

/// An activation as a program of one input.
pub fn program(name: &str, alpha: f64, beta: f64) -> Result<Program> {
    let mut e = Emit::default();
    let x = e.input(0);
    let y = emit(&mut e, name, alpha, beta, x)?;
    Ok(e.finish(y))
}

/// `below` where x < 0, else x.
fn negative_or(e: &mut Emit, x: Reg, below: Reg) -> Reg {
    let negative = e.bin_c(Binary::Lt, x, 0.0);
    e.select(negative, below, x)
}

pub fn exp_minus_one(e: &mut Emit, x: Reg) -> Reg {
    let exp = e.un(Unary::Exp, x);
    e.bin_c(Binary::Sub, exp, 1.0)
}

/// x · (1 + t) / 2
fn half_of_one_plus(e: &mut Emit, x: Reg, t: Reg) -> Reg {
    let one = e.bin_c(Binary::Add, t, 1.0);
    let half = e.bin_c(Binary::Mul, x, 0.5);
    e.bin(Binary::Mul, half, one)
}
