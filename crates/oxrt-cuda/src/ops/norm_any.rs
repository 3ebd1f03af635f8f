//! Normalisations that the quicker kernels leave: over any axes, parameters of any type that broadcast, statistics as results.

use super::each::{only, pointers};
use super::gemm::is_float;
use super::map::{broadcast, collapse};
use super::{Entry, axis_of, c_type, contiguous, counts, dtype, makes, output_dtype, require};
use crate::backend::Ctx;
use crate::gpu::Params;
use oxrt_backend::{BindArgs, Kernel, NodeView, Packing, bound, kernel};
use oxrt_tensor::{DType, Error, Result, Tensor, bail};

const TEXT: &str = include_str!("../text/norm_any.cuh");

pub(super) const NORM_ANY: Entry = Entry::new(
    "norm_any",
    &[
        "LayerNormalization",
        "RMSNormalization",
        "SimplifiedLayerNormalization",
        "GroupNormalization",
        "InstanceNormalization",
        "MeanVarianceNormalization",
        "LpNormalization",
    ],
    supports,
    pack,
    load,
);

fn float(d: DType) -> bool {
    is_float(d) || d == DType::F64
}

fn supports(_: &Ctx, node: &NodeView) -> Option<()> {
    require(float(node.dtype(0)?) && float(node.output_dtype(0)?) && node.rank(0)? >= 1)?;
    require((1..node.num_inputs()).all(|i| node.dtype(i).is_none_or(float)))?;
    require(node.num_outputs() < 2 || node.op() == "LayerNormalization")?;
    require(node.op() != "LpNormalization" || matches!(node.attrs().int_or("p", 2), Ok(1 | 2)))
}

fn mode(node: &NodeView) -> Result<&'static str> {
    Ok(match node.op() {
        "LpNormalization" if node.attrs().int_or("p", 2)? == 1 => "LP_1",
        "LpNormalization" => "LP_2",
        "MeanVarianceNormalization" => "MEAN_VARIANCE",
        "RMSNormalization" | "SimplifiedLayerNormalization" => "SQUARES",
        _ => "CENTRED",
    })
}

fn pack(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let double = (0..node.num_inputs()).any(|i| node.dtype(i) == Some(DType::F64));
    let ty = |i: usize| c_type(node.dtype(i).unwrap_or(DType::F32));
    let modes: String = (["LP_1", "LP_2", "MEAN_VARIANCE", "CENTRED", "SQUARES"].iter().enumerate())
        .map(|(i, name)| format!("#define {name} {i}\n"))
        .collect();
    let types = format!(
        "typedef {} TX;\ntypedef {} TS;\ntypedef {} TB;\ntypedef {} TY;\ntypedef {} TM;\ntypedef {} C;\n",
        c_type(dtype(node, 0)?)?,
        ty(1)?,
        ty(2)?,
        c_type(output_dtype(node, 0)?)?,
        c_type((1..3).find_map(|i| node.output_dtype(i)).unwrap_or(DType::F32))?,
        if double { "f64" } else { "f32" }
    );
    let root = if double { "sqrt" } else { "sqrtf" };
    only(ctx, &format!("{modes}#define MODE {}\n#define SQUARE_ROOT {root}\n{types}{TEXT}", mode(node)?))
}

/// How x is cut into groups, and how the parameters lie to it.
struct Cut {
    /// A shape of x, and which of its axes a group runs over.
    shape: Vec<usize>,
    gone: Vec<bool>,
    /// Distances of scale and bias along those axes.
    params: [Vec<isize>; 2],
}

fn cut(args: &BindArgs, node: &Shape) -> Result<Cut> {
    let x = args.shape(0)?;
    let rank = x.len();
    let none = || [vec![0; rank], vec![0; rank]];
    Ok(match node {
        Shape::One(axis) => {
            let axis = axis_of(*axis, rank)?;
            Cut { shape: x.to_vec(), gone: (0..rank).map(|d| d == axis).collect(), params: none() }
        }
        Shape::Listed(axes) => {
            let axes = axes.iter().map(|&a| axis_of(a, rank)).collect::<Result<Vec<_>>>()?;
            Cut { shape: x.to_vec(), gone: (0..rank).map(|d| axes.contains(&d)).collect(), params: none() }
        }
        Shape::From(axis) => {
            let axis = axis_of(*axis, rank)?;
            let lies = |i: usize| args.opt_shape(i).map_or(Ok(vec![0; rank]), |s| broadcast(s, x));
            Cut { shape: x.to_vec(), gone: (0..rank).map(|d| d >= axis).collect(), params: [lies(1)?, lies(2)?] }
        }
        Shape::Groups(groups) => {
            let [n, c, ref spatial @ ..] = *x else { bail!(invalid, "{x:?} has no channels") };
            let groups = groups.unwrap_or(c);
            if groups == 0 || c % groups != 0 {
                bail!(invalid, "{c} channels in {groups} groups");
            }
            super::holds(args, 1, c)?;
            super::holds(args, 2, c)?;
            let shape = vec![n, groups, c / groups, spatial.iter().product()];
            let steps = vec![0, (c / groups) as isize, 1, 0];
            Cut { shape, gone: vec![false, false, true, true], params: [steps.clone(), steps] }
        }
    })
}

enum Shape {
    One(i64),
    Listed(Vec<i64>),
    From(i64),
    Groups(Option<usize>),
}

fn load(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let launcher = ctx.function(packed.first(), "normalise", 0)?;
    let attrs = node.attrs();
    let shape = match node.op() {
        "LpNormalization" => Shape::One(attrs.int_or("axis", -1)?),
        "MeanVarianceNormalization" => Shape::Listed(attrs.ints_or("axes", &[0, 2, 3])?),
        "InstanceNormalization" => Shape::Groups(None),
        "GroupNormalization" => Shape::Groups(Some(usize::try_from(attrs.int_or("num_groups", 0)?).unwrap_or(0))),
        _ => Shape::From(attrs.int_or("axis", -1)?),
    };
    let epsilon = attrs.float_or("epsilon", 1e-5)?;
    kernel(move |args| {
        let Cut { shape, gone, params } = cut(args, &shape)?;
        let len = counts(shape.iter().product())?;
        makes(args, len)?;
        let own = contiguous(&shape);
        let part = |wanted: bool| -> Result<(Vec<usize>, Vec<i64>)> {
            let list: Vec<usize> = (0..shape.len()).filter(|&d| gone[d] == wanted).collect();
            let dims: Vec<usize> = list.iter().map(|&d| shape[d]).collect();
            let steps: Vec<isize> = list.iter().map(|&d| own[d]).collect();
            let (dims, steps) = collapse(&dims, &[&steps]);
            four(dims, steps.into_iter().map(|s| s[0] as i64).collect())
        };
        let ((kept, kept_step), (inside, inside_step)) = (part(false)?, part(true)?);
        let (affine, steps) = collapse(&shape, &[&own, &params[0], &params[1]]);
        let (affine, scale_step) = four(affine, steps.iter().map(|s| s[1] as i64).collect())?;
        let bias_step = four(affine.clone(), steps.iter().map(|s| s[2] as i64).collect())?.1;
        let n: usize = (0..shape.len()).filter(|&d| gone[d]).map(|d| shape[d]).product();
        let lines = len.checked_div(n).unwrap_or(0);
        let fields = Params::new().u32(n).dividers(&kept).dividers(&inside).i32s(&kept_step).i32s(&inside_step);
        let fields = fields.dividers(&affine).i32s(&scale_step).i32s(&bias_step).f32(epsilon);
        let launcher = launcher.clone();
        bound(move |io| {
            let p = pointers(io, 3, 3).join(&fields).status(&io.device).finish();
            // SAFETY: buffers have the bound sizes.
            unsafe { launcher.run(io, [lines, 1, 1], 256, 0, &p) }
        })
        .flops(6 * len)
        .boxed()
    })
}

/// Axes and distances as the text declares them.
fn four(mut dims: Vec<usize>, mut steps: Vec<i64>) -> Result<(Vec<usize>, Vec<i64>)> {
    if dims.len() > 4 || steps.len() > 4 {
        return Err(Error::unsupported(format!("a normalisation over {} separate axes", dims.len())));
    }
    dims.resize(4, 1);
    steps.resize(4, 0);
    Ok((dims, steps))
}
