//! One program over elements that lie anywhere at fixed distances: elementwise operators with broadcasting, and every
//! copy that reorders, cuts or repeats.

use crate::backend::{Ctx, Launcher};
use crate::gpu::Params;
use crate::text::{self, Number};
use oxrt_backend::Io;
pub(super) use oxrt_backend::geometry::broadcast;
use oxrt_ops::scalar::Program;
use oxrt_tensor::{DType, Error, Result, Tensor};
use std::fmt::Write;

/// Axes that a kernel takes apart.
const MAX_RANK: usize = 8;
/// The same for kernels that move several elements at once, and for rows.
const FEW: usize = 4;
const THREADS: usize = 256;
/// Operands of one kernel.
pub(super) const MAX_INPUTS: usize = 12;

const TEMPLATE: &str = r#"
DEVICE i64 integer_divide(i64 a, i64 b, const Status& s) { if (b == 0) { report(s, STATUS_DIVISION); return 0; } return b == -1 ? (i64)(0 - (u64)a) : a / b; }
DEVICE u64 integer_divide(u64 a, u64 b, const Status& s) { if (b == 0) { report(s, STATUS_DIVISION); return 0; } return a / b; }
DEVICE i64 integer_remainder(i64 a, i64 b, const Status& s) { if (b == 0) { report(s, STATUS_DIVISION); return 0; } return b == -1 ? 0 : a % b; }
DEVICE u64 integer_remainder(u64 a, u64 b, const Status& s) { if (b == 0) { report(s, STATUS_DIVISION); return 0; } return a % b; }
DEVICE i64 integer_modulo(i64 a, i64 b, const Status& s) { i64 r = integer_remainder(a, b, s); return r != 0 && (r < 0) != (b < 0) ? r + b : r; }
DEVICE u64 integer_modulo(u64 a, u64 b, const Status& s) { return integer_remainder(a, b, s); }
template <class T> DEVICE T integer_power(T a, T b) {
    if (b < 0) return (T)pow((f64)a, (f64)b);
    T y = 1;
    for (u64 e = (u64)b, x = (u64)a; e; e >>= 1, x *= x) if (e & 1) y = (T)((u64)y * x);
    return y;
}
DEVICE f32 float_modulo(f32 a, f32 b) { f32 r = fmodf(a, b); return r != 0 && (r < 0) != (b < 0) ? r + b : r; }
DEVICE f64 float_modulo(f64 a, f64 b) { f64 r = fmod(a, b); return r != 0 && (r < 0) != (b < 0) ? r + b : r; }

template <int V, class T> DEVICE void fetch(C (&to)[V], const T* from, i32 step) {
    if (V > 1 && step) {
        Pack<T, V> pack = *(const Pack<T, V>*)from;
        PRAGMA_UNROLL for (int j = 0; j < V; j++) to[j] = get<C>(pack.at[j]);
    } else {
        C x = get<C>(*from);
        PRAGMA_UNROLL for (int j = 0; j < V; j++) to[j] = x;
    }
}

template <int V, int R> DEVICE void run(const P& p) {
    u32 index = blockIdx.x * 256 + threadIdx.x;
    if (index >= p.count) return;
    i32 at[INPUTS + 1];
    PRAGMA_UNROLL for (int k = 0; k <= INPUTS; k++) at[k] = 0;
    if (R == 0) {
        PRAGMA_UNROLL for (int k = 0; k <= INPUTS; k++) at[k] = index * p.stride[0][k];
    } else {
        u32 rest = index;
        PRAGMA_UNROLL for (int d = R - 1; d >= 0; d--) {
            if (d < p.rank) {
                u32 high = d == 0 ? 0 : divide(rest, p.dims[d]);
                i32 i = rest - high * p.dims[d].divisor;
                PRAGMA_UNROLL for (int k = 0; k <= INPUTS; k++) at[k] += i * p.stride[d][k];
                rest = high;
            }
        }
    }
    C x[INPUTS][V];
    FETCH
    Pack<TY, V> out;
    PRAGMA_UNROLL for (int j = 0; j < V; j++) out.at[j] = compute(p, ARGS);
    if (V > 1) *(Pack<TY, V>*)(p.y + at[INPUTS]) = out; else p.y[at[INPUTS]] = out.at[0];
}

KERNEL(256, flat, P) { run<VECTOR, 0>(p); }
KERNEL(256, rows, P) { run<VECTOR, 4>(p); }
KERNEL(256, any, P) { run<1, 8>(p); }
"#;

/// A program for operands of fixed types.
pub(super) struct Map {
    inputs: Vec<usize>,
    out: usize,
    vector: usize,
    flat: Launcher,
    rows: Launcher,
    any: Launcher,
}

/// Elements moved at once: 16 bytes of the narrowest type.
fn vector(inputs: &[DType], out: DType) -> usize {
    let narrowest = inputs.iter().chain([&out]).map(|d| d.bytes_for(1)).min().unwrap_or(4);
    (16 / narrowest).min(8)
}

/// The text of a program's kernels.
/// `wraps` makes integers of floats by way of 64 bits, as casts do; other programs saturate.
pub(super) fn text(inputs: &[DType], out: DType, program: &Program, fast: bool, wraps: bool) -> Result<String> {
    let number = Number::for_types(inputs, out);
    let bug = |d: &DType| Error::bug(format!("{d} has no C type"));
    let mut p = String::new();
    let mut fetch = String::new();
    for (k, dtype) in inputs.iter().enumerate() {
        let ty = text::stored(*dtype).ok_or_else(|| bug(dtype))?;
        let _ = write!(p, "const {ty}* x{k}; ");
        let _ = write!(fetch, "fetch<V>(x[{k}], p.x{k} + at[{k}], p.step[{k}]); ");
    }
    let n = inputs.len();
    let ty = text::stored(out).ok_or_else(|| bug(&out))?;
    let args: Vec<String> = (0..n).map(|k| format!("x{k}")).collect();
    let (body, result) = text::statements(program, &args, number, fast);
    let whole = wraps && out.is_int() && out != DType::U64 && matches!(number, Number::F32 | Number::F64);
    let result = if whole { format!("put<i64>({result})") } else { result };
    let params: String = (0..n).map(|k| format!(", C x{k}")).collect();
    let arguments: String = (0..n).map(|k| format!(", x[{k}][j]")).collect();
    let c = number.name();
    let template = TEMPLATE
        .replace("FETCH", &fetch)
        .replace("compute(p, ARGS)", &format!("compute(p{arguments})"))
        .replace("VECTOR", &vector(inputs, out).to_string());
    // The program stands after the functions that it calls.
    let at = template.find("template <int V, class T>").unwrap_or(0);
    let (before, after) = template.split_at(at);
    Ok(format!(
        "#define INPUTS {n}\ntypedef {c} C;\ntypedef {ty} TY;\n\
         struct P {{ {p}TY* y; u32 count; i32 rank; Divider dims[8]; i32 stride[8][{}]; i32 step[{n}]; Status status; }};\n\
         {before}DEVICE TY compute(const P& p{params}) {{ {body}return put<TY>({result}); }}\n{after}",
        n + 1
    ))
}

impl Map {
    /// From compiled code.
    pub fn load(ctx: &Ctx, code: Option<&Tensor>, inputs: &[DType], out: DType) -> Result<Map> {
        Ok(Map {
            inputs: inputs.iter().map(|d| d.bytes_for(1)).collect(),
            out: out.bytes_for(1),
            vector: vector(inputs, out),
            flat: ctx.function(code, "flat", 0)?,
            rows: ctx.function(code, "rows", 0)?,
            any: ctx.function(code, "any", 0)?,
        })
    }

    /// A plan over `shape`: distances of each input (0 where it repeats) and of the output; offsets in elements.
    pub fn plan(
        &self,
        shape: &[usize],
        inputs: &[(Vec<isize>, isize)],
        output: (Vec<isize>, isize),
    ) -> Result<MapPlan> {
        let total = super::counts(shape.iter().product())?;
        let operands: Vec<&(Vec<isize>, isize)> = inputs.iter().chain([&output]).collect();
        let strides: Vec<&[isize]> = operands.iter().map(|o| o.0.as_slice()).collect();
        let (mut dims, mut steps) = collapse(shape, &strides);
        let n = inputs.len();
        let size = |k: usize| if k == n { self.out } else { self.inputs[k] };
        let v = self.vector;
        // Several at once: the last axis is dense or repeated everywhere, and all other places are multiples.
        let last = dims.len() - 1;
        let wide = dims[last] % v == 0
            && steps[last][n] == 1
            && (0..=n).all(|k| {
                let unit = if steps[last][k] == 1 { v as isize } else { 1 };
                matches!(steps[last][k], 0 | 1)
                    && operands[k].1 % unit == 0
                    && steps[..last].iter().all(|s| s[k] % unit == 0)
                    // Packs are aligned to 16 bytes or their own size, tensors to 64.
                    && (unit == 1 || (size(k) * v).is_multiple_of(16) || size(k) * v < 16)
            })
            && dims.len() <= FEW;
        let mut step = vec![0i32; n];
        let kernel = if wide {
            dims[last] /= v;
            for k in 0..=n {
                if steps[last][k] == 1 {
                    steps[last][k] = v as isize;
                    if k < n {
                        step[k] = 1;
                    }
                }
            }
            if dims.len() == 1 { Which::Flat } else { Which::Rows }
        } else {
            Which::Any
        };
        if dims.len() > MAX_RANK {
            return Err(Error::unsupported(format!("an operator over {} separate axes", dims.len())));
        }
        let count: usize = if total == 0 { 0 } else { dims.iter().product() };
        let offsets = operands.iter().map(|o| o.1).collect();
        Ok(MapPlan { kernel, count, dims, steps, step, offsets })
    }
}

#[derive(Clone, Copy, Debug)]
enum Which {
    Flat,
    Rows,
    Any,
}

/// A [`Map`] with fixed sizes.
pub(super) struct MapPlan {
    kernel: Which,
    count: usize,
    dims: Vec<usize>,
    /// Per axis, the distance of each input and of the output.
    steps: Vec<Vec<isize>>,
    step: Vec<i32>,
    offsets: Vec<isize>,
}

impl MapPlan {
    /// # Safety
    /// Pointers lead to what the plan was made for.
    pub unsafe fn run(&self, map: &Map, io: &Io, inputs: &[*const u8], output: *mut u8) -> Result<()> {
        let mut p = Params::new();
        for (k, &x) in inputs.iter().enumerate() {
            p = p.ptr(x.wrapping_offset(self.offsets[k] * map.inputs[k] as isize));
        }
        p = p.ptr(output.wrapping_offset(self.offsets[inputs.len()] * map.out as isize).cast_const());
        p = p.u32(self.count).u32(self.dims.len());
        for d in 0..MAX_RANK {
            p = p.divider(self.dims.get(d).copied().unwrap_or(1));
        }
        for d in 0..MAX_RANK {
            for k in 0..=inputs.len() {
                p = p.i32(self.steps.get(d).map_or(0, |s| s[k]) as i64);
            }
        }
        for &s in &self.step {
            p = p.i32(s.into());
        }
        let params = p.status(&io.device).finish();
        let kernel = match self.kernel {
            Which::Flat => &map.flat,
            Which::Rows => &map.rows,
            Which::Any => &map.any,
        };
        // SAFETY: places were computed from the bound shapes.
        unsafe { kernel.run(io, [self.count.div_ceil(THREADS), 1, 1], THREADS, 0, &params) }
    }
}

/// Joins axes that all operands walk through without a gap. At least one axis is left.
pub(super) fn collapse(shape: &[usize], strides: &[&[isize]]) -> (Vec<usize>, Vec<Vec<isize>>) {
    let mut dims: Vec<usize> = Vec::new();
    let mut steps: Vec<Vec<isize>> = Vec::new();
    for (d, &n) in shape.iter().enumerate() {
        if n == 1 {
            continue;
        }
        let here: Vec<isize> = strides.iter().map(|s| s[d]).collect();
        if let (Some(before), Some(size)) = (steps.last_mut(), dims.last_mut())
            && before.iter().zip(&here).all(|(b, h)| *b == h * n as isize)
        {
            *size *= n;
            *before = here;
            continue;
        }
        dims.push(n);
        steps.push(here);
    }
    if dims.is_empty() {
        dims.push(1);
        steps.push(vec![0; strides.len()]);
    }
    (dims, steps)
}
