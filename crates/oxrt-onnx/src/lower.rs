//! Says the graph in an older opset: operators that came later are expanded, inputs become attributes again.

use oxrt_ir::{Attrs, DType, Dim, Graph, Model, NodeId, Symbols, ValueId};
use oxrt_ops::{Builder, registry};
use oxrt_tensor::{Error, Result, bail};

/// Lowest opset that has every operator of the graph in the form that the graph uses.
pub(crate) fn needed_opset(graph: &Graph) -> i64 {
    let of_node = |id: NodeId| {
        let node = &graph[id];
        let own = match &*node.op {
            // Per-channel scale and bias came with 21.
            "GroupNormalization" => 21,
            // Volumes came with 20.
            "GridSample" if node.input(0).and_then(|x| graph.dims(x)).is_some_and(|d| d.len() != 4) => 20,
            op if op.contains('.') => 1,
            op => registry::find(op).and_then(|o| o.versions.first().copied()).unwrap_or(1),
        };
        let narrow = node
            .inputs()
            .iter()
            .chain(node.outputs())
            .flatten()
            .filter_map(|&v| graph[v].ty.dtype())
            .map(dtype_opset)
            .max();
        own.max(narrow.unwrap_or(1)).max(node.subgraphs().map(|(_, g)| needed_opset(g)).max().unwrap_or(1))
    };
    graph.node_ids().into_iter().map(of_node).max().unwrap_or(1)
}

/// Opset in which an element type appeared.
fn dtype_opset(d: DType) -> i64 {
    match d {
        DType::F8E4M3FN | DType::F8E4M3FNUZ | DType::F8E5M2 | DType::F8E5M2FNUZ => 19,
        DType::I4 | DType::U4 => 21,
        DType::F4E2M1 => 23,
        DType::F8E8M0 => 24,
        DType::I2 | DType::U2 => 25,
        DType::BF16 => 13,
        _ => 1,
    }
}

type Expand = fn(&mut Builder, &Attrs, &[Option<ValueId>]) -> Result<ValueId>;

/// (operator, opset that has it in the newest form, the same in older operators)
const EXPANSIONS: &[(&str, i64, Expand)] = &[
    ("Gelu", 20, gelu),
    ("GroupNormalization", 21, group_norm),
    ("RMSNormalization", 23, rms_norm),
    ("Swish", 24, swish),
    ("Mish", 18, mish),
];

/// Rewrites the model for `opset`.
pub(crate) fn lower(model: &mut Model, opset: i64) -> Result<()> {
    lower_graph(&mut model.graph, &mut model.symbols, opset)?;
    model.graph.sort()
}

fn lower_graph(graph: &mut Graph, symbols: &mut Symbols, opset: i64) -> Result<()> {
    for id in graph.node_ids() {
        let op = graph[id].op.clone();
        if let Some((_, _, expand)) = EXPANSIONS.iter().find(|(name, since, _)| *name == &*op && opset < *since) {
            let (inputs, attrs) = (graph[id].inputs().to_vec(), graph[id].attrs.clone());
            let (name, source, old) = (graph[id].name.clone(), graph[id].source.clone(), graph[id].output(0));
            let mut b = Builder::new(graph, symbols);
            (b.prefix, b.source) = (name, source);
            let new = expand(&mut b, &attrs, &inputs).map_err(|e| e.at(format!("expanding {op} for opset {opset}")))?;
            if let Some(old) = old {
                graph.remove_node(id);
                graph.replace_value(old, new);
            }
            continue;
        }
        let exists = registry::find(&op).and_then(|o| o.versions.first().copied()).unwrap_or(1);
        if !op.contains('.') && exists > opset {
            return Err(Error::unsupported(format!("{op} does not exist in opset {opset}"))
                .at(graph[id].describe())
                .help(format!("write with `--opset {exists}` or higher")));
        }
        adjust(graph, id, opset)?;
        let mut attrs = graph[id].attrs.clone();
        let mut changed = false;
        for attr in attrs.0.values_mut() {
            if let oxrt_ir::Attr::Graph(g) = attr {
                lower_graph(g, symbols, opset)?;
                g.sort()?;
                changed = true;
            }
        }
        if changed {
            graph.edit_attrs(id, |a| *a = attrs);
        }
    }
    Ok(())
}

/// Changes of form within one operator.
fn adjust(graph: &mut Graph, id: NodeId, opset: i64) -> Result<()> {
    let op = graph[id].op.clone();
    match &*op {
        "ReduceMean" | "ReduceMax" | "ReduceMin" | "ReduceProd" | "ReduceL1" | "ReduceL2" | "ReduceLogSum"
        | "ReduceLogSumExp" | "ReduceSumSquare"
            if opset < 18 =>
        {
            if let Some(v) = graph[id].input(1) {
                let Some(axes) = graph.constant(v).map(|t| t.to_i64_vec()).transpose()? else {
                    bail!(unsupported, "{} has computed axes, which need opset 18", graph[id].describe());
                };
                let x = graph[id].input(0);
                graph.set_inputs(id, &[x]);
                graph[id].attrs.set("axes", axes);
            }
            graph[id].attrs.remove("noop_with_empty_axes");
        }
        "Split" if opset < 18 => drop(graph[id].attrs.remove("num_outputs")),
        "Pad" if opset < 18 && graph[id].input(3).is_some() => {
            bail!(unsupported, "{} pads chosen axes, which needs opset 18", graph[id].describe())
        }
        "Resize" if opset < 18 => {
            for a in ["antialias", "axes", "keep_aspect_ratio_policy"] {
                let plain =
                    graph[id].attrs.get(a).is_none_or(|v| *v == oxrt_ir::Attr::Int(0) || *v == "stretch".into());
                if !plain {
                    bail!(unsupported, "{} uses `{a}`, which needs opset 18", graph[id].describe());
                }
                graph[id].attrs.remove(a);
            }
        }
        // The modes were renamed with 20.
        "GridSample" if opset < 20 => {
            let old = match graph[id].attrs.string_or("mode", "linear")? {
                "linear" => "bilinear",
                "cubic" => "bicubic",
                other => other,
            };
            let old = old.to_string();
            graph[id].attrs.set("mode", old);
        }
        "Cast" | "QuantizeLinear" if opset < 19 => drop(graph[id].attrs.remove("saturate")),
        _ => {}
    }
    if opset < 24 {
        graph[id].attrs.remove("round_mode");
    }
    Ok(())
}

fn input(inputs: &[Option<ValueId>], i: usize) -> Result<ValueId> {
    inputs.get(i).copied().flatten().ok_or_else(|| Error::invalid(format!("input {i} is missing")))
}

fn gelu(b: &mut Builder, attrs: &Attrs, inputs: &[Option<ValueId>]) -> Result<ValueId> {
    let x = input(inputs, 0)?;
    let (half, one) = (b.scalar_like(x, 0.5)?, b.scalar_like(x, 1.0)?);
    let gate = if attrs.string_or("approximate", "none")? == "tanh" {
        // tanh(√(2/π) (x + 0.044715 x³))
        let (three, c, k) = (
            b.scalar_like(x, 3.0)?,
            b.scalar_like(x, 0.044715)?,
            b.scalar_like(x, (2.0 / std::f64::consts::PI).sqrt())?,
        );
        let cube = b.call("Pow", &[x, three])?;
        let term = b.call("Mul", &[cube, c])?;
        let sum = b.call("Add", &[x, term])?;
        let arg = b.call("Mul", &[sum, k])?;
        b.call("Tanh", &[arg])?
    } else {
        let k = b.scalar_like(x, std::f64::consts::SQRT_2)?;
        let arg = b.call("Div", &[x, k])?;
        b.call("Erf", &[arg])?
    };
    let gate = b.call("Add", &[gate, one])?;
    let y = b.call("Mul", &[x, gate])?;
    b.call("Mul", &[y, half])
}

fn swish(b: &mut Builder, attrs: &Attrs, inputs: &[Option<ValueId>]) -> Result<ValueId> {
    let x = input(inputs, 0)?;
    let alpha = attrs.float_or("alpha", 1.0)?;
    let scaled = if alpha == 1.0 {
        x
    } else {
        let a = b.scalar_like(x, alpha as f64)?;
        b.call("Mul", &[x, a])?
    };
    let s = b.call("Sigmoid", &[scaled])?;
    b.call("Mul", &[x, s])
}

fn mish(b: &mut Builder, _: &Attrs, inputs: &[Option<ValueId>]) -> Result<ValueId> {
    let x = input(inputs, 0)?;
    let soft = b.call("Softplus", &[x])?;
    let t = b.call("Tanh", &[soft])?;
    b.call("Mul", &[x, t])
}

/// InstanceNormalization over [N, groups, …], then the scale and bias of each channel.
fn group_norm(b: &mut Builder, attrs: &Attrs, inputs: &[Option<ValueId>]) -> Result<ValueId> {
    let (x, scale, bias) = (input(inputs, 0)?, input(inputs, 1)?, input(inputs, 2)?);
    let groups = attrs.int_or("num_groups", 1)?;
    let dims = b.dims(x)?;
    if groups < 1 || dims.len() < 2 {
        bail!(invalid, "GroupNormalization needs rank 2 or more and a positive number of groups");
    }
    let dtype = b.dtype(x)?;
    let grouped = b.reshape_const(x, &[0, groups, -1])?;
    let ones = oxrt_tensor::Tensor::from_f64(dtype, &[groups as usize], &vec![1.0; groups as usize])?;
    let zeros = oxrt_tensor::Tensor::zeros(dtype, &[groups as usize]);
    let (ones, zeros) = (b.constant(ones), b.constant(zeros));
    let eps = attrs.float_or("epsilon", 1e-5)?;
    let normal = b.op("InstanceNormalization", &[grouped, ones, zeros], Attrs::new().with("epsilon", eps))?;
    let back = b.reshape(normal, &dims)?;
    let mut channel = vec![1i64; dims.len() - 1];
    channel[0] = -1;
    let (scale, bias) = (b.reshape_const(scale, &channel)?, b.reshape_const(bias, &channel)?);
    let scaled = b.call("Mul", &[back, scale])?;
    b.call("Add", &[scaled, bias])
}

fn rms_norm(b: &mut Builder, attrs: &Attrs, inputs: &[Option<ValueId>]) -> Result<ValueId> {
    let (x, scale) = (input(inputs, 0)?, input(inputs, 1)?);
    let rank = b.rank(x)? as i64;
    let axis = attrs.int_or("axis", -1)?;
    let first = if axis < 0 { axis + rank } else { axis };
    let dtype = b.dtype(x)?;
    let wide = b.cast(x, DType::F32)?;
    let axes = b.ints(&(first..rank).collect::<Vec<_>>());
    let square = b.call("Mul", &[wide, wide])?;
    let mean = b.op("ReduceMean", &[square, axes], Attrs::new().with("keepdims", 1))?;
    let eps = b.scalar(DType::F32, attrs.float_or("epsilon", 1e-5)? as f64)?;
    let shifted = b.call("Add", &[mean, eps])?;
    let root = b.call("Sqrt", &[shifted])?;
    let normal = b.call("Div", &[wide, root])?;
    let normal = b.cast(normal, dtype)?;
    let dims: Vec<Dim> = b.dims(x)?;
    debug_assert_eq!(dims.len() as i64, rank);
    b.call("Mul", &[normal, scale])
}
