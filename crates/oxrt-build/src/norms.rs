//! Normalisations of rows that go into the products behind them, on devices whose products do that (decision 0025).
//!
//! ```text
//! y = LayerNormalization(x, scale, bias)        →   f = oxrt.NormFactors(x)
//! z = oxrt.Gemm(y, w, b)                            z = oxrt.NormGemm(x, scale · w, bias · w + b, f)
//! ```
//!
//! The factors are a step that reads x and writes next to nothing.

use oxrt_backend::{Backend, NodeView, WIDE};
use oxrt_ir::{Attrs, DType, Dim, Graph, NodeId, Symbol, Tensor, TensorType, ValueId, ValueType};
use oxrt_tensor::Result;

const NORM: &str = "norm";
const PRODUCT: &str = "oxrt.NormGemm";
const FACTORS: &str = "oxrt.NormFactors";

/// A normalisation that only products read.
struct Fold {
    x: ValueId,
    /// Elements of a row.
    k: usize,
    attrs: Attrs,
    scale: Vec<f64>,
    shift: Option<Vec<f64>>,
    products: Vec<NodeId>,
}

/// Elements of a tensor from which on it is worth it: of fewer, a norm takes hardly more than the start of its kernel.
const WORTH: i64 = 1 << 20;

/// Folds what can be folded; how many that were. Tensors between steps have their final types. `usual` knows the sizes that
/// the engine is tuned for.
///
/// # Errors
/// Constants that cannot be read.
pub fn fold_norms(g: &mut Graph, backend: &dyn Backend, usual: &dyn Fn(&Symbol) -> Option<i64>) -> Result<usize> {
    let mut count = 0;
    for id in g.node_ids() {
        let Some(fold) = find(g, id) else { continue };
        let size = |d: &Dim| d.eval(usual);
        let elements = g.dims(fold.x).unwrap_or(&[]).iter().map(size).try_fold(1i64, |n, d| n.checked_mul(d?));
        if elements.is_none_or(|n| n < WORTH) {
            continue;
        }
        let ty = factors_type(g, fold.x);
        if !fits(g, backend, &fold, &ty) {
            continue;
        }
        let name = g.unused_value_name(&format!("{}/factors", g[id].name));
        let factors = g.add_value(&name, ty);
        let (origins, source) = (g[id].origins.clone(), g[id].source.clone());
        g.remove_node(id);
        let by = g.add_node_with_outputs(FACTORS, &name, &[Some(fold.x)], fold.attrs.clone(), &[Some(factors)]);
        (g[by].origins, g[by].source) = (origins.clone(), source);
        for &product in &fold.products {
            apply(g, &fold, product, factors)?;
            g[product].origins.extend(origins.iter().cloned());
        }
        count += 1;
    }
    if count > 0 {
        g.sort()?;
    }
    Ok(count)
}

fn find(g: &Graph, id: NodeId) -> Option<Fold> {
    let node = &g[id];
    let norm = match &*node.op {
        "LayerNormalization" => "layer",
        "RMSNormalization" | "SimplifiedLayerNormalization" => "rms",
        _ => return None,
    };
    let (x, y) = (node.input(0)?, node.output(0)?);
    let dims = g.dims(x)?;
    let k = usize::try_from(dims.last()?.as_const()?).ok().filter(|&k| k > 0)?;
    let axis = node.attrs.int_or("axis", -1).ok()?;
    let last = axis == -1 || axis == dims.len() as i64 - 1;
    let half = matches!(g[x].ty.dtype(), Some(DType::F16 | DType::BF16));
    if !last || !half || node.outputs()[1..].iter().any(Option::is_some) || g.is_output(y) {
        return None;
    }
    let row = |i: usize| g.constant(node.input(i)?)?.to_f64_vec().ok().filter(|v| v.len() == k);
    let scale = row(1)?;
    let shift = match node.input(2) {
        Some(_) => Some(row(2)?),
        None => None,
    };
    let products = g[y].users().to_vec();
    let takes = |&user: &NodeId| {
        let product = &g[user];
        let constant =
            |i: usize| product.input(i).is_none_or(|v| g.constant(v).is_some_and(|t| t.dtype() == DType::F32));
        let once = product.inputs().iter().filter(|v| **v == Some(y)).count() == 1 && product.input(0) == Some(y);
        let wide = product.attrs.bool_or(WIDE, false).unwrap_or(true);
        &*product.op == "oxrt.Gemm" && once && constant(1) && constant(2) && !wide
    };
    let epsilon = node.attrs.float_or("epsilon", 1e-5).ok()?;
    let attrs = Attrs::new().with(NORM, norm).with("epsilon", epsilon);
    (!products.is_empty() && products.iter().all(takes)).then_some(Fold { x, k, attrs, scale, shift, products })
}

fn factors_type(g: &Graph, x: ValueId) -> ValueType {
    let lead = g.dims(x).and_then(|d| d.split_last()).map_or(&[][..], |(_, lead)| lead);
    let dims = lead.iter().cloned().chain([Dim::Const(2)]).collect();
    TensorType { dtype: DType::F32, dims: Some(dims) }.into()
}

/// Whether the backend has kernels for the factors, and for all products behind them.
fn fits(g: &Graph, backend: &dyn Backend, fold: &Fold, factors: &ValueType) -> bool {
    // By nodes of their own, so that nothing is changed that does not fit.
    let has_kernel = |op: &str, attrs: Attrs, inputs: &[Option<ValueId>], more: Option<&ValueType>, y: &ValueType| {
        let mut probe = Graph::new(&g.name);
        let mut own: Vec<Option<ValueId>> = (inputs.iter())
            .map(|v| {
                v.map(|v| match g.constant(v) {
                    Some(t) => probe.add_constant(&g[v].name, t.clone()),
                    None => probe.add_input(&g[v].name, g[v].ty.clone()),
                })
            })
            .collect();
        own.extend(more.map(|ty| Some(probe.add_input("factors", ty.clone()))));
        let y = probe.add_value("y", y.clone());
        let id = probe.add_node_with_outputs(op, "y", &own, attrs, &[Some(y)]);
        !backend.candidates(NodeView::new(&probe, id)).is_empty()
    };
    let product = |&id: &NodeId| {
        let node = &g[id];
        let mut attrs = node.attrs.clone();
        attrs.0.extend(fold.attrs.0.clone());
        let inputs: Vec<Option<ValueId>> = (0..4).map(|i| if i == 0 { Some(fold.x) } else { node.input(i) }).collect();
        node.output(0).is_some_and(|y| has_kernel(PRODUCT, attrs, &inputs, Some(factors), &g[y].ty))
    };
    has_kernel(FACTORS, fold.attrs.clone(), &[Some(fold.x)], None, factors) && fold.products.iter().all(product)
}

/// Makes a product normalise its rows: w by the scale of each row of it, and the bias by what the shift contributes.
fn apply(g: &mut Graph, fold: &Fold, id: NodeId, factors: ValueId) -> Result<()> {
    let turned = g[id].attrs.bool_or("trans_b", false)?;
    let inputs = g[id].inputs().to_vec();
    let at = |i: usize| inputs.get(i).copied().flatten();
    let (Some(w), Some(weights)) = (at(1), at(1).and_then(|w| g.constant(w).cloned())) else { return Ok(()) };
    let values = weights.to_f64_vec()?;
    let n = values.len() / fold.k;
    // Row (of k) and column (of n) of an element.
    let place = |i: usize| if turned { (i % fold.k, i / fold.k) } else { (i / n, i % n) };
    let scaled: Vec<f64> = values.iter().enumerate().map(|(i, v)| v * fold.scale[place(i).0]).collect();
    let name = g.unused_value_name(&format!("{}/scaled", g[w].name));
    let scaled = g.add_constant(&name, Tensor::from_f64(DType::F32, weights.shape(), &scaled)?);
    let bias = match (&fold.shift, at(2)) {
        (None, bias) => bias,
        (Some(shift), bias) => {
            let mut sums = match bias.and_then(|b| g.constant(b)) {
                Some(b) => b.to_f64_vec()?,
                None => vec![0.0; n],
            };
            for (i, v) in values.iter().enumerate() {
                let (row, column) = place(i);
                sums[column] += v * shift[row];
            }
            let name = g.unused_value_name(&format!("{}/bias", g[w].name));
            Some(g.add_constant(&name, Tensor::from_f64(DType::F32, &[n], &sums)?))
        }
    };
    g[id].op = PRODUCT.into();
    g[id].attrs.0.extend(fold.attrs.0.clone());
    g.set_inputs(id, &[Some(fold.x), Some(scaled), bias, at(3), Some(factors)]);
    Ok(())
}
