//! Transposed convolutions.

use super::{
    Entry, activation, float, float_or_absent, holds, known_shape, makes, packed_floats, packed_tensor, require, sizes,
};
use crate::backend::{Ctx, bound, kernel};
use crate::compute::copy::StridedCopy;
use crate::compute::transposed::{ConvTranspose, Filter, MAX_TAPS, Operands};
use crate::compute::window::Window;
use oxrt_backend::{Kernel, NodeView, Packing};
use oxrt_ir::Tensor;
use oxrt_tensor::{Error, Result, bail};

pub(super) const CONV_TRANSPOSE: Entry =
    Entry { name: "conv_transpose", ops: &["oxrt.ConvTranspose", "ConvTranspose"], supports, pack, load };

fn supports(node: &NodeView) -> Option<()> {
    float(node, 0)?;
    float(node, 1)?;
    float_or_absent(node, 2)?;
    let w = node.constant(1)?;
    let attrs = node.attrs();
    require((3..=5).contains(&w.rank()) && node.rank(0)? == w.rank() && !node.has(3))?;
    require(attrs.string_or("auto_pad", "NOTSET").ok()? == "NOTSET" && !attrs.has("output_shape"))?;
    sizes(attrs.ints("pads").ok()?.unwrap_or(&[]))?;
    activation(attrs).ok()?;
    let f = filter(node, w.shape()).ok()?;
    require(f.cin % f.groups == 0 && f.taps <= MAX_TAPS)
}

fn filter(node: &NodeView, w: &[usize]) -> Result<Filter> {
    let groups = usize::try_from(node.attrs().int_or("group", 1)?).ok().filter(|&g| g > 0);
    let groups = groups.ok_or_else(|| Error::invalid("a convolution's group count must be positive"))?;
    Ok(Filter { cin: w[0], cout: w[1] * groups, groups, taps: w[2..].iter().product() })
}

fn pack(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let w = node.constant(1).ok_or_else(|| Error::bug("the weights are not constant"))?;
    let filter = filter(node, w.shape())?;
    let mut packed = vec![0.0; filter.packed_len(ctx.kernels)];
    filter.pack(ctx.kernels, &w.to_f32_cow()?, &mut packed);
    Ok(Packing { tensors: vec![packed_tensor(&packed)], consumed: vec![1] })
}

fn load(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let shape = known_shape(node, 1)?;
    let filter = filter(node, &shape)?;
    let w = packed_floats(packed, 0, filter.packed_len(ctx.kernels))?;
    let attrs = node.attrs();
    let list = |name: &str| -> Result<Vec<usize>> {
        sizes(attrs.ints(name)?.unwrap_or(&[])).ok_or_else(|| Error::invalid(format!("a negative number in `{name}`")))
    };
    let (strides, dilations, pads) = (list("strides")?, list("dilations")?, list("pads")?);
    let kernel_shape = shape[2..].to_vec();
    let act = activation(attrs)?;
    let last = node.op().starts_with("oxrt.");
    let ctx = ctx.clone();
    kernel(move |args| {
        let (x, y) = (args.shape(0)?, args.output(0)?);
        let (c, spatial) = if last { (x.len() - 1, 1..x.len() - 1) } else { (1, 2..x.len()) };
        if x[c] != filter.cin {
            bail!(invalid, "a filter for {} channels cannot take {}", filter.cin, x[c]);
        }
        // The plain convolution runs the other way.
        let window =
            Window::new(x[0], &y[spatial.clone()], &kernel_shape, &strides, &dilations, &pads, &x[spatial.clone()])
                .ok_or_else(|| Error::unsupported(format!("a transposed convolution over shape {x:?}")))?;
        makes(args, x[0] * filter.cout * window.input_pixels())?;
        holds(args, 2, filter.cout)?;
        let step = ConvTranspose::new(ctx.kernels, filter, window);
        let (pixels_in, pixels_out) = (window.output_pixels(), window.input_pixels());
        let flops = 2 * x[0] * pixels_in * filter.taps * filter.cin * (filter.cout / filter.groups);
        let own = step.workspace_len().next_multiple_of(16);
        let (ctx, w) = (ctx.clone(), w.clone());
        if last {
            return bound(move |io| {
                let w = w.as_slice::<f32>().as_ptr();
                let op = Operands { x: io.input(0), w, bias: io.input(2), y: io.output(0), act };
                // SAFETY: buffers have the bound sizes, the weights were packed for this filter.
                unsafe { step.run(&ctx.pool, &op, io.workspace.cast()) }
            })
            .workspace(own * 4)
            .flops(flops)
            .boxed();
        }
        let turn_in = StridedCopy::transpose(&[x[0], filter.cin, pixels_in], &[0, 2, 1], 4);
        let turn_out = StridedCopy::transpose(&[x[0], pixels_out, filter.cout], &[0, 2, 1], 4);
        let x_len = x.iter().product::<usize>().next_multiple_of(16);
        let y_len: usize = y.iter().product();
        bound(move |io| {
            // SAFETY: the workspace holds the step's own, then input and output, channels last.
            unsafe {
                let workspace = io.workspace.cast::<f32>();
                let x = workspace.add(own);
                let y = x.add(x_len);
                turn_in.run(&ctx.pool, io.input(0), x.cast());
                let op = Operands { x, w: w.as_slice::<f32>().as_ptr(), bias: io.input(2), y, act };
                step.run(&ctx.pool, &op, workspace);
                turn_out.run(&ctx.pool, y.cast_const().cast(), io.output(0));
            }
        })
        .workspace((own + x_len + y_len) * 4)
        .flops(flops)
        .boxed()
    })
}
