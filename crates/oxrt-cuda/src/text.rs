//! Kernel texts: the prelude that all share, and C for scalar programs.

use oxrt_ir::Attrs;
use oxrt_ops::scalar::{Binary, Emit, Instr, Program, Unary};
use oxrt_tensor::{DType, Result};
use std::fmt::Write;

const PRELUDE: &str = include_str!("text/prelude.cuh");

/// Stands between the prelude and the kernel.
pub(crate) const END_OF_PRELUDE: &str = "// ---- end of the prelude\n";

/// A text that can be compiled.
pub(crate) fn with_prelude(body: &str) -> String {
    format!("{PRELUDE}\n{END_OF_PRELUDE}{body}")
}

/// The C type in which elements are stored.
pub(crate) fn stored(dtype: DType) -> Option<&'static str> {
    Some(match dtype {
        DType::F64 => "f64",
        DType::F32 => "f32",
        DType::F16 => "f16",
        DType::BF16 => "bf16",
        DType::I64 => "i64",
        DType::I32 => "i32",
        DType::I16 => "i16",
        DType::I8 => "i8",
        DType::U64 => "u64",
        DType::U32 => "u32",
        DType::U16 => "u16",
        DType::U8 => "u8",
        DType::Bool => "bool8",
        _ => return None,
    })
}

/// Unsigned integers of an element's size, for copies that do not look at it.
pub(crate) fn raw(dtype: DType) -> Option<&'static str> {
    if dtype != DType::F8E4M3FN {
        stored(dtype)?;
    }
    Some(match dtype.bytes_for(1) {
        1 => "u8",
        2 => "u16",
        4 => "u32",
        _ => "u64",
    })
}

/// What a program computes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    F32,
    F64,
    I64,
    U64,
}

impl Number {
    pub fn name(self) -> &'static str {
        match self {
            Number::F32 => "f32",
            Number::F64 => "f64",
            Number::I64 => "i64",
            Number::U64 => "u64",
        }
    }

    /// What the reference evaluator's rules say of these operands, in the least that is exact enough.
    pub fn for_types(inputs: &[DType], out: DType) -> Number {
        let all = || inputs.iter().copied().chain([out]);
        let small_float = |d: DType| matches!(d, DType::F32 | DType::F16 | DType::BF16);
        if !all().any(DType::is_float) {
            return if inputs.contains(&DType::U64) { Number::U64 } else { Number::I64 };
        }
        if all().all(|d| small_float(d) || matches!(d, DType::Bool | DType::U8 | DType::I8 | DType::I16 | DType::U16)) {
            Number::F32
        } else {
            Number::F64
        }
    }
}

/// A number as C text.
fn literal(c: f64, n: Number) -> String {
    match n {
        Number::I64 => {
            format!("((i64){}ll)", c as i64 as i128).replace("-9223372036854775808ll", "(-9223372036854775807ll - 1)")
        }
        Number::U64 => format!("((u64){}ull)", c as i64 as u64),
        _ if c.is_nan() => format!("(({})NAN_F32)", n.name()),
        _ if c.is_infinite() => format!("(({}){}INFINITE_F32)", n.name(), if c < 0.0 { "-" } else { "" }),
        Number::F32 => format!("({:e}f)", c as f32),
        Number::F64 => format!("({c:e})"),
    }
}

/// Statements that compute a program; the name of its result. `args` are C expressions of type `n`. `fast` allows
/// approximations that are exact to single precision's last few places.
pub(crate) fn statements(program: &Program, args: &[String], n: Number, fast: bool) -> (String, String) {
    let mut out = String::new();
    let ty = n.name();
    for (i, instr) in program.instrs.iter().enumerate() {
        let value = match *instr {
            Instr::Input(k) => args[k as usize].clone(),
            Instr::Const(c) => literal(c, n),
            Instr::Unary(op, a) => unary(op, &format!("r{}", a.0), n, fast),
            Instr::Binary(op, a, b) => binary(op, &format!("r{}", a.0), &format!("r{}", b.0), n),
            Instr::Select(a, b, c) => format!("r{} != 0 ? r{} : r{}", a.0, b.0, c.0),
        };
        let _ = write!(out, "{ty} r{i} = {value}; ");
    }
    (out, format!("r{}", program.instrs.len() - 1))
}

/// The function `activate`, for the activation that a node's attributes name.
///
/// # Errors
/// An activation that is unknown.
pub(crate) fn activation(attrs: &Attrs, n: Number, fast: bool) -> Result<String> {
    let c = n.name();
    let gelu = attrs.string_or("activation", "none")? == "gelu";
    if fast && gelu && n == Number::F32 {
        return Ok("DEVICE f32 activate(f32 x) { return fast_gelu(x); }\n".to_string());
    }
    let mut e = Emit::default();
    let input = e.input(0);
    let result = oxrt_ops::activation::emit_attrs(&mut e, attrs, input)?;
    let (body, y) = statements(&e.finish(result), &["x".to_string()], n, fast);
    Ok(format!("DEVICE {c} activate({c} x) {{ {body}return {y}; }}\n"))
}

fn unary(op: Unary, a: &str, n: Number, fast: bool) -> String {
    use Unary::*;
    let integer = matches!(n, Number::I64 | Number::U64);
    if integer {
        return match op {
            Neg => format!("({})(0 - (u64){a})", n.name()),
            Abs if n == Number::U64 => a.to_string(),
            Abs => format!("{a} < 0 ? (i64)(0 - (u64){a}) : {a}"),
            Sign => format!("({})(({a} > 0) - ({a} < 0))", n.name()),
            Not => format!("({a} == 0)"),
            BitNot => format!("~{a}"),
            Floor | Ceil | Round | Trunc => a.to_string(),
            IsNan | IsInf => "0".to_string(),
            other => format!("(i64)({})", unary(other, &format!("(f64){a}"), Number::F64, false)),
        };
    }
    let f = |name: &str| format!("{name}{}({a})", if n == Number::F32 { "f" } else { "" });
    match op {
        Neg => format!("-{a}"),
        Abs => f("fabs"),
        Sign => format!("{a} > 0 ? 1 : {a} < 0 ? -1 : {a}"),
        Recip if fast && n == Number::F32 => format!("fast_recip({a})"),
        Recip => format!("1 / {a}"),
        Sqrt => f("sqrt"),
        Rsqrt => f("rsqrt"),
        Exp if fast && n == Number::F32 => format!("fast_exp({a})"),
        Exp => f("exp"),
        Log => f("log"),
        Floor => f("floor"),
        Ceil => f("ceil"),
        Round => f("rint"),
        Trunc => f("trunc"),
        Erf if fast && n == Number::F32 => format!("fast_erf({a})"),
        Erf => f("erf"),
        Sigmoid if fast && n == Number::F32 => format!("fast_recip(1 + fast_exp(-{a}))"),
        Sigmoid => format!("1 / (1 + {})", if n == Number::F32 { format!("expf(-{a})") } else { format!("exp(-{a})") }),
        Tanh if fast && n == Number::F32 => format!("fast_tanh({a})"),
        Tanh => f("tanh"),
        Sin => f("sin"),
        Cos => f("cos"),
        Tan => f("tan"),
        Asin => f("asin"),
        Acos => f("acos"),
        Atan => f("atan"),
        Sinh => f("sinh"),
        Cosh => f("cosh"),
        Asinh => f("asinh"),
        Acosh => f("acosh"),
        Atanh => f("atanh"),
        Not => format!("({a} == 0)"),
        BitNot => format!("({})~(i64){a}", n.name()),
        IsNan => format!("({a} != {a})"),
        IsInf => format!("({} == INFINITE_F32)", f("fabs")),
    }
}

fn binary(op: Binary, a: &str, b: &str, n: Number) -> String {
    use Binary::*;
    let integer = matches!(n, Number::I64 | Number::U64);
    let ty = n.name();
    let suffix = if n == Number::F32 { "f" } else { "" };
    let wrap = |sign: &str| format!("({ty})((u64){a} {sign} (u64){b})");
    let bits =
        |sign: &str| if integer { format!("{a} {sign} {b}") } else { format!("({ty})((i64){a} {sign} (i64){b})") };
    match op {
        Add if integer => wrap("+"),
        Sub if integer => wrap("-"),
        Mul if integer => wrap("*"),
        Add => format!("{a} + {b}"),
        Sub => format!("{a} - {b}"),
        Mul => format!("{a} * {b}"),
        Div if integer => format!("integer_divide({a}, {b}, p.status)"),
        Div => format!("{a} / {b}"),
        Min if integer => format!("{b} < {a} ? {b} : {a}"),
        Max if integer => format!("{a} < {b} ? {b} : {a}"),
        Min => format!("{a} != {a} || {a} < {b} ? {a} : {b}"),
        Max => format!("{a} != {a} || {a} > {b} ? {a} : {b}"),
        Pow if integer => format!("integer_power({a}, {b})"),
        Pow => format!("pow{suffix}({a}, {b})"),
        Mod if integer => format!("integer_modulo({a}, {b}, p.status)"),
        Fmod if integer => format!("integer_remainder({a}, {b}, p.status)"),
        Mod => format!("float_modulo({a}, {b})"),
        Fmod => format!("fmod{suffix}({a}, {b})"),
        Lt => format!("({a} < {b})"),
        Le => format!("({a} <= {b})"),
        Gt => format!("({a} > {b})"),
        Ge => format!("({a} >= {b})"),
        Eq => format!("({a} == {b})"),
        Ne => format!("({a} != {b})"),
        And => format!("({a} != 0 && {b} != 0)"),
        Or => format!("({a} != 0 || {b} != 0)"),
        Xor => format!("(({a} != 0) != ({b} != 0))"),
        BitAnd => bits("&"),
        BitOr => bits("|"),
        BitXor => bits("^"),
        Shl if integer => format!("(u64){b} < 64 ? ({ty})((u64){a} << {b}) : 0"),
        Shr if integer => format!("(u64){b} < 64 ? {a} >> {b} : {a} < 0 ? ({ty})-1 : 0"),
        Shl => format!("({ty})((i64){a} << (i64){b})"),
        Shr => format!("({ty})((i64){a} >> (i64){b})"),
        Atan2 if integer => format!("(i64)atan2((f64){a}, (f64){b})"),
        Atan2 => format!("atan2{suffix}({a}, {b})"),
    }
}
