//! Convolutions: channels last as the layout pass makes them, and in ONNX's own order by turning in and out.

use super::{
    Entry, activation, float, float_or_absent, known_shape, makes, packed_floats, packed_tensor, require, sizes,
    static_shape,
};
use crate::backend::{Ctx, bound, kernel};
use crate::compute::conv::{Conv, Filter, Operands};
use crate::compute::copy::StridedCopy;
use crate::compute::window::Window;
use crate::compute::winograd::{self, Winograd};
use crate::pool::ThreadPool;
use oxrt_backend::{BindArgs, Kernel, NodeView, Packing};
use oxrt_ir::Tensor;
use oxrt_tensor::{Error, Result, bail};

/// `oxrt.Conv`: channels last.
pub(super) const CONV: Entry = Entry {
    name: "conv",
    ops: &["oxrt.Conv"],
    supports,
    pack,
    load: |ctx, node, packed| load(ctx, node, packed, Method::Direct, true),
};

/// `oxrt.Conv` by Winograd's transforms, with tiles of 4 x 4 outputs.
pub(super) const WINOGRAD_4: Entry = Entry {
    name: "conv_winograd4",
    ops: &["oxrt.Conv"],
    supports: |node| require(winograd_tile(node)? == 4),
    pack: |ctx, node| pack_winograd(ctx, node, 4),
    load: |ctx, node, packed| load(ctx, node, packed, Method::Winograd(4), true),
};

/// The same with tiles of 2 x 2 outputs.
pub(super) const WINOGRAD_2: Entry = Entry {
    name: "conv_winograd2",
    ops: &["oxrt.Conv"],
    supports: |node| require(winograd_tile(node)? == 2),
    pack: |ctx, node| pack_winograd(ctx, node, 2),
    load: |ctx, node, packed| load(ctx, node, packed, Method::Winograd(2), true),
};

/// How a convolution is done.
#[derive(Clone, Copy, PartialEq)]
enum Method {
    Direct,
    /// With tiles of that many outputs per side.
    Winograd(usize),
}

/// `Conv` in ONNX's order.
pub(super) const CONV_NCHW: Entry = Entry {
    name: "conv_nchw",
    ops: &["Conv"],
    supports,
    pack,
    load: |ctx, node, packed| load(ctx, node, packed, Method::Direct, false),
};

pub(super) fn supports(node: &NodeView) -> Option<()> {
    for i in 0..2 {
        float(node, i)?;
    }
    float_or_absent(node, 2)?;
    float_or_absent(node, 3)?;
    has_constant_filter(node)
}

/// Whether the node is a convolution with constant weights, whatever their type.
pub(super) fn has_constant_filter(node: &NodeView) -> Option<()> {
    let w = node.constant(1)?;
    require((3..=5).contains(&w.rank()) && node.rank(0)? == w.rank())?;
    require(node.attrs().string_or("auto_pad", "NOTSET").ok()? == "NOTSET")?;
    sizes(node.attrs().ints("pads").ok()?.unwrap_or(&[]))?;
    activation(node.attrs()).ok()?;
    let f = filter(node, w.shape()).ok()?;
    require(f.cin % f.groups == 0 && f.cout % f.groups == 0 && f.cout > 0)
}

pub(super) fn filter(node: &NodeView, w: &[usize]) -> Result<Filter> {
    let groups = node.attrs().int_or("group", 1)?;
    let groups = usize::try_from(groups).ok().filter(|&g| g > 0);
    let groups = groups.ok_or_else(|| Error::invalid("a convolution's group count must be positive"))?;
    Ok(Filter { cin: w[1] * groups, cout: w[0], groups, taps: w[2..].iter().product() })
}

/// The convolutions that Winograd's transforms are for: windows of 3 x 3 at every pixel.
pub(super) fn winograd_fits(node: &NodeView) -> Option<()> {
    supports(node)?;
    let shape = static_shape(node, 1)?;
    let ones = |name: &str| node.attrs().ints(name).ok().map(|v| v.unwrap_or(&[]).iter().all(|&v| v == 1));
    require(shape.len() == 4 && shape[2..] == [3, 3] && filter(node, &shape).ok()?.groups == 1)?;
    require(ones("strides")? && ones("dilations")?)
}

/// The tile size of Winograd's transforms that should beat the direct method for this node, if there is one.
///
/// Counted in multiply-adds: products, transforms (some per channel and position), and the weights' way from memory, of
/// which the transforms have more. The image's size decides how much of the tiles is wasted at the borders.
fn winograd_tile(node: &NodeView) -> Option<usize> {
    /// Multiply-adds in the time that one weight takes from memory.
    const WEIGHT: f64 = 19.0;
    /// Multiply-adds in the time that one transformed value takes.
    const TRANSFORM: f64 = 10.0;
    /// Image side where the size is not known at build time.
    const SIDE: usize = 56;
    winograd_fits(node)?;
    let filter = filter(node, &static_shape(node, 1)?).ok()?;
    let dims = node.output_ty(0)?.dims.as_ref()?;
    let side = |d: usize| dims[d].as_size().unwrap_or(SIDE);
    let (batch, h, w) = (dims[0].as_size().unwrap_or(1), side(1), side(2));
    let products = (filter.cin * filter.cout) as f64;
    let channels = (filter.cin + filter.cout) as f64;
    let direct = 9.0 * products * ((batch * h * w) as f64).max(WEIGHT);
    // Transformed weights of this many bytes and more push everything else out of the caches, and swell the engine.
    const MANY_BYTES: f64 = 100e6;
    let cost = |m: usize| {
        let tiles = (batch * h.div_ceil(m) * w.div_ceil(m)) as f64;
        let positions = ((m + 2) * (m + 2)) as f64;
        let weight = if 4.0 * positions * products > MANY_BYTES { 3.0 * WEIGHT } else { WEIGHT };
        positions * (products * tiles.max(weight) + TRANSFORM * channels * tiles)
    };
    let (two, four) = (cost(2), cost(4));
    // A clear gain only: the direct method is the more exact one.
    let (m, best) = if four < two { (4, four) } else { (2, two) };
    (best < 0.8 * direct).then_some(m)
}

/// Bytes that the weights grow by, for a candidate that is one of Winograd's transforms.
pub(crate) fn extra_bytes(node: &NodeView, candidate: &str) -> usize {
    let tile = match candidate {
        name if name == WINOGRAD_4.name => 4,
        name if name == WINOGRAD_2.name => 2,
        _ => return 0,
    };
    let weights: usize = static_shape(node, 1).map_or(0, |shape| shape[..2].iter().product());
    4 * weights * ((tile + 2) * (tile + 2) - 9)
}

fn pack_winograd(ctx: &Ctx, node: &NodeView, m: usize) -> Result<Packing> {
    let w = node.constant(1).ok_or_else(|| Error::bug("the weights are not constant"))?;
    let filter = filter(node, w.shape())?;
    let mut packed = vec![0.0; winograd::packed_len(ctx.kernels, &filter, m)];
    winograd::pack(ctx.kernels, &ctx.pool, &filter, m, &w.to_f32_cow()?, &mut packed);
    Ok(Packing { tensors: vec![packed_tensor(&packed)], consumed: vec![1] })
}

/// A convolution of either method, bound to sizes.
enum Step {
    Direct(Conv),
    Winograd(Winograd),
}

impl Step {
    fn workspace_len(&self) -> usize {
        match self {
            Step::Direct(step) => step.workspace_len(),
            Step::Winograd(step) => step.workspace_len(),
        }
    }

    /// # Safety
    /// As the methods' own `run`.
    unsafe fn run(&self, pool: &ThreadPool, op: &Operands, workspace: *mut f32) {
        // SAFETY: passed on.
        unsafe {
            match self {
                Step::Direct(step) => step.run(pool, op, workspace),
                Step::Winograd(step) => step.run(pool, op, workspace),
            }
        }
    }
}

fn pack(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let w = node.constant(1).ok_or_else(|| Error::bug("the weights are not constant"))?;
    let filter = filter(node, w.shape())?;
    let mut packed = vec![0.0; filter.packed_len(ctx.kernels)];
    filter.pack(ctx.kernels, &w.to_f32_cow()?, &mut packed);
    Ok(Packing { tensors: vec![packed_tensor(&packed)], consumed: vec![1] })
}

/// What a convolution's node says of its windows.
pub(super) struct Geometry {
    pub filter: Filter,
    kernel: Vec<usize>,
    strides: Vec<usize>,
    dilations: Vec<usize>,
    pads: Vec<usize>,
    has_residual: bool,
    channels_last: bool,
}

impl Geometry {
    pub fn of(node: &NodeView, filter: Filter, weights: &[usize], channels_last: bool) -> Result<Geometry> {
        let list = |name: &str| -> Result<Vec<usize>> {
            sizes(node.attrs().ints(name)?.unwrap_or(&[]))
                .ok_or_else(|| Error::invalid(format!("a negative number in `{name}`")))
        };
        Ok(Geometry {
            filter,
            kernel: weights[2..].to_vec(),
            strides: list("strides")?,
            dilations: list("dilations")?,
            pads: list("pads")?,
            has_residual: node.has(3),
            channels_last,
        })
    }

    /// The window at the bound sizes, after a check of the operands' shapes.
    pub fn window(&self, args: &BindArgs) -> Result<Window> {
        let (x, y, filter) = (args.shape(0)?, args.output(0)?, self.filter);
        if let Some(bias) = args.opt_shape(2).filter(|b| *b != [filter.cout]) {
            bail!(invalid, "a bias of shape {bias:?} for {} maps", filter.cout);
        }
        let last = x.len() - 1;
        let (channel_axis, spatial) = if self.channels_last { (last, 1..last) } else { (1, 2..last + 1) };
        if x[channel_axis] != filter.cin {
            bail!(invalid, "a filter for {} channels cannot take {}", filter.cin, x[channel_axis]);
        }
        if self.has_residual && args.shape(3)? != y {
            bail!(unsupported, "a residual of shape {:?} for a result of shape {y:?}", args.shape(3)?);
        }
        let (input, output) = (&x[spatial.clone()], &y[spatial]);
        let window = Window::new(x[0], input, &self.kernel, &self.strides, &self.dilations, &self.pads, output)
            .ok_or_else(|| Error::unsupported(format!("a convolution over shape {x:?}")))?;
        makes(args, x[0] * filter.cout * window.output_pixels())?;
        Ok(window)
    }
}

fn load(ctx: &Ctx, node: &NodeView, packed: &[Tensor], method: Method, channels_last: bool) -> Result<Box<dyn Kernel>> {
    let shape = known_shape(node, 1)?;
    let filter = filter(node, &shape)?;
    let packed_len = match method {
        Method::Direct => filter.packed_len(ctx.kernels),
        Method::Winograd(m) => winograd::packed_len(ctx.kernels, &filter, m),
    };
    let w = packed_floats(packed, 0, packed_len)?;
    let geometry = Geometry::of(node, filter, &shape, channels_last)?;
    let act = activation(node.attrs())?;
    let (ctx, has_residual) = (ctx.clone(), node.has(3));
    kernel(move |args| {
        let (x, y) = (args.shape(0)?, args.output(0)?);
        let window = geometry.window(args)?;
        let conv = match method {
            Method::Direct => Step::Direct(Conv::new(ctx.kernels, filter, window, ctx.threads())),
            Method::Winograd(m) => Step::Winograd(Winograd::new(ctx.kernels, filter, window, m, ctx.threads())),
        };
        let flops = 2 * y.iter().product::<usize>() * filter.taps * (filter.cin / filter.groups);
        let round = |len: usize| len.next_multiple_of(16);
        let (x_len, y_len) = (x.iter().product::<usize>(), y.iter().product::<usize>());
        let own = round(conv.workspace_len());
        let (ctx, w) = (ctx.clone(), w.clone());
        let operands = move |x, bias, residual, y| Operands {
            x,
            w: w.as_slice::<f32>().as_ptr(),
            bias,
            residual,
            y,
            y_step: filter.cout,
            act,
        };
        if channels_last {
            return bound(move |io| {
                let op = operands(io.input(0), io.input(2), io.input(3), io.output(0));
                // SAFETY: buffers have the bound sizes, the weights were packed for this filter.
                unsafe { conv.run(&ctx.pool, &op, io.workspace.cast()) }
            })
            .workspace(own * 4)
            .flops(flops)
            .boxed();
        }
        let pixels_in: usize = x[2..].iter().product();
        let pixels_out: usize = y[2..].iter().product();
        let turn_in = StridedCopy::transpose(&[x[0], filter.cin, pixels_in], &[0, 2, 1], 4);
        let turn_residual =
            has_residual.then(|| StridedCopy::transpose(&[x[0], filter.cout, pixels_out], &[0, 2, 1], 4));
        let turn_out = StridedCopy::transpose(&[x[0], pixels_out, filter.cout], &[0, 2, 1], 4);
        let residual_len = if has_residual { round(y_len) } else { 0 };
        bound(move |io| {
            // SAFETY: the workspace holds its own part, then input, output and residual, channels last.
            unsafe {
                let workspace = io.workspace.cast::<f32>();
                let x = workspace.add(own);
                let y = x.add(round(x_len));
                turn_in.run(&ctx.pool, io.input(0), x.cast());
                let mut residual = core::ptr::null();
                if let Some(turn) = &turn_residual {
                    let to = y.add(round(y_len));
                    turn.run(&ctx.pool, io.input(3), to.cast());
                    residual = to.cast_const();
                }
                conv.run(&ctx.pool, &operands(x, io.input(2), residual, y), workspace);
                turn_out.run(&ctx.pool, y.cast_const().cast(), io.output(0));
            }
        })
        .workspace((own + round(x_len) + round(y_len) + residual_len) * 4)
        .flops(flops)
        .boxed()
    })
}
