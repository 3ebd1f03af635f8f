//! Products and convolutions of bytes, or of floats of 8 bits, on Hopper's units, by the text that streams.

use super::conv::{Filter, Fold, is_pointwise, rows_of, window, windows_stream};
use super::product::{Method, Product, Sizes, TILES, Types, Window2, stream_text};
use super::q_line::Line;
use super::q_product::{end_text, ends, ends_fit, fused_supports, has_text, is_small, numbers, row_residual};
use super::{Entry, c_type, counts, dtype, makes, output_dtype, require};
use crate::backend::Ctx;
use crate::gpu::Params;
use oxrt_backend::{Kernel, NodeView, Packing, bound, kernel};
use oxrt_ops::quantised::Linear;
use oxrt_tensor::{DType, Error, Result, Tensor, bail};

stream_entries!("q", &["oxrt.QGemm", "oxrt.QConv"], supports, mixes: false, narrow: false);

/// Bytes that rows of operands, and of results in bytes, are a multiple of.
const CHUNK: usize = 16;

fn supports(ctx: &Ctx, node: &NodeView) -> Option<()> {
    require(!is_small(node))?;
    streams(ctx, node)
}

pub(super) fn streams(ctx: &Ctx, node: &NodeView) -> Option<()> {
    fused_supports(ctx, node)?;
    require(ctx.gpu.arch() == 90)?;
    let weights = node.constant(1)?.dtype();
    require(matches!(weights, DType::I8 | DType::F8E4M3FN) && node.attrs().int_or("w_zero", 0).ok()? == 0)?;
    // Results of 16 bits go out by the copy engine, which a residual of bytes and tables do not come by.
    let halves = node.output_dtype(0)?.bytes_for(1) == 2;
    let [_, _, residual, table, _] = ends(node.op());
    require(node.output_dtype(0)?.bytes_for(1) <= 4 && !(halves && (node.has(residual) || node.has(table))))?;
    if node.op() == "oxrt.QGemm" {
        let shape = node.ty(1)?.static_shape()?;
        let [k, n] = shape[..] else { return None };
        return require(k * n > 0 && k % CHUNK == 0 && n % 8 == 0);
    }
    let f = Filter::of(node).ok()?;
    require(matches!(node.rank(0)?, 3 | 4) && f.cout % 8 == 0)?;
    if pairs(node, &f) {
        return Some(());
    }
    windows_stream(node, &f)?;
    if f.is_thin() {
        return Fold::of(node, &f, weights).map(|_| ());
    }
    require(f.cin % CHUNK == 0)
}

/// Whether neighbouring pixels are taken together, so that rows of half a chunk become whole ones: weights stand twice in the columns of two
/// pixels then, with zeros for the other's channels. (The units have nothing better to do; the kernels that take such rows as they are
/// are three times slower.)
fn pairs(node: &NodeView, f: &Filter) -> bool {
    let even = |node: &NodeView| {
        let dims = node.dims(0)?;
        dims[..dims.len() - 1].iter().any(|d| d.as_size().is_some_and(|n| n % 2 == 0)).then_some(())
    };
    f.cin % CHUNK == CHUNK / 2
        && f.cout.is_multiple_of(8)
        && !f.is_thin()
        && is_pointwise(node, f).unwrap_or(false)
        && even(node).is_some()
        && !row_residual(node)
        && ends(node.op()).into_iter().take(2).all(|i| !node.has(i) || node.constant(i).is_some())
}

/// The same, of any node.
fn is_paired(node: &NodeView) -> Result<bool> {
    Ok(node.op() == "oxrt.QConv" && pairs(node, &Filter::of(node)?))
}

/// Weights [n][k] for pairs of pixels: [2 n][2 k].
fn paired_rows(rows: &[u8], k: usize) -> Vec<u8> {
    let zeros = vec![0u8; k];
    let first = rows.chunks_exact(k).flat_map(|row| row.iter().chain(&zeros));
    let second = rows.chunks_exact(k).flat_map(|row| zeros.iter().chain(row));
    first.chain(second).copied().collect()
}

/// A row of numbers twice.
fn twice(t: &Tensor) -> Result<Tensor> {
    let list = t.get_slice::<f32>().ok_or_else(|| Error::bug("scales that are not in single precision"))?;
    Ok(Tensor::from_slice(&[list.len() * 2], &[list, list].concat()))
}

fn method<const I: usize>(node: &NodeView) -> Result<Method> {
    let conv = node.op() == "oxrt.QConv" && !is_pointwise(node, &Filter::of(node)?)?;
    Ok(Method::packed(TILES[I], conv, dtype(node, 0)?))
}

/// The weights as rows of maps, [n][tap][channel], and how many taps they have.
fn rows(node: &NodeView, fold: Option<&Fold>) -> Result<(Vec<u8>, usize, usize)> {
    let w = node.constant(1).ok_or_else(|| Error::bug("the weights are not constant"))?;
    let data = w.bytes();
    if node.op() == "oxrt.QGemm" {
        let [k, n] = *w.shape() else { bail!(bug, "weights of shape {:?}", w.shape()) };
        return Ok(((0..n * k).map(|i| data[i % k * n + i / k]).collect(), n, 1));
    }
    let f = Filter::of(node)?;
    Ok(match fold {
        Some(fold) => (fold.rows(data, &f), f.cout, 1),
        None => (rows_of(data, &f, f.cin, f.depth()), f.cout, f.kernel.iter().product()),
    })
}

fn fold_of(node: &NodeView) -> Result<Option<Fold>> {
    if node.op() != "oxrt.QConv" {
        return Ok(None);
    }
    let f = Filter::of(node)?;
    if !f.is_thin() {
        return Ok(None);
    }
    Fold::of(node, &f, dtype(node, 1)?).map(Some).ok_or_else(|| Error::bug("an image that does not fold"))
}

/// Tensors: code; weights; the zero point of x times the weights, summed over all taps and over each (nothing when it is zero);
/// for images of few channels, the code that folds them; for pairs of pixels, scales and biases of both.
pub(super) fn pack<const I: usize>(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let fold = fold_of(node)?;
    let (mut bytes, mut n, taps) = rows(node, fold.as_ref())?;
    let limits = limits_text(node, &bytes, n)?;
    let paired = is_paired(node)?;
    let mut depth = bytes.len() / n.max(1);
    if paired {
        bytes = paired_rows(&bytes, depth);
        (n, depth) = (n * 2, depth * 2);
    }
    let zero = node.attrs().int_or("x_zero", 0)?;
    let mut sums = Vec::new();
    if zero != 0 {
        sums = vec![0i32; (1 + taps) * n];
        for (m, row) in bytes.chunks_exact(depth).enumerate() {
            for (tap, part) in row.chunks_exact(depth / taps).enumerate() {
                let sum = part.iter().map(|&v| i64::from(v as i8)).sum::<i64>() * zero;
                sums[(1 + tap) * n + m] = sum as i32;
                sums[m] += sum as i32;
            }
        }
    }
    let method = method::<I>(node)?;
    let Some(blocks) = TILES[I].streams else { bail!(bug, "a tile that does not stream") };
    let y = output_dtype(node, 0)?;
    let zeros = u8::from(zero != 0);
    let w = dtype(node, 1)?;
    let types =
        format!("typedef {} TW;\ntypedef {} TY;\n#define HAS_ZERO {zeros}\n{}", c_type(w)?, c_type(y)?, has_text(node));
    let types = format!("{types}{limits}#define WHOLE_CHUNKS {}\n", u8::from(n % CHUNK == 0));
    let before = format!("{types}{}", end_text(ctx, node, ends(node.op()))?);
    let code = ctx.code(&stream_text(method, blocks, y, &before)?)?;
    let weights = Tensor::from_bytes(w, &[n, depth], &bytes)?;
    let mut tensors = vec![code, weights, Tensor::from_slice(&[sums.len()], &sums)];
    if let Some(fold) = fold {
        let x = dtype(node, 0)?;
        tensors.push(ctx.code(&fold.text(x, x, Filter::of(node)?.cin)?)?);
    }
    if paired {
        let given = ends(node.op()).into_iter().take(2).filter_map(|i| node.constant(i));
        tensors.extend(given.map(twice).collect::<Result<Vec<_>>>()?);
    }
    Ok(Packing { tensors, consumed: vec![1] })
}

/// Largest quotient by a scale of the result that `rounded` of the text takes.
const MOST_QUANTA: f64 = 4_194_304.0;

/// Which bounds the end has to keep, where packing keeps those of the type.
fn limits_text(node: &NodeView, weights: &[u8], n: usize) -> Result<String> {
    let Some(y) = Linear::from_attrs(node.attrs(), "y").ok().filter(|y| !y.dtype.is_float()) else {
        return Ok(String::new());
    };
    let all = Linear::new(y.scale, y.zero, y.dtype);
    let line = Line::of(node, ends(node.op())[3]);
    let most = if node.has(ends(node.op())[2]) {
        let [mid, r] =
            ["mid", "r"].map(|name| Linear::from_attrs(node.attrs(), name).map(|l| 255.0 * f64::from(l.scale)));
        mid? + r?
    } else {
        most_of_sums(node, weights, n)
    };
    // Comparisons with NaN are false.
    let ratio = line.map_or(1.0, |l| l.ratio.max(1.0));
    let bounded = most / f64::from(y.scale) * f64::from(ratio) < MOST_QUANTA;
    let mut flags = [bounded, y.low > all.low, y.high < all.high, false, false];
    if let Some(line) = line {
        // What is beyond a limit of the line need not be kept within those of the rounding before.
        [flags[1], flags[2]] = line.limits.map(|beyond| !beyond);
        [flags[3], flags[4]] = line.bounds(output_dtype(node, 0)?);
    }
    let names = ["BOUNDED", "LOWEST", "HIGHEST", "LINE_LOWEST", "LINE_HIGHEST"];
    Ok(names.iter().zip(flags).map(|(name, flag)| format!("#define {name} {}\n", u8::from(flag))).collect())
}

/// No result of bytes times weights (rows of n maps) is further from zero.
fn most_of_sums(node: &NodeView, weights: &[u8], n: usize) -> f64 {
    // Of an activation is known what does not make numbers larger.
    let tame = matches!(node.attrs().string_or("activation", "none"), Ok("none" | "relu" | "hard_swish"));
    let list = |i: usize| node.constant(i).and_then(|t| t.to_f64_vec().ok()).filter(|l| l.len() == n);
    let [scale, bias, ..] = ends(node.op());
    let bias = if node.has(bias) { list(bias) } else { Some(vec![0.0; n]) };
    let (Some(scale), Some(bias), true) = (list(scale), bias, tame) else { return f64::INFINITY };
    let rows = weights.chunks_exact((weights.len() / n.max(1)).max(1));
    let sums = rows.map(|row| row.iter().map(|&w| i64::from((w as i8).unsigned_abs())).sum::<i64>() as f64 * 255.0);
    sums.zip(scale.iter().zip(&bias)).map(|(sum, (s, b))| sum * s.abs() + b.abs()).fold(0.0, f64::max)
}

pub(super) fn load<const I: usize>(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let missing = || Error::invalid("the engine holds no weights for the kernel");
    let method = method::<I>(node)?;
    let (x, y) = (dtype(node, 0)?, output_dtype(node, 0)?);
    let ends = ends(node.op());
    let residual = node.dtype(ends[2]).unwrap_or(DType::U8);
    let weights = packed.get(1).ok_or_else(missing)?;
    let product = Product::load(ctx, packed.first(), method, Types { x, w: weights.dtype(), residual, y })?;
    let [n, depth] = *weights.shape() else { return Err(missing()) };
    let weights = ctx.weights(weights)?;
    let sums = packed.get(2).ok_or_else(missing)?;
    let sums = if sums.is_empty() { None } else { Some(ctx.weights(sums)?) };
    let fold = match fold_of(node)? {
        Some(fold) => Some((fold, ctx.function(Some(packed.get(3).ok_or_else(missing)?), "fold", 0)?)),
        None => None,
    };
    let filter = if node.op() == "oxrt.QConv" { Some(Filter::of(node)?) } else { None };
    let attrs = node.attrs().clone();
    let (whole, mut number) = numbers(node, ends)?;
    number[4] = attrs.float_or("scale", 1.0)?;
    let zero = attrs.int_or("x_zero", 0)?;
    let row = row_residual(node);
    let paired = is_paired(node)?;
    let twice =
        if paired { packed[3..].iter().map(|t| ctx.weights(t)).collect::<Result<Vec<_>>>()? } else { Vec::new() };
    let rows = if paired { 2 } else { 1 };
    kernel(move |args| {
        let x = args.shape(0)?;
        counts(x.iter().product())?;
        let (images, channels) = (x.first().copied().unwrap_or(1), x.last().copied().unwrap_or(1));
        let plain = Sizes { n, ldw: depth, ldy: n, batch: [1, 1], ..Sizes::default() };
        let mut windows = Window2::default();
        let mut padded = false;
        let mut folding = None;
        let sizes = match (&filter, &fold) {
            (None, _) => {
                if channels != depth {
                    bail!(invalid, "rows of shape {x:?} for weights of {depth} rows");
                }
                let m = x[..x.len() - 1].iter().product();
                makes(args, m * n)?;
                Sizes { m, k: depth, ldx: depth, ..plain }
            }
            (Some(f), Some((fold, _))) => {
                let (sizes, folded) = fold.place(f, window(args, &attrs, f)?, images)?;
                folding = Some(folded);
                sizes
            }
            (Some(f), None) => {
                windows = window(args, &attrs, f)?;
                padded = windows.leaves_image();
                let pixels = images * windows.output[0] * windows.output[1];
                if pixels % rows != 0 {
                    bail!(bug, "{pixels} pixels in pairs");
                }
                windows.cin *= rows;
                Sizes { m: pixels / rows, k: depth, ldx: f.cin * rows, window: Some(windows), ..plain }
            }
        };
        if ends_fit(args, ends, n / rows)? && !row {
            bail!(bug, "a residual of one row where more were known");
        }
        let m = sizes.m;
        let plan = product.plan(sizes)?;
        let (product, weights, sums, twice) = (product.clone(), weights.clone(), sums.clone(), twice.clone());
        let folds = fold.as_ref().map(|(_, launcher)| launcher.clone());
        let own = plan.workspace().next_multiple_of(256);
        let scratch = own + folding.as_ref().map_or(0, |f| f.elements());
        bound(move |io| {
            let mut x = io.input::<u8>(0);
            // SAFETY: buffers have the bound sizes, the weights were packed for this node; a folded image lies behind the product's
            // own workspace.
            unsafe {
                if let (Some(folds), Some(folding)) = (&folds, &folding) {
                    let image = io.workspace.add(own);
                    folding.run(folds, io, x, image, zero as f32)?;
                    x = image.cast_const();
                }
                let of_column =
                    |i: usize| twice.get(i).map_or_else(|| io.input::<u8>(ends[i]), |w| w.ptr().cast_const());
                let end = |p: Params| {
                    let sums = sums.as_ref().map_or(std::ptr::null(), |s| s.ptr().cast_const());
                    let p = p.ptr(of_column(0)).ptr(sums);
                    let p = p.ptr(io.input::<u8>(ends[3])).ptr(io.input::<u8>(ends[4]));
                    let p = p.u32(usize::from(padded)).u32(windows.input[0]).u32(windows.input[1]);
                    number.into_iter().fold(p.i32s(&whole), Params::f32)
                };
                let operands = [x, weights.ptr().cast_const(), of_column(1), io.input(ends[2])];
                product.run_ended(&plan, io, operands, io.output(0), end)
            }
        })
        .workspace(scratch)
        .flops(2 * m * n * depth)
        .boxed()
    })
}
