//! Matrix products.

use crate::args::{Args, Scalar};
use crate::cx::Cx;
use crate::promote::{Operand, result_type, scalar_value, value};
use oxrt_ir::{Attrs, DType, Dim, ValueId};
use oxrt_tensor::{Result, bail};

/// `linear(Tensor input, Tensor weight, Tensor? bias=None)`
pub fn linear(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, w, b) = (a.t("input")?, a.t("weight")?, a.opt_t("bias")?);
    linear_values(cx, x, w, b)
}

/// `x · wᵀ + b`
pub(crate) fn linear_values(cx: &mut Cx, x: ValueId, w: ValueId, b: Option<ValueId>) -> Result<ValueId> {
    if cx.rank(x)? == 2 && cx.rank(w)? == 2 && cx.dtype(x)?.is_float() {
        return Ok(cx.b.op_multi("Gemm", &[Some(x), Some(w), b], Attrs::new().with("transB", 1), 1)?[0]);
    }
    let w = if cx.rank(w)? == 2 { cx.b.transpose(w, &[1, 0])? } else { w };
    let y = cx.call("MatMul", &[x, w])?;
    match b {
        Some(b) => cx.call("Add", &[y, b]),
        None => Ok(y),
    }
}

/// `matmul(Tensor self, Tensor other)`
pub fn matmul(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    cx.call("MatMul", &[a.t("self")?, a.t("other")?])
}

/// `mm(Tensor self, Tensor mat2)`, `bmm`
pub fn mm(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    cx.call("MatMul", &[a.t("self")?, a.t("mat2")?])
}

/// `_int_mm(Tensor self, Tensor mat2)`: bytes into i32
pub fn int_mm(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    cx.call("MatMulInteger", &[a.t("self")?, a.t("mat2")?])
}

/// `_weight_int8pack_mm(Tensor self, Tensor mat2, Tensor scales)`: `self · (scales · mat2)ᵀ`
pub fn weight_int8pack_mm(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let dtype = cx.dtype(x)?;
    let w = cx.b.transpose(a.t("mat2")?, &[1, 0])?;
    let (w, scales) = (cx.cast(w, dtype)?, cx.cast(a.t("scales")?, dtype)?);
    let y = cx.call("MatMul", &[x, w])?;
    cx.call("Mul", &[y, scales])
}

/// `mv(Tensor self, Tensor vec)`
pub fn mv(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    cx.call("MatMul", &[a.t("self")?, a.t("vec")?])
}

/// `dot(Tensor self, Tensor tensor)`
pub fn dot(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    cx.call("MatMul", &[a.t("self")?, a.t("tensor")?])
}

/// `vdot(Tensor self, Tensor other)`
pub fn vdot(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    cx.call("MatMul", &[a.t("self")?, a.t("other")?])
}

/// `addmm(Tensor self, Tensor mat1, Tensor mat2, *, Scalar beta=1, Scalar alpha=1)`
pub fn addmm(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (c, x, y) = (a.t("self")?, a.t("mat1")?, a.t("mat2")?);
    if cx.dtype(x)?.is_float() {
        let (alpha, beta) = (a.float("alpha")? as f32, a.float("beta")? as f32);
        let mut attrs = Attrs::new();
        if alpha != 1.0 {
            attrs.set("alpha", alpha);
        }
        if beta != 1.0 {
            attrs.set("beta", beta);
        }
        return cx.op("Gemm", &[x, y, c], attrs);
    }
    add_product(cx, a, c, x, y)
}

/// `beta · c + alpha · x · y`
fn add_product(cx: &mut Cx, a: &Args, c: ValueId, x: ValueId, y: ValueId) -> Result<ValueId> {
    let dtype = cx.dtype(x)?;
    let scale = |cx: &mut Cx, v: ValueId, name: &str| -> Result<ValueId> {
        let s = a.opt_scalar(name)?.unwrap_or(Scalar::Int(Dim::Const(1)));
        if s.is(1.0) {
            return Ok(v);
        }
        let s = scalar_value(cx, &s, dtype)?;
        cx.call("Mul", &[v, s])
    };
    let p = cx.call("MatMul", &[x, y])?;
    let p = scale(cx, p, "alpha")?;
    if a.opt_float("beta")? == Some(0.0) {
        return Ok(p);
    }
    let c = scale(cx, c, "beta")?;
    cx.call("Add", &[p, c])
}

/// `baddbmm(Tensor self, Tensor batch1, Tensor batch2, *, Scalar beta=1, Scalar alpha=1)`
pub fn baddbmm(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    add_product(cx, a, a.t("self")?, a.t("batch1")?, a.t("batch2")?)
}

/// `addbmm(Tensor self, Tensor batch1, Tensor batch2, *, Scalar beta=1, Scalar alpha=1)`: summed over the batch
pub fn addbmm(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, y) = (a.t("batch1")?, a.t("batch2")?);
    let p = cx.call("MatMul", &[x, y])?;
    let mut p = cx.reduce("ReduceSum", p, &[0], false)?;
    let (alpha, beta) = (a.float("alpha")?, a.float("beta")?);
    if alpha != 1.0 {
        let s = cx.like(p, alpha)?;
        p = cx.call("Mul", &[p, s])?;
    }
    if beta == 0.0 {
        return Ok(p);
    }
    let mut c = a.t("self")?;
    if beta != 1.0 {
        let s = cx.like(c, beta)?;
        c = cx.call("Mul", &[c, s])?;
    }
    cx.call("Add", &[p, c])
}

/// `addmv(Tensor self, Tensor mat, Tensor vec, *, Scalar beta=1, Scalar alpha=1)`
pub fn addmv(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    add_product(cx, a, a.t("self")?, a.t("mat")?, a.t("vec")?)
}

/// `outer(Tensor self, Tensor vec2)`
pub fn outer(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, y) = (Operand::Tensor(a.t("self")?), Operand::Tensor(a.t("vec2")?));
    let dtype = result_type(cx, &[&x, &y])?;
    let (x, y) = (value(cx, &x, dtype)?, value(cx, &y, dtype)?);
    let x = cx.b.unsqueeze(x, &[1])?;
    cx.call("Mul", &[x, y])
}

/// `einsum(str equation, Tensor[] tensors, *, int[]? path=None)`
pub fn einsum(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (equation, mut operands) = (a.text("equation")?, a.ts("tensors")?);
    // Sums of small whole numbers are i64, as torch's are. (Scripts do not state types.)
    if let Some(dtype) = a.out_dtype().ok().filter(|d| d.is_int()) {
        for v in &mut operands {
            *v = cx.cast(*v, dtype)?;
        }
    }
    einsum_values(cx, &equation, &operands)
}

pub(crate) fn einsum_values(cx: &mut Cx, equation: &str, tensors: &[ValueId]) -> Result<ValueId> {
    let equation: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let mut parts = tensors.to_vec();
    // Ellipses of different rank broadcast in torch; ONNX wants them equal.
    let sides: Vec<&str> = equation.split("->").next().unwrap_or_default().split(',').collect();
    let mut ranks = Vec::new();
    for (side, &v) in sides.iter().zip(&parts) {
        let named = side.replace("...", "").len();
        ranks.push(side.contains("...").then_some(cx.rank(v)?.saturating_sub(named)));
    }
    let most = ranks.iter().flatten().max().copied().unwrap_or(0);
    for ((side, rank), v) in sides.iter().zip(&ranks).zip(&mut parts) {
        if let Some(missing) = rank.map(|r| most - r).filter(|&m| m > 0) {
            let at = side.find("...").unwrap_or(0) as i64;
            *v = cx.b.unsqueeze(*v, &(at..at + missing as i64).collect::<Vec<_>>())?;
        }
    }
    let mut equation = equation.clone();
    let summed = equation.split_once("->").is_some_and(|(i, o)| i.contains("...") && !o.contains("..."));
    if summed {
        // What the result does not name is summed over, ellipses too.
        let fresh: String = ('A'..='Z').chain('a'..='z').filter(|c| !equation.contains(*c)).take(most).collect();
        equation = equation.replace("...", &fresh);
    }
    cx.op("Einsum", &parts, Attrs::new().with("equation", equation))
}

/// `bilinear(Tensor input1, Tensor input2, Tensor weight, Tensor? bias=None)`
pub fn bilinear(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, y, w) = (a.t("input1")?, a.t("input2")?, a.t("weight")?);
    // x: […, i], w: [o, i, j], y: […, j].
    let x = cx.b.unsqueeze(x, &[-2])?;
    let x = cx.b.unsqueeze(x, &[-3])?;
    let p = cx.call("MatMul", &[x, w])?;
    let p = cx.b.squeeze(p, &[-2])?;
    let y = cx.b.unsqueeze(y, &[-1])?;
    let p = cx.call("MatMul", &[p, y])?;
    let p = cx.b.squeeze(p, &[-1])?;
    match a.opt_t("bias")? {
        Some(b) => cx.call("Add", &[p, b]),
        None => Ok(p),
    }
}

/// `tensordot(Tensor self, Tensor other, int[] dims_self, int[] dims_other)`
pub fn tensordot(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, y) = (a.t("self")?, a.t("other")?);
    let of = |cx: &Cx, v, list: Vec<i64>| list.iter().map(|&d| cx.axis(v, d)).collect::<Result<Vec<_>>>();
    let (dx, dy) = (of(cx, x, a.ints("dims_self")?)?, of(cx, y, a.ints("dims_other")?)?);
    let (sx, sy) = (cx.dims(x)?, cx.dims(y)?);
    let rest = |n: usize, used: &[usize]| (0..n).filter(|i| !used.contains(i)).collect::<Vec<_>>();
    let (rx, ry) = (rest(sx.len(), &dx), rest(sy.len(), &dy));
    let product = |dims: &[Dim], axes: &[usize]| axes.iter().map(|&i| dims[i].clone()).product::<Dim>();
    // An axis of one against a longer one is summed over, as broadcasting says.
    let summed = |cx: &mut Cx, v: ValueId, own: &[usize], s: &[Dim], other: &[usize], o: &[Dim]| {
        let axes: Vec<usize> =
            own.iter().zip(other).filter(|&(&i, &j)| o[j].is(1) && !s[i].is(1)).map(|p| *p.0).collect();
        if axes.is_empty() { Ok(v) } else { cx.reduce("ReduceSum", v, &axes, true) }
    };
    let (x, y) = (summed(cx, x, &dx, &sx, &dy, &sy)?, summed(cx, y, &dy, &sy, &dx, &sx)?);
    let (sx, sy) = (cx.dims(x)?, cx.dims(y)?);
    let inner = product(&sx, &dx);
    let x = cx.b.transpose(x, &[&rx[..], &dx[..]].concat())?;
    let x = cx.reshape(x, &[product(&sx, &rx), inner.clone()])?;
    let y = cx.b.transpose(y, &[&dy[..], &ry[..]].concat())?;
    let y = cx.reshape(y, &[inner, product(&sy, &ry)])?;
    let p = cx.call("MatMul", &[x, y])?;
    cx.reshape(p, &a.out_dims()?)
}

/// `inner(Tensor self, Tensor other)`: products over the last axes
pub fn inner(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, y) = (a.t("self")?, a.t("other")?);
    let (sx, sy) = (cx.dims(x)?, cx.dims(y)?);
    let (Some(k), Some(_)) = (sx.last().cloned(), sy.last()) else { return cx.call("Mul", &[x, y]) };
    let rows = |d: &[Dim]| d[..d.len() - 1].iter().cloned().product::<Dim>();
    let x = cx.reshape(x, &[rows(&sx), k.clone()])?;
    let y = cx.reshape(y, &[rows(&sy), k])?;
    let y = cx.b.transpose(y, &[1, 0])?;
    let p = cx.call("MatMul", &[x, y])?;
    cx.reshape(p, &a.out_dims()?)
}

/// `linalg_vecdot(Tensor x, Tensor y, *, int dim=-1)`
pub fn vecdot(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, y) = (a.t("x")?, a.t("y")?);
    let p = cx.call("Mul", &[x, y])?;
    let axis = cx.axis(p, a.int("dim")?)?;
    cx.reduce("ReduceSum", p, &[axis], false)
}

/// `kron(Tensor self, Tensor other)`
pub fn kron(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, y) = (a.t("self")?, a.t("other")?);
    let (mut sx, mut sy) = (cx.dims(x)?, cx.dims(y)?);
    let rank = sx.len().max(sy.len());
    while sx.len() < rank {
        sx.insert(0, Dim::Const(1));
    }
    while sy.len() < rank {
        sy.insert(0, Dim::Const(1));
    }
    let one = Dim::Const(1);
    let wide = |s: &[Dim], first: bool| -> Vec<Dim> {
        s.iter().flat_map(|d| if first { [d.clone(), one.clone()] } else { [one.clone(), d.clone()] }).collect()
    };
    let (x, y) = (cx.reshape(x, &wide(&sx, true))?, cx.reshape(y, &wide(&sy, false))?);
    let p = cx.call("Mul", &[x, y])?;
    cx.reshape(p, &a.out_dims()?)
}

/// `_trilinear(Tensor i1, Tensor i2, Tensor i3, int[] expand1, int[] expand2, int[] expand3, int[] sumdim, int
/// unroll_dim=1)`: what `bilinear` is made of
pub fn trilinear(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let mut parts = Vec::new();
    for (tensor, axes) in [("i1", "expand1"), ("i2", "expand2"), ("i3", "expand3")] {
        let mut v = a.t(tensor)?;
        for axis in a.ints(axes)? {
            v = cx.b.unsqueeze(v, &[axis])?;
        }
        parts.push(v);
    }
    let p = cx.call("Mul", &parts[..2])?;
    let p = cx.call("Mul", &[p, parts[2]])?;
    let axes = a.ints("sumdim")?.iter().map(|&d| cx.axis(p, d)).collect::<Result<Vec<_>>>()?;
    if axes.is_empty() { Ok(p) } else { cx.reduce("ReduceSum", p, &axes, false) }
}

/// `scaled_dot_product_attention(Tensor query, Tensor key, Tensor value, Tensor? attn_mask=None, float
/// dropout_p=0.0, bool is_causal=False, *, float? scale=None, bool enable_gqa=False)`,
/// `_scaled_dot_product_flash_attention_for_cpu`
///
/// Written as products and a softmax; fusion finds the pattern again. A row whose keys are all masked
/// gives 0, as torch does, not the NaN of a softmax over nothing.
pub fn attention(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let (q, mut k, mut v) = (a.t("query")?, a.t("key")?, a.t("value")?);
    if a.bool("enable_gqa")? {
        (k, v) = (repeat_heads(cx, q, k)?, repeat_heads(cx, q, v)?);
    }
    let (rank, dtype) = (cx.rank(q)?, cx.dtype(q)?);
    if rank < 2 {
        bail!(invalid, "attention over tensors of rank {rank}");
    }
    let mut perm: Vec<usize> = (0..cx.rank(k)?).collect();
    let last = perm.len();
    perm.swap(last - 1, last - 2);
    let kt = cx.b.transpose(k, &perm)?;
    let scores = cx.call("MatMul", &[q, kt])?;
    let scale = match a.opt_float("scale")? {
        Some(s) => cx.b.scalar(dtype, s)?,
        None => match cx.size(q, rank - 1)?.as_const() {
            Some(e) => cx.b.scalar(dtype, 1.0 / (e as f64).sqrt())?,
            None => {
                let e = cx.size(q, rank - 1)?;
                let e = cx.dim_scalar(&e)?;
                let e = cx.cast(e, dtype)?;
                let e = cx.call("Sqrt", &[e])?;
                cx.call("Reciprocal", &[e])?
            }
        },
    };
    let mut scores = cx.call("Mul", &[scores, scale])?;
    // Masks are added, booleans as 0 and -inf: of the mask's own size, and the same for every layer.
    let mut mask = match a.opt_t("attn_mask")? {
        Some(m) if cx.dtype(m)? == DType::Bool => Some(additive(cx, m, dtype)?),
        Some(m) => Some(cx.cast(m, dtype)?),
        None => None,
    };
    let mut some: Option<ValueId> = None;
    if let Some(mask) = mask {
        // Which rows have any key left, from the mask alone.
        let last = cx.rank(mask)? - 1;
        let top = cx.reduce("ReduceMax", mask, &[last], true)?;
        let lowest = cx.b.scalar(dtype, f64::NEG_INFINITY)?;
        some = Some(cx.call("Greater", &[top, lowest])?);
    }
    if a.bool("is_causal")? {
        let (rows, columns) = (cx.size(q, rank - 2)?, cx.size(k, last - 2)?);
        let causal = causal_mask(cx, &rows, &columns)?;
        mask = Some(additive(cx, causal, dtype)?);
    }
    if let Some(mask) = mask {
        scores = cx.call("Add", &[scores, mask])?;
    }
    let log_sum = match a.used(cx, 1) {
        true => Some(cx.reduce("ReduceLogSumExp", scores, &[rank - 1], false)?),
        false => None,
    };
    let mut p = cx.op("Softmax", &[scores], Attrs::new().with("axis", -1))?;
    if let Some(some) = some {
        let zero = cx.b.scalar(dtype, 0.0)?;
        p = cx.call("Where", &[some, p, zero])?;
    }
    let y = cx.call("MatMul", &[p, v])?;
    Ok([y].into_iter().chain(log_sum).collect())
}

/// 0 where a key may be seen, -inf where not.
fn additive(cx: &mut Cx, mask: ValueId, dtype: DType) -> Result<ValueId> {
    let (zero, lowest) = (cx.b.scalar(dtype, 0.0)?, cx.b.scalar(dtype, f64::NEG_INFINITY)?);
    cx.call("Where", &[mask, zero, lowest])
}

/// `rows × columns`, true where the column is not beyond the row.
fn causal_mask(cx: &mut Cx, rows: &Dim, columns: &Dim) -> Result<ValueId> {
    let (r, c) = (super::create::range(cx, rows)?, super::create::range(cx, columns)?);
    let r = cx.b.unsqueeze(r, &[1])?;
    cx.call("LessOrEqual", &[c, r])
}

/// Key or value heads repeated to the number of query heads (grouped-query attention).
fn repeat_heads(cx: &mut Cx, q: ValueId, k: ValueId) -> Result<ValueId> {
    let (rq, rk) = (cx.rank(q)?, cx.rank(k)?);
    if rq < 3 || rk < 3 {
        return Ok(k);
    }
    let (hq, hk) = (cx.size(q, rq - 3)?, cx.size(k, rk - 3)?);
    if hq == hk {
        return Ok(k);
    }
    let n = hq.floor_div(&hk);
    let mut dims = cx.dims(k)?;
    let wide = cx.b.unsqueeze(k, &[rk as i64 - 2])?;
    dims.insert(rk - 2, n);
    let wide = cx.expand(wide, &dims)?;
    dims.remove(rk - 2);
    dims[rk - 3] = hq;
    cx.reshape(wide, &dims)
}

/// `_native_multi_head_attention(Tensor query, Tensor key, Tensor value, SymInt embed_dim, SymInt num_head,
/// Tensor qkv_weight, Tensor qkv_bias, Tensor proj_weight, Tensor proj_bias, Tensor? mask=None, bool
/// need_weights=True, bool average_attn_weights=True, int? mask_type=None)`
pub fn native_multi_head_attention(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let layer = Heads {
        embed: a.int("embed_dim")?,
        heads: a.int("num_head")?,
        qkv: (a.t("qkv_weight")?, a.t("qkv_bias")?),
        projection: (a.t("proj_weight")?, a.t("proj_bias")?),
        mask: a.opt_t("mask")?,
        mask_type: a.opt_int("mask_type")?,
    };
    let (y, p) = layer.attend(cx, [a.t("query")?, a.t("key")?, a.t("value")?])?;
    if !a.used(cx, 1) {
        return Ok(vec![y]);
    }
    let weights = if a.bool("average_attn_weights")? { cx.reduce("ReduceMean", p, &[1], false)? } else { p };
    Ok(vec![y, weights])
}

/// The weights of a multi-head attention layer.
struct Heads {
    embed: i64,
    heads: i64,
    qkv: (ValueId, ValueId),
    projection: (ValueId, ValueId),
    mask: Option<ValueId>,
    mask_type: Option<i64>,
}

impl Heads {
    /// Result `[N, L, E]` and the attention weights `[N, heads, L, S]`.
    fn attend(&self, cx: &mut Cx, qkv: [ValueId; 3]) -> Result<(ValueId, ValueId)> {
        let (e, h, q) = (self.embed, self.heads, qkv[0]);
        if h <= 0 || e % h != 0 {
            bail!(invalid, "{h} heads over {e} features");
        }
        let (d, mut heads) = (e / h, Vec::new());
        for (i, x) in qkv.into_iter().enumerate() {
            let (from, to) = (Dim::Const(i as i64 * e), Dim::Const((i as i64 + 1) * e));
            let (w, b) = (cx.slice(self.qkv.0, 0, &from, &to, 1)?, cx.slice(self.qkv.1, 0, &from, &to, 1)?);
            let y = linear_values(cx, x, w, Some(b))?;
            let s = cx.dims(y)?;
            let y = cx.reshape(y, &[s[0].clone(), s[1].clone(), h.into(), d.into()])?;
            heads.push(cx.b.transpose(y, &[0, 2, 1, 3])?);
        }
        let kt = cx.b.transpose(heads[1], &[0, 1, 3, 2])?;
        let scale = cx.like(q, 1.0 / (d as f64).sqrt())?;
        let query = cx.call("Mul", &[heads[0], scale])?;
        let mut scores = cx.call("MatMul", &[query, kt])?;
        if let Some(mask) = self.mask {
            // Here true means hidden. Type 0: [L, S]; type 1: [N, S] padding; type 2: ready-made.
            let mask = match (self.mask_type, cx.rank(mask)?) {
                (Some(1), 2) => cx.b.unsqueeze(mask, &[1, 2])?,
                _ => mask,
            };
            let mask = cx.cast(mask, DType::Bool)?;
            let lowest = cx.like(q, f64::NEG_INFINITY)?;
            scores = cx.call("Where", &[mask, lowest, scores])?;
        }
        let p = cx.op("Softmax", &[scores], Attrs::new().with("axis", -1))?;
        let y = cx.call("MatMul", &[p, heads[2]])?;
        let y = cx.b.transpose(y, &[0, 2, 1, 3])?;
        let shape = cx.dims(q)?;
        let y = cx.reshape(y, &shape)?;
        Ok((linear_values(cx, y, self.projection.0, Some(self.projection.1))?, p))
    }
}

/// `_transformer_encoder_layer_fwd(Tensor src, int embed_dim, int num_heads, Tensor qkv_weight, Tensor qkv_bias, Tensor
/// proj_weight, Tensor proj_bias, bool use_gelu, bool norm_first, float eps, Tensor norm_weight_1, Tensor norm_bias_1,
/// Tensor norm_weight_2, Tensor norm_bias_2, Tensor ffn_weight_1, Tensor ffn_bias_1, Tensor ffn_weight_2, Tensor
/// ffn_bias_2, Tensor? mask=None, int? mask_type=None)`: what `nn.TransformerEncoderLayer` runs in evaluation
pub fn transformer_encoder_layer(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("src")?;
    let layer = Heads {
        embed: a.int("embed_dim")?,
        heads: a.int("num_heads")?,
        qkv: (a.t("qkv_weight")?, a.t("qkv_bias")?),
        projection: (a.t("proj_weight")?, a.t("proj_bias")?),
        mask: a.opt_t("mask")?,
        mask_type: a.opt_int("mask_type")?,
    };
    let attrs = Attrs::new().with("axis", -1).with("epsilon", a.float("eps")? as f32);
    let norm = |cx: &mut Cx, x: ValueId, i: usize| -> Result<ValueId> {
        let (w, b) = (a.t(["norm_weight_1", "norm_weight_2"][i])?, a.t(["norm_bias_1", "norm_bias_2"][i])?);
        cx.op("LayerNormalization", &[x, w, b], attrs.clone())
    };
    let feed_forward = |cx: &mut Cx, x: ValueId| -> Result<ValueId> {
        let y = linear_values(cx, x, a.t("ffn_weight_1")?, Some(a.t("ffn_bias_1")?))?;
        let y = cx.call(if a.bool("use_gelu")? { "Gelu" } else { "Relu" }, &[y])?;
        linear_values(cx, y, a.t("ffn_weight_2")?, Some(a.t("ffn_bias_2")?))
    };
    if a.bool("norm_first")? {
        let y = norm(cx, x, 0)?;
        let y = layer.attend(cx, [y; 3])?.0;
        let x = cx.call("Add", &[x, y])?;
        let y = norm(cx, x, 1)?;
        let y = feed_forward(cx, y)?;
        return cx.call("Add", &[x, y]);
    }
    let y = layer.attend(cx, [x; 3])?.0;
    let y = cx.call("Add", &[x, y])?;
    let x = norm(cx, y, 0)?;
    let y = feed_forward(cx, x)?;
    let y = cx.call("Add", &[x, y])?;
    norm(cx, y, 1)
}
