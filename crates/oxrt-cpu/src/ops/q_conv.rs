//! `oxrt.QConv`: quantised convolution, channels last.

use super::quantised::{Ending, ending, ending_supported, flip, is_byte, kernels, moved, packed_as, spread, tame};
use super::{Entry, holds, known_shape, makes, require, sizes};
use crate::backend::{Ctx, bound, kernel};
use crate::compute::conv::Filter;
use crate::compute::conv_i8::{ConvI8, Operands, Path, Weights};
use crate::compute::gemm_i8::{self, Io};
use crate::compute::window::Window;
use crate::kernels::dot_i8::Store;
use oxrt_backend::{Kernel, NodeView, Packing};
use oxrt_ir::{DType, Tensor};
use oxrt_tensor::{Error, Result, bail};

pub(super) const CONV: Entry = Entry { name: "q_conv", ops: &["oxrt.QConv"], supports, pack, load };

fn supports(node: &NodeView) -> Option<()> {
    require(is_byte(node.dtype(0)) && node.dtype(1)? == DType::I8)?;
    let w = node.constant(1)?;
    require(node.constant(2)?.dtype() == DType::F32 && (!node.has(3) || node.constant(3)?.dtype() == DType::F32))?;
    require((3..=5).contains(&w.rank()) && node.rank(0)? == w.rank())?;
    require(node.attrs().string_or("auto_pad", "NOTSET").ok()? == "NOTSET")?;
    sizes(node.attrs().ints("pads").ok()?.unwrap_or(&[]))?;
    let weights = weights(node, w.shape()).ok()?;
    let f = weights.filter;
    require(f.cin % f.groups == 0 && f.cout % f.groups == 0 && f.cout > 0)?;
    require(weights.path == Path::Depthwise || gemm_i8::fits(f.taps))?;
    // A row of the residual is read by natural channel; so is its result.
    require(!node.has(4) || node.output_dtype(0)? != DType::F32)?;
    ending_supported(node, 4, 5)
}

fn weights(node: &NodeView, w: &[usize]) -> Result<Weights> {
    let attrs = node.attrs();
    let groups = usize::try_from(attrs.int_or("group", 1)?).ok().filter(|&g| g > 0);
    let groups = groups.ok_or_else(|| Error::invalid("a convolution's group count must be positive"))?;
    let filter = Filter { cin: w[1] * groups, cout: w[0], groups, taps: w[2..].iter().product() };
    let dilation = attrs.ints("dilations")?.and_then(|d| d.last().copied()).unwrap_or(1);
    let mut weights = Weights::new(filter, w.last().copied().unwrap_or(1), usize::try_from(dilation).unwrap_or(0));
    if attrs.int_or("w_zero", 0)? != 0 && weights.path == Path::Depthwise {
        // Sums of windows come with the product only.
        weights.path = Path::Positions;
    }
    Ok(weights)
}

/// The constants of a convolution of moved bytes with zero point `x_zero`: weights, starts of the sums, scales and biases.
fn pack(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let kernels = kernels(ctx);
    let w = node.constant(1).ok_or_else(|| Error::bug("the weights are not constant"))?;
    let weights = weights(node, w.shape())?;
    let mut packed = vec![0i8; weights.packed_len(kernels)];
    let sums = weights.pack(kernels, w.as_slice::<i8>(), &mut packed);
    let attrs = node.attrs();
    let x_zero = moved(attrs.int_or("x_zero", 0)?, node.dtype(0).unwrap_or(DType::U8));
    let f = weights.filter;
    let both = (f.taps * (f.cin / f.groups)) as i32 * x_zero * attrs.int_or("w_zero", 0)? as i32;
    let init: Vec<i32> = sums.iter().map(|s| both - x_zero * s).collect();
    let columns = weights.columns(kernels);
    let place = |m: usize| weights.column(kernels, m);
    let factor = ending(attrs, node.dtype(4))?.factor;
    let vector = |i: usize| -> Result<Vec<f32>> {
        let values = node.constant(i).map_or(vec![0.0; f.cout], |t| t.as_slice::<f32>().to_vec());
        if values.len() != f.cout {
            bail!(invalid, "{} numbers for {} maps", values.len(), f.cout);
        }
        Ok(spread(&values, factor, columns, place))
    };
    let (scale, bias) = (vector(2)?, vector(3)?);
    Ok(Packing {
        tensors: vec![
            Tensor::from_slice(&[packed.len()], &packed),
            Tensor::from_slice(&[columns], &init),
            Tensor::from_slice(&[columns], &scale),
            Tensor::from_slice(&[columns], &bias),
        ],
        consumed: if node.has(3) { vec![1, 2, 3] } else { vec![1, 2] },
    })
}

fn load(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let shape = known_shape(node, 1)?;
    let weights = weights(node, &shape)?;
    let kernels = kernels(ctx);
    let columns = weights.columns(kernels);
    let w = packed_as::<i8>(packed, 0, weights.packed_len(kernels))?;
    let init = packed_as::<i32>(packed, 1, columns)?;
    let (scale, bias) = (packed_as::<f32>(packed, 2, columns)?, packed_as::<f32>(packed, 3, columns)?);
    let attrs = node.attrs();
    let list = |name: &str| -> Result<Vec<usize>> {
        sizes(attrs.ints(name)?.unwrap_or(&[])).ok_or_else(|| Error::invalid(format!("a negative number in `{name}`")))
    };
    let (strides, dilations, pads) = (list("strides")?, list("dilations")?, list("pads")?);
    let kernel_shape = shape[2..].to_vec();
    let Ending { mut end, .. } = ending(attrs, node.dtype(4))?;
    let k = weights.filter.taps * (weights.filter.cin / weights.filter.groups);
    end.saturates = tame(scale.as_slice(), bias.as_slice(), k, &end);
    let x_dtype = node.dtype(0).ok_or_else(|| Error::bug("an operand without a type"))?;
    let (x_zero, x_flip) = (attrs.int_or("x_zero", 0)? as u8, flip(x_dtype));
    let size_of = if end.store == Store::Byte { 1 } else { 4 };
    let ctx = ctx.clone();
    kernel(move |args| {
        let (x, y) = (args.shape(0)?, args.output(0)?);
        let filter = weights.filter;
        let last = x.len() - 1;
        if x[last] != filter.cin {
            bail!(invalid, "a filter for {} channels cannot take {}", filter.cin, x[last]);
        }
        let residual_stride = match args.opt_shape(4) {
            Some(r) if r == [filter.cout] => 0,
            Some(r) if r != y => bail!(unsupported, "a residual of shape {r:?} for a result of shape {y:?}"),
            _ => filter.cout,
        };
        let window = Window::new(x[0], &x[1..last], &kernel_shape, &strides, &dilations, &pads, &y[1..last])
            .ok_or_else(|| Error::unsupported(format!("a convolution over shape {x:?}")))?;
        makes(args, x[0] * filter.cout * window.output_pixels())?;
        holds(args, 5, 256)?;
        holds(args, 6, 256)?;
        let conv = ConvI8::new(kernels, weights, window, ctx.threads());
        let flops = 2 * y.iter().product::<usize>() * filter.taps * (filter.cin / filter.groups);
        let workspace = conv.workspace_len();
        let (ctx, w, init, scale, bias) = (ctx.clone(), w.clone(), init.clone(), scale.clone(), bias.clone());
        bound(move |io| {
            let op = Operands {
                x: io.input(0),
                x_zero,
                io: Io {
                    flip: x_flip,
                    slack: false,
                    b: w.as_slice::<i8>().as_ptr(),
                    init: init.as_slice::<i32>().as_ptr(),
                    scale: scale.as_slice::<f32>().as_ptr(),
                    bias: bias.as_slice::<f32>().as_ptr(),
                    residual: io.input(4),
                    residual_stride,
                    mid_table: io.input(6),
                    table: io.input(5),
                    y: io.output(0),
                    y_stride: filter.cout * size_of,
                },
                end,
            };
            // SAFETY: buffers have the bound sizes, the weights were packed for this filter.
            unsafe { conv.run(&ctx.pool, &op, io.workspace) }
        })
        .workspace(workspace)
        .flops(flops)
        .boxed()
    })
}
