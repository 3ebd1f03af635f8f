//! Pooling, channels last and in ONNX's order.

use super::{Entry, float, makes, pack_nothing, require, sizes};
use crate::backend::{Ctx, bound, kernel};
use crate::compute::copy::StridedCopy;
use crate::compute::pooling::{self, Kind};
use crate::compute::reduce;
use crate::compute::window::Window;
use crate::kernels::reduce::Reduction;
use oxrt_backend::{BindArgs, Kernel, NodeView};
use oxrt_ir::Tensor;
use oxrt_tensor::{Error, Result};

pub(super) const WINDOW: Entry = Entry {
    name: "pool",
    ops: &["MaxPool", "AveragePool", "oxrt.MaxPool", "oxrt.AveragePool"],
    supports,
    pack: pack_nothing,
    load,
};
pub(super) const GLOBAL: Entry = Entry {
    name: "global_pool",
    ops: &["GlobalMaxPool", "GlobalAveragePool", "oxrt.GlobalMaxPool", "oxrt.GlobalAveragePool"],
    supports: |node| float(node, 0).and(require(node.rank(0)? >= 2)),
    pack: pack_nothing,
    load: global,
};

fn supports(node: &NodeView) -> Option<()> {
    float(node, 0)?;
    has_plain_windows(node)
}

/// Whether the node's windows have stated pads, and nobody asks for the places of the maxima.
pub(super) fn has_plain_windows(node: &NodeView) -> Option<()> {
    let attrs = node.attrs();
    // Positions of the maxima are left to the reference.
    require((1..node.num_outputs()).all(|i| node.node().output(i).is_none()))?;
    require((3..=5).contains(&node.rank(0)?))?;
    require(attrs.string_or("auto_pad", "NOTSET").ok()? == "NOTSET")?;
    sizes(attrs.ints("pads").ok()?.unwrap_or(&[]))?;
    sizes(attrs.ints("kernel_shape").ok()??).map(|_| ())
}

/// What a pooling node says of its windows.
pub(super) struct Windows {
    kernel: Vec<usize>,
    strides: Vec<usize>,
    dilations: Vec<usize>,
    pads: Vec<usize>,
}

impl Windows {
    pub fn of(node: &NodeView) -> Result<Windows> {
        let list = |name: &str| -> Result<Vec<usize>> {
            sizes(node.attrs().ints(name)?.unwrap_or(&[]))
                .ok_or_else(|| Error::invalid(format!("a negative number in `{name}`")))
        };
        Ok(Windows {
            kernel: list("kernel_shape")?,
            strides: list("strides")?,
            dilations: list("dilations")?,
            pads: list("pads")?,
        })
    }

    /// The window at the bound sizes, and the channels.
    pub fn bind(&self, args: &BindArgs, channels_last: bool) -> Result<(Window, usize)> {
        let (x, y) = (args.shape(0)?, args.output(0)?);
        let (c, spatial) = if channels_last { (x.len() - 1, 1..x.len() - 1) } else { (1, 2..x.len()) };
        let (input, output) = (&x[spatial.clone()], &y[spatial]);
        let window = Window::new(x[0], input, &self.kernel, &self.strides, &self.dilations, &self.pads, output)
            .ok_or_else(|| Error::unsupported(format!("pooling over shape {x:?}")))?;
        makes(args, x[0] * x[c] * window.output_pixels())?;
        Ok((window, x[c]))
    }
}

fn load(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let attrs = node.attrs();
    let windows = Windows::of(node)?;
    let last = node.op().starts_with("oxrt.");
    let mut ends = [0; 3];
    let rank = windows.kernel.len();
    if windows.pads.len() == 2 * rank && rank <= 3 {
        ends[3 - rank..].copy_from_slice(&windows.pads[rank..]);
    }
    let kind = if node.op().ends_with("MaxPool") {
        Kind::Max
    } else if attrs.bool_or("count_include_pad", false)? {
        Kind::AveragePadded(ends)
    } else {
        Kind::Average
    };
    let ctx = ctx.clone();
    kernel(move |args| {
        let (x, y) = (args.shape(0)?, args.output(0)?);
        let (window, channels) = windows.bind(args, last)?;
        let flops = y.iter().product::<usize>() * window.taps();
        let ctx = ctx.clone();
        if last {
            return bound(move |io| {
                // SAFETY: buffers have the bound sizes.
                unsafe {
                    pooling::pool(ctx.kernels, &ctx.pool, kind, &window, channels, io.input(0), io.output(0));
                }
            })
            .flops(flops)
            .boxed();
        }
        let (pixels_in, pixels_out) = (window.input_pixels(), window.output_pixels());
        let turn_in = StridedCopy::transpose(&[x[0], channels, pixels_in], &[0, 2, 1], 4);
        let turn_out = StridedCopy::transpose(&[x[0], pixels_out, channels], &[0, 2, 1], 4);
        let x_len = x.iter().product::<usize>().next_multiple_of(16);
        let y_len: usize = y.iter().product();
        bound(move |io| {
            // SAFETY: the workspace holds input and output, channels last.
            unsafe {
                let x = io.workspace.cast::<f32>();
                let y = x.add(x_len);
                turn_in.run(&ctx.pool, io.input(0), x.cast());
                pooling::pool(ctx.kernels, &ctx.pool, kind, &window, channels, x, y);
                turn_out.run(&ctx.pool, y.cast_const().cast(), io.output(0));
            }
        })
        .workspace((x_len + y_len) * 4)
        .flops(flops)
        .boxed()
    })
}

fn global(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let last = node.op().starts_with("oxrt.");
    let kind = if node.op().ends_with("MaxPool") { Reduction::Max } else { Reduction::Sum };
    let ctx = ctx.clone();
    kernel(move |args| {
        let x = args.shape(0)?;
        let channels = if last { x[x.len() - 1] } else { x[1] };
        let len: usize = x.iter().product();
        let pixels = len.checked_div(x[0] * channels).unwrap_or(0);
        let (outer, inner) = if last { (x[0], channels) } else { (x[0] * channels, 1) };
        makes(args, outer * inner)?;
        let parts = reduce::row_parts(&ctx.pool, outer, pixels, inner);
        let ctx = ctx.clone();
        bound(move |io| {
            let (x, y) = (io.input(0), io.output::<f32>(0));
            // SAFETY: buffers have the bound sizes, the workspace a result for each part.
            unsafe {
                if parts > 1 {
                    let (columns, scratch) = (ctx.kernels.reduce_columns, io.workspace.cast());
                    reduce::reduce_by_rows(
                        ctx.kernels,
                        columns,
                        &ctx.pool,
                        kind,
                        x,
                        y,
                        (pixels, inner),
                        parts,
                        scratch,
                    );
                } else {
                    reduce::reduce(ctx.kernels, &ctx.pool, kind, x, y, outer, pixels, inner);
                }
                if kind == Reduction::Sum {
                    (ctx.kernels.affine)(y, y, outer * inner, 1.0 / pixels as f32, 0.0);
                }
            }
        })
        .workspace(if parts > 1 { 4 * parts * inner } else { 0 })
        .flops(len)
        .boxed()
    })
}
