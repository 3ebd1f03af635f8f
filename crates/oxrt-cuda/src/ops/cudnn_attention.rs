//! Attention by cuDNN, where it is installed: without masks, windows or caches.

use super::attention::{reach, scale, scores_wanted, supports as any_supports};
use super::cudnn::{as_tensor, is_there, plan, plan_text};
use super::{Entry, makes, require};
use crate::backend::Ctx;
use crate::libraries::cudnn::graphs::{AttentionGraph, Graph, Heads, K, Q, SCALE, V, Y};
use oxrt_backend::{Kernel, NodeView, Packing, bound, kernel};
use oxrt_ops::attention::{Operand, Placed};
use oxrt_tensor::{DType, Error, Result, Tensor, bail};

/// One entry for each of the plans that compete for a node.
macro_rules! entries {
    ($($i:literal $id:ident $name:literal)*) => {
        $(pub(super) const $id: Entry = Entry {
            timed: true,
            ..Entry::new($name, &["oxrt.Attention", "Attention"], supports, pack::<$i>, load)
        };)*
    };
}
entries! { 0 A0 "attention_cudnn_0" 1 A1 "attention_cudnn_1" }

fn supports(ctx: &Ctx, node: &NodeView) -> Option<()> {
    is_there(ctx)?;
    any_supports(ctx, node)?;
    asked(node).map(|_| ())
}

/// The graph that a node of fixed sizes asks the library for.
pub(super) fn asked(node: &NodeView) -> Option<AttentionGraph> {
    let of = node.dtype(0)?;
    require(matches!(of, DType::F16 | DType::BF16) && node.output_dtype(0) == Some(of))?;
    require((3..7).all(|i| !node.has(i)) && (1..node.num_outputs()).all(|i| node.node().output(i).is_none()))?;
    require(reach(node).ok()? == [None; 2] && scores_wanted(node).ok()? == 0)?;
    require(node.attrs().float_or("softcap", 0.0).ok()? == 0.0)?;
    let heads = |operand: Operand, shape: &[usize]| {
        let p = Placed::new(node.attrs(), operand, shape).ok()?;
        // Rows begin at 16 bytes.
        require(p.at % 8 == 0 && p.size % 8 == 0 && p.steps.iter().all(|s| s % 8 == 0))?;
        let dims = [p.batch, p.heads, p.rows, p.size];
        require(!dims.contains(&0))?;
        Some(Heads { dims, steps: p.steps })
    };
    let input = |operand: Operand| heads(operand, &node.ty(operand as usize)?.static_shape()?);
    let (q, k, v) = (input(Operand::Query)?, input(Operand::Key)?, input(Operand::Value)?);
    let y = node.graph[node.node().output(0)?].ty.as_tensor()?.static_shape()?;
    let y = heads(Operand::Result, &y)?;
    let ([batch, heads, rows, size], [_, shared, keys, _]) = (q.dims, k.dims);
    let fits = k.dims == [batch, shared, keys, size] && v.dims[..3] == [batch, shared, keys];
    require(fits && heads % shared == 0 && y.dims == [batch, heads, rows, v.dims[3]])?;
    Some(AttentionGraph { of, q, k, v, y })
}

fn pack<const I: usize>(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    Ok(Packing { tensors: vec![as_tensor(&plan_text(ctx, node, I)?.1)?], consumed: Vec::new() })
}

fn load(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let graph = asked(node).ok_or_else(|| Error::bug("no attention for cuDNN"))?;
    let plan = plan(ctx, Graph::Attention(graph.clone()), packed.first())?;
    let factor = [scale(node, graph.q.dims[3])?];
    let attrs = node.attrs().clone();
    let bytes = graph.of.bytes_for(1);
    kernel(move |args| {
        let mut at = [0; 3];
        for (operand, part) in [(Operand::Query, &graph.q), (Operand::Key, &graph.k), (Operand::Value, &graph.v)] {
            let p = Placed::new(&attrs, operand, args.shape(operand as usize)?)?;
            if [p.batch, p.heads, p.rows, p.size] != part.dims || p.steps != part.steps {
                bail!(bug, "a plan of cuDNN for {graph} at {:?}", args.shape(operand as usize)?);
            }
            at[operand as usize] = p.at * bytes;
        }
        let [batch, heads, rows, size] = graph.q.dims;
        let [_, _, keys, value_size] = graph.v.dims;
        makes(args, batch * heads * rows * value_size)?;
        let (plan, workspace) = (plan.clone(), plan.workspace());
        bound(move |io| {
            let input = |i: usize| io.input::<u8>(i).wrapping_add(at[i]);
            let y = (Y, io.output::<u8>(0).cast_const());
            let operands = [(Q, input(0)), (K, input(1)), (V, input(2)), y, (SCALE, factor.as_ptr().cast())];
            // SAFETY: buffers have the bound sizes; the factor is one number.
            unsafe { plan.run(io.device.queue, &operands, io.workspace) }
        })
        .workspace(workspace)
        .flops(2 * batch * heads * rows * keys * (size + value_size))
        .boxed()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use oxrt_ir::parse_graph;

    /// What a node asks for, in words.
    fn words(text: &str) -> Option<String> {
        let mut graph = parse_graph(text).unwrap();
        oxrt_ops::infer::infer_graph(&mut graph, &mut Default::default()).unwrap();
        let id = *graph.node_ids().last().unwrap();
        asked(&NodeView::new(&graph, id)).map(|g| g.to_string())
    }

    #[test]
    fn a_node_without_masks_asks_for_attention() {
        let inputs = "f16[2, 8, 9, 64] q, f16[2, 2, 11, 64] k, f16[2, 2, 11, 32] v";
        let node = |inputs: &str, attrs: &str, rest: &str| {
            format!("({inputs}) {{ y = Attention{attrs}(q, k, v{rest}) }} => y")
        };
        assert_eq!(
            words(&node(inputs, "", "")).as_deref(),
            Some(
                "attention of f16, q [2, 8, 9, 64] by [4608, 576, 64], k [2, 2, 11, 64] by [1408, 704, 64], \
                 v [2, 2, 11, 32] by [704, 352, 32], y [2, 8, 9, 32] by [2304, 288, 32]"
            )
        );
        // Heads side by side in a row, as projections make them.
        let rows = "bf16[2, 9, 512] q, bf16[2, 11, 128] k, bf16[2, 11, 128] v";
        assert_eq!(
            words(&node(rows, "<q_num_heads=8, kv_num_heads=2>", "")).as_deref(),
            Some(
                "attention of bf16, q [2, 8, 9, 64] by [4608, 64, 512], k [2, 2, 11, 64] by [1408, 64, 128], \
                 v [2, 2, 11, 64] by [1408, 64, 128], y [2, 8, 9, 64] by [4608, 64, 512]"
            )
        );
        // What the library's operation does not have, or only with more operands.
        let masked = format!("{inputs}, f16[9, 11] m");
        assert_eq!(words(&node(&masked, "", ", m")), None);
        assert_eq!(words(&node(inputs, "<is_causal=1>", "")), None);
        assert_eq!(words(&node(inputs, "<softcap=2.0>", "")), None);
        assert_eq!(words(&node(&inputs.replace("f16", "f32"), "", "")), None);
        assert_eq!(words(&node(&inputs.replace("[2,", "[n,"), "", "")), None);
        assert_eq!(words(&node(&inputs.replace("64]", "36]"), "", "")), None);
    }
}
