//! The little language of elementwise operators.
//!
//! An elementwise operator states what happens to one element as a [`Program`]: a list of instructions
//! in single-assignment form. The reference evaluator runs it in f64 (or i64 for integers); backends
//! compile it; the fusion pass glues programs together.
//!
//! Text form, one instruction after another, registers numbered from 0:
//! `in 0; const 6; max 0 1` and so on.

use crate::eval::{Datum, Eval};
use crate::shape::broadcast_shapes;
use oxrt_ir::{Attrs, Node};
use oxrt_tensor::{DType, Error, Result, Tensor, bail, strides_of};
use std::fmt;

/// Result of an earlier instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reg(pub u16);

impl Reg {
    /// Stands for an optional input that is absent.
    pub const ABSENT: Reg = Reg(u16::MAX);

    pub fn is_present(self) -> bool {
        self != Reg::ABSENT
    }
}

macro_rules! ops {
    ($(#[$doc:meta])* $name:ident { $($variant:ident $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($variant),* }
        impl $name {
            pub const ALL: &'static [$name] = &[$($name::$variant),*];
            pub fn text(self) -> &'static str { match self { $($name::$variant => $text),* } }
        }
        impl std::str::FromStr for $name {
            type Err = ();
            fn from_str(s: &str) -> std::result::Result<Self, ()> {
                match s { $($text => Ok($name::$variant),)* _ => Err(()) }
            }
        }
    };
}

ops! {
    /// Instructions of one operand. `Round` goes to even; `Not` is logical; `BitNot` is for integers.
    Unary {
        Neg "neg", Abs "abs", Sign "sign", Recip "recip", Sqrt "sqrt", Rsqrt "rsqrt", Exp "exp", Log "log",
        Floor "floor", Ceil "ceil", Round "round", Trunc "trunc", Erf "erf", Sigmoid "sigmoid", Tanh "tanh",
        Sin "sin", Cos "cos", Tan "tan", Asin "asin", Acos "acos", Atan "atan",
        Sinh "sinh", Cosh "cosh", Asinh "asinh", Acosh "acosh", Atanh "atanh",
        Not "not", BitNot "bitnot", IsNan "isnan", IsInf "isinf",
    }
}

ops! {
    /// Instructions of two operands. `Min`/`Max` give NaN when either is NaN. `Div` truncates and `Shl`,
    /// `Shr`, bitwise ones work on integers; `Mod` has the sign of the divisor, `Fmod` of the dividend.
    /// Comparisons give 1 or 0.
    Binary {
        Add "add", Sub "sub", Mul "mul", Div "div", Min "min", Max "max", Pow "pow", Mod "mod", Fmod "fmod",
        Lt "lt", Le "le", Gt "gt", Ge "ge", Eq "eq", Ne "ne", And "and", Or "or", Xor "xor",
        BitAnd "bitand", BitOr "bitor", BitXor "bitxor", Shl "shl", Shr "shr", Atan2 "atan2",
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Instr {
    /// Element of input `i` of the node.
    Input(u16),
    Const(f64),
    Unary(Unary, Reg),
    Binary(Binary, Reg, Reg),
    /// `if a != 0 { b } else { c }`
    Select(Reg, Reg, Reg),
}

/// Instructions in order; the last one is the result.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Program {
    pub instrs: Vec<Instr>,
}

/// Writes a program. Equal instructions are shared.
#[derive(Default)]
pub struct Emit {
    instrs: Vec<Instr>,
}

impl Emit {
    pub fn push(&mut self, instr: Instr) -> Reg {
        let bits = |i: &Instr| match i {
            Instr::Const(c) => Some(c.to_bits()),
            _ => None,
        };
        let same =
            |i: &Instr| if bits(i).is_some() || bits(&instr).is_some() { bits(i) == bits(&instr) } else { *i == instr };
        let at = self.instrs.iter().position(same).unwrap_or_else(|| {
            self.instrs.push(instr);
            self.instrs.len() - 1
        });
        Reg(at as u16)
    }

    pub fn input(&mut self, i: usize) -> Reg {
        self.push(Instr::Input(i as u16))
    }

    pub fn c(&mut self, value: f64) -> Reg {
        self.push(Instr::Const(value))
    }

    pub fn un(&mut self, op: Unary, a: Reg) -> Reg {
        self.push(Instr::Unary(op, a))
    }

    pub fn bin(&mut self, op: Binary, a: Reg, b: Reg) -> Reg {
        self.push(Instr::Binary(op, a, b))
    }

    /// `op(a, constant)`
    pub fn bin_c(&mut self, op: Binary, a: Reg, b: f64) -> Reg {
        let b = self.c(b);
        self.bin(op, a, b)
    }

    pub fn select(&mut self, cond: Reg, yes: Reg, no: Reg) -> Reg {
        self.push(Instr::Select(cond, yes, no))
    }

    /// Inlines another program, whose inputs become `args`.
    pub fn inline(&mut self, program: &Program, args: &[Reg]) -> Reg {
        let mut map: Vec<Reg> = Vec::with_capacity(program.instrs.len());
        for instr in &program.instrs {
            let r = |r: Reg| map[r.0 as usize];
            let reg = match *instr {
                Instr::Input(i) => args[i as usize],
                Instr::Const(c) => self.c(c),
                Instr::Unary(op, a) => self.un(op, r(a)),
                Instr::Binary(op, a, b) => self.bin(op, r(a), r(b)),
                Instr::Select(a, b, c) => self.select(r(a), r(b), r(c)),
            };
            map.push(reg);
        }
        *map.last().expect("a program is not empty")
    }

    /// The program whose result is `result`, without what it does not need.
    pub fn finish(self, result: Reg) -> Program {
        let mut needed = vec![false; self.instrs.len()];
        needed[result.0 as usize] = true;
        for i in (0..self.instrs.len()).rev() {
            if needed[i] {
                self.instrs[i].operands().for_each(|r| needed[r.0 as usize] = true);
            }
        }
        let mut map = vec![Reg(0); self.instrs.len()];
        let mut instrs = Vec::new();
        for (i, instr) in self.instrs.iter().enumerate().take(result.0 as usize + 1) {
            if needed[i] {
                map[i] = Reg(instrs.len() as u16);
                instrs.push(instr.renamed(|r| map[r.0 as usize]));
            }
        }
        Program { instrs }
    }
}

impl Instr {
    pub fn operands(&self) -> impl Iterator<Item = Reg> + use<> {
        let list = match *self {
            Instr::Input(_) | Instr::Const(_) => [None; 3],
            Instr::Unary(_, a) => [Some(a), None, None],
            Instr::Binary(_, a, b) => [Some(a), Some(b), None],
            Instr::Select(a, b, c) => [Some(a), Some(b), Some(c)],
        };
        list.into_iter().flatten()
    }

    fn renamed(&self, r: impl Fn(Reg) -> Reg) -> Instr {
        match *self {
            Instr::Unary(op, a) => Instr::Unary(op, r(a)),
            Instr::Binary(op, a, b) => Instr::Binary(op, r(a), r(b)),
            Instr::Select(a, b, c) => Instr::Select(r(a), r(b), r(c)),
            other => other,
        }
    }
}

impl Program {
    /// The program of one operator of `inputs` inputs.
    pub fn of(scalar: crate::def::ScalarFn, attrs: &Attrs, inputs: usize) -> Result<Program> {
        let mut e = Emit::default();
        let args: Vec<Reg> = (0..inputs).map(|i| e.input(i)).collect();
        let result = scalar(&mut e, attrs, &args)?;
        Ok(e.finish(result))
    }

    /// The program of a node; an absent input is [`Reg::ABSENT`] to the operator. `None` when the
    /// operator is not elementwise.
    pub fn of_node(node: &Node) -> Result<Option<Program>> {
        let Some(scalar) = crate::registry::find(&node.op).and_then(|op| op.scalar) else { return Ok(None) };
        let mut e = Emit::default();
        let args: Vec<Reg> =
            node.inputs().iter().enumerate().map(|(i, v)| v.map_or(Reg::ABSENT, |_| e.input(i))).collect();
        let result = scalar(&mut e, &node.attrs, &args)?;
        if !result.is_present() || e.instrs.iter().any(|i| i.operands().any(|r| !r.is_present())) {
            bail!(invalid, "a required input is missing");
        }
        Ok(Some(e.finish(result)))
    }

    /// Value for one element of each input, in f64.
    pub fn eval_f64(&self, inputs: &[f64], scratch: &mut Vec<f64>) -> f64 {
        scratch.clear();
        for instr in &self.instrs {
            let r = |r: Reg| scratch[r.0 as usize];
            let v = match *instr {
                Instr::Input(i) => inputs[i as usize],
                Instr::Const(c) => c,
                Instr::Unary(op, a) => unary_f64(op, r(a)),
                Instr::Binary(op, a, b) => binary_f64(op, r(a), r(b)),
                Instr::Select(a, b, c) => {
                    if r(a) != 0.0 {
                        r(b)
                    } else {
                        r(c)
                    }
                }
            };
            scratch.push(v);
        }
        scratch[scratch.len() - 1]
    }

    /// Value for one element of each input, in i64 with wrapping arithmetic.
    pub fn eval_i64(&self, inputs: &[i64], unsigned: bool, scratch: &mut Vec<i64>) -> Result<i64> {
        scratch.clear();
        for instr in &self.instrs {
            let r = |r: Reg| scratch[r.0 as usize];
            let v = match *instr {
                Instr::Input(i) => inputs[i as usize],
                Instr::Const(c) => c as i64,
                Instr::Unary(op, a) => unary_i64(op, r(a), unsigned)?,
                Instr::Binary(op, a, b) => binary_i64(op, r(a), r(b), unsigned)?,
                Instr::Select(a, b, c) => {
                    if r(a) != 0 {
                        r(b)
                    } else {
                        r(c)
                    }
                }
            };
            scratch.push(v);
        }
        Ok(scratch[scratch.len() - 1])
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, instr) in self.instrs.iter().enumerate() {
            if i > 0 {
                write!(f, "; ")?;
            }
            match instr {
                Instr::Input(i) => write!(f, "in {i}")?,
                Instr::Const(c) => write!(f, "const {c:?}")?,
                Instr::Unary(op, a) => write!(f, "{} {}", op.text(), a.0)?,
                Instr::Binary(op, a, b) => write!(f, "{} {} {}", op.text(), a.0, b.0)?,
                Instr::Select(a, b, c) => write!(f, "select {} {} {}", a.0, b.0, c.0)?,
            }
        }
        Ok(())
    }
}

impl std::str::FromStr for Program {
    type Err = Error;

    fn from_str(text: &str) -> Result<Program> {
        let mut instrs = Vec::new();
        for (at, part) in text.split(';').enumerate() {
            let words: Vec<&str> = part.split_whitespace().collect();
            let bad = || Error::invalid(format!("bad scalar instruction `{}`", part.trim()));
            let reg = |i: usize| -> Result<Reg> {
                let r: u16 = words.get(i).and_then(|w| w.parse().ok()).ok_or_else(bad)?;
                if (r as usize) < at { Ok(Reg(r)) } else { Err(bad()) }
            };
            let instr = match (words.first().copied().unwrap_or(""), words.len()) {
                ("in", 2) => Instr::Input(words[1].parse().map_err(|_| bad())?),
                ("const", 2) => Instr::Const(words[1].parse().map_err(|_| bad())?),
                ("select", 4) => Instr::Select(reg(1)?, reg(2)?, reg(3)?),
                (op, 2) => Instr::Unary(op.parse().map_err(|()| bad())?, reg(1)?),
                (op, 3) => Instr::Binary(op.parse().map_err(|()| bad())?, reg(1)?, reg(2)?),
                _ => return Err(bad()),
            };
            instrs.push(instr);
        }
        Ok(Program { instrs })
    }
}

pub fn unary_f64(op: Unary, x: f64) -> f64 {
    match op {
        Unary::Neg => -x,
        Unary::Abs => x.abs(),
        Unary::Sign => {
            if x > 0.0 {
                1.0
            } else if x < 0.0 {
                -1.0
            } else {
                x
            }
        }
        Unary::Recip => 1.0 / x,
        Unary::Sqrt => x.sqrt(),
        Unary::Rsqrt => 1.0 / x.sqrt(),
        Unary::Exp => x.exp(),
        Unary::Log => x.ln(),
        Unary::Floor => x.floor(),
        Unary::Ceil => x.ceil(),
        Unary::Round => x.round_ties_even(),
        Unary::Trunc => x.trunc(),
        Unary::Erf => erf(x),
        Unary::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Unary::Tanh => x.tanh(),
        Unary::Sin => x.sin(),
        Unary::Cos => x.cos(),
        Unary::Tan => x.tan(),
        Unary::Asin => x.asin(),
        Unary::Acos => x.acos(),
        Unary::Atan => x.atan(),
        Unary::Sinh => x.sinh(),
        Unary::Cosh => x.cosh(),
        Unary::Asinh => x.asinh(),
        Unary::Acosh => x.acosh(),
        Unary::Atanh => x.atanh(),
        Unary::Not => (x == 0.0) as u8 as f64,
        Unary::BitNot => !(x as i64) as f64,
        Unary::IsNan => x.is_nan() as u8 as f64,
        Unary::IsInf => x.is_infinite() as u8 as f64,
    }
}

pub fn binary_f64(op: Binary, a: f64, b: f64) -> f64 {
    let truth = |t: bool| t as u8 as f64;
    match op {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div => a / b,
        Binary::Min => {
            if a.is_nan() || b.is_nan() {
                f64::NAN
            } else {
                a.min(b)
            }
        }
        Binary::Max => {
            if a.is_nan() || b.is_nan() {
                f64::NAN
            } else {
                a.max(b)
            }
        }
        Binary::Pow => a.powf(b),
        Binary::Mod => {
            if b.is_infinite() && a.is_finite() {
                if a == 0.0 || (a < 0.0) == (b < 0.0) { a } else { b }
            } else {
                let r = a % b;
                if r != 0.0 && (r < 0.0) != (b < 0.0) { r + b } else { r }
            }
        }
        Binary::Fmod => a % b,
        Binary::Lt => truth(a < b),
        Binary::Le => truth(a <= b),
        Binary::Gt => truth(a > b),
        Binary::Ge => truth(a >= b),
        Binary::Eq => truth(a == b),
        Binary::Ne => truth(a != b),
        Binary::And => truth(a != 0.0 && b != 0.0),
        Binary::Or => truth(a != 0.0 || b != 0.0),
        Binary::Xor => truth((a != 0.0) != (b != 0.0)),
        Binary::BitAnd => (a as i64 & b as i64) as f64,
        Binary::BitOr => (a as i64 | b as i64) as f64,
        Binary::BitXor => (a as i64 ^ b as i64) as f64,
        Binary::Shl => (a as i64).checked_shl(b as u32).unwrap_or(0) as f64,
        Binary::Shr => (a as i64).checked_shr(b as u32).unwrap_or(0) as f64,
        Binary::Atan2 => a.atan2(b),
    }
}

fn unary_i64(op: Unary, x: i64, unsigned: bool) -> Result<i64> {
    Ok(match op {
        Unary::Abs if unsigned => x,
        Unary::Sign if unsigned => (x != 0) as i64,
        Unary::Neg => x.wrapping_neg(),
        Unary::Abs => x.wrapping_abs(),
        Unary::Sign => x.signum(),
        Unary::Not => (x == 0) as i64,
        Unary::BitNot => !x,
        Unary::Floor | Unary::Ceil | Unary::Round | Unary::Trunc => x,
        Unary::IsNan | Unary::IsInf => 0,
        other => unary_f64(other, x as f64) as i64,
    })
}

fn binary_i64(op: Binary, a: i64, b: i64, unsigned: bool) -> Result<i64> {
    let zero = || Error::invalid("integer division by zero");
    let less = |a: i64, b: i64| if unsigned { (a as u64) < b as u64 } else { a < b };
    Ok(match op {
        Binary::Add => a.wrapping_add(b),
        Binary::Sub => a.wrapping_sub(b),
        Binary::Mul => a.wrapping_mul(b),
        Binary::Div | Binary::Mod | Binary::Fmod if b == 0 => return Err(zero()),
        Binary::Div if unsigned => (a as u64 / b as u64) as i64,
        Binary::Div => a.wrapping_div(b),
        Binary::Mod | Binary::Fmod if unsigned => (a as u64 % b as u64) as i64,
        Binary::Mod => {
            let r = a.wrapping_rem(b);
            if r != 0 && (r < 0) != (b < 0) { r + b } else { r }
        }
        Binary::Fmod => a.wrapping_rem(b),
        Binary::Min => {
            if less(b, a) {
                b
            } else {
                a
            }
        }
        Binary::Max => {
            if less(a, b) {
                b
            } else {
                a
            }
        }
        Binary::Pow if b >= 0 => a.wrapping_pow(u32::try_from(b).unwrap_or(u32::MAX)),
        Binary::Pow => (a as f64).powf(b as f64) as i64,
        Binary::Lt => less(a, b) as i64,
        Binary::Le => !less(b, a) as i64,
        Binary::Gt => less(b, a) as i64,
        Binary::Ge => !less(a, b) as i64,
        Binary::Eq => (a == b) as i64,
        Binary::Ne => (a != b) as i64,
        Binary::And => (a != 0 && b != 0) as i64,
        Binary::Or => (a != 0 || b != 0) as i64,
        Binary::Xor => ((a != 0) != (b != 0)) as i64,
        Binary::BitAnd => a & b,
        Binary::BitOr => a | b,
        Binary::BitXor => a ^ b,
        Binary::Shl => {
            if (0..64).contains(&b) {
                a << b
            } else {
                0
            }
        }
        Binary::Shr if !(0..64).contains(&b) => {
            if a < 0 && !unsigned {
                -1
            } else {
                0
            }
        }
        Binary::Shr if unsigned => (a as u64 >> b) as i64,
        Binary::Shr => a >> b,
        Binary::Atan2 => binary_f64(op, a as f64, b as f64) as i64,
    })
}

/// erf to f64 accuracy: Taylor series of the Kummer function inside, continued fraction outside.
/// Abramowitz and Stegun 7.1.6 and 7.1.14.
pub fn erf(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    let z = x.abs();
    if z > 6.0 {
        return 1f64.copysign(x);
    }
    if z < 2.5 {
        // erf z = 2/sqrt(pi) e^(-z²) Σ 2^n z^(2n+1) / (1·3·…·(2n+1))
        let (mut term, mut sum, mut n) = (z, z, 0.0);
        while term > sum * 1e-17 {
            n += 1.0;
            term *= 2.0 * z * z / (2.0 * n + 1.0);
            sum += term;
        }
        return (std::f64::consts::FRAC_2_SQRT_PI * (-z * z).exp() * sum).copysign(x);
    }
    // erfc z = e^(-z²)/sqrt(pi) · 1/(z + (1/2)/(z + 1/(z + (3/2)/(z + …))))
    let fraction = (1..60).rev().fold(z, |f, k| z + k as f64 / 2.0 / f);
    (1.0 - (-z * z).exp() / (fraction * std::f64::consts::PI.sqrt())).copysign(x)
}

/// Evaluates an elementwise node by its scalar program, broadcasting its inputs.
pub fn eval_node(ctx: &Eval) -> Result<Vec<Datum>> {
    eval_node_as(ctx, None)
}

/// The same with a bool result.
pub fn eval_predicate(ctx: &Eval) -> Result<Vec<Datum>> {
    eval_node_as(ctx, Some(DType::Bool))
}

/// The same with a result of type `out` (`None`: the type of the last input).
pub fn eval_node_as(ctx: &Eval, out: Option<DType>) -> Result<Vec<Datum>> {
    let program = Program::of_node(ctx.node)?;
    let mut program = program.ok_or_else(|| Error::bug("an elementwise operator without scalar program"))?;
    // Inputs are numbered without the absent ones from here on.
    let mut inputs = Vec::new();
    let mut place = vec![0; ctx.inputs.len()];
    for i in 0..ctx.inputs.len() {
        place[i] = inputs.len() as u16;
        inputs.extend(ctx.opt(i)?);
    }
    for instr in &mut program.instrs {
        if let Instr::Input(i) = instr {
            *i = place[*i as usize];
        }
    }
    Ok(vec![eval_program(&program, &inputs, out)?.into()])
}

/// Runs a program over broadcast tensors. The result has the type of the last input of non-bool type
/// (so `Where` follows its branches), unless `out` says otherwise.
pub fn eval_program(program: &Program, inputs: &[&Tensor], out: Option<DType>) -> Result<Tensor> {
    let shapes: Vec<&[usize]> = inputs.iter().map(|t| t.shape()).collect();
    let shape = broadcast_shapes(&shapes)?;
    let dtype = out.unwrap_or_else(|| inputs.last().map_or(DType::F32, |t| t.dtype()));
    let n = oxrt_tensor::num_elements(&shape)?;
    let integers = !dtype.is_float() && inputs.iter().all(|t| t.dtype().is_int() || t.dtype() == DType::Bool);
    if integers {
        let data: Vec<Vec<i64>> = inputs.iter().map(|t| t.to_i64_vec()).collect::<Result<_>>()?;
        let unsigned = inputs.iter().any(|t| t.dtype() == DType::U64);
        let mut scratch = Vec::new();
        let mut values = Vec::with_capacity(n);
        broadcast_each(&shape, &shapes, |at| {
            let args: Vec<i64> = data.iter().zip(at).map(|(d, &i)| d[i]).collect();
            values.push(program.eval_i64(&args, unsigned, &mut scratch)?);
            Ok(())
        })?;
        return Tensor::from_i64(dtype, &shape, &values);
    }
    let data: Vec<Vec<f64>> = inputs.iter().map(|t| t.to_f64_vec()).collect::<Result<_>>()?;
    let mut scratch = Vec::new();
    let mut args = vec![0.0; data.len()];
    let mut values = Vec::with_capacity(n);
    broadcast_each(&shape, &shapes, |at| {
        args.iter_mut().zip(&data).zip(at).for_each(|((a, d), &i)| *a = d[i]);
        values.push(program.eval_f64(&args, &mut scratch));
        Ok(())
    })?;
    Tensor::from_f64(dtype, &shape, &values)
}

/// Calls `f` with the offset into each input for every element of the broadcast shape, in order.
pub fn broadcast_each(shape: &[usize], inputs: &[&[usize]], mut f: impl FnMut(&[usize]) -> Result<()>) -> Result<()> {
    let rank = shape.len();
    let strides: Vec<Vec<usize>> = inputs
        .iter()
        .map(|s| {
            let own = strides_of(s);
            let lead = rank - s.len();
            (0..rank).map(|d| if d < lead || s[d - lead] == 1 { 0 } else { own[d - lead] }).collect()
        })
        .collect();
    let n = oxrt_tensor::num_elements(shape)?;
    let mut index = vec![0usize; rank];
    let mut at = vec![0usize; inputs.len()];
    for _ in 0..n {
        f(&at)?;
        for d in (0..rank).rev() {
            index[d] += 1;
            at.iter_mut().zip(&strides).for_each(|(a, s)| *a += s[d]);
            if index[d] < shape[d] {
                break;
            }
            at.iter_mut().zip(&strides).for_each(|(a, s)| *a -= s[d] * shape[d]);
            index[d] = 0;
        }
    }
    Ok(())
}

/// `value` as a scalar tensor of `dtype`; integers must be whole.
pub fn scalar_tensor(dtype: DType, value: f64) -> Result<Tensor> {
    if dtype.is_int() && value.fract() != 0.0 {
        bail!(invalid, "{value} is not a whole number, as {dtype} needs");
    }
    Tensor::from_f64(dtype, &[], &[value])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erf_matches_known_values() {
        for (x, y) in [
            (0.0, 0.0),
            (0.5, 0.5204998778130465),
            (1.0, 0.8427007929497149),
            (2.5, 0.999593047982555),
            (3.0, 0.9999779095030014),
            (-1.0, -0.8427007929497149),
        ] {
            assert!((erf(x) - y).abs() < 1e-15, "erf({x}) = {} not {y}", erf(x));
        }
    }

    #[test]
    fn text_round_trips_and_dead_code_goes() {
        let mut e = Emit::default();
        let x = e.input(0);
        let _unused = e.bin_c(Binary::Add, x, 9.0);
        let y = e.bin_c(Binary::Max, x, 0.1);
        let z = e.select(x, y, x);
        let p = e.finish(z);
        assert_eq!(p.to_string(), "in 0; const 0.1; max 0 1; select 0 2 0");
        assert_eq!(p.to_string().parse::<Program>().unwrap(), p);
        assert!("in 0; neg 1".parse::<Program>().is_err(), "a register may only name an earlier one");
    }
}
