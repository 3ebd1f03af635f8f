//! Graphs inside of a graph, which `If`, `Loop` and `Scan` run: for exported programs and for scripts alike.

use crate::alias::Slot;
use crate::cx::{Cx, Scope};
use oxrt_ir::{Graph, Symbols, ValueId, ValueType};
use oxrt_ops::Builder;
use oxrt_tensor::Result;
use rustc_hash::{FxHashMap, FxHashSet};

/// A subgraph before anything is in it but its inputs and what it may read from outside.
pub(crate) struct Subgraph {
    pub graph: Graph,
    pub inputs: Vec<ValueId>,
    /// Values of the enclosing graph, and what they are called inside.
    pub inside: FxHashMap<ValueId, ValueId>,
}

/// What a subgraph starts from beside values.
pub(crate) struct Start<'a> {
    pub slots: Vec<Slot>,
    pub scopes: Vec<Scope<'a>>,
    pub complex: FxHashSet<ValueId>,
}

impl Subgraph {
    /// With inputs of these types; `reads` may be read from outside, and so may values that carry sizes. What is not read is
    /// dropped by [`finish`].
    pub fn new(cx: &Cx, label: &str, inputs: &[ValueType], reads: impl IntoIterator<Item = ValueId>) -> Subgraph {
        let mut graph = Graph::new(label);
        let inputs = inputs.iter().enumerate().map(|(i, ty)| graph.add_input(&format!("in{i}"), ty.clone())).collect();
        let outer = &*cx.b.graph;
        // Sizes are read from the inputs of the enclosing graph.
        let carries = |v: &ValueId| outer.dims(*v).is_some_and(|d| d.iter().any(|d| d.as_symbol().is_some()));
        let carriers = outer.inputs.iter().copied().chain(outer.captures.iter().map(|c| c.1)).filter(carries);
        let mut inside = FxHashMap::default();
        for v in reads.into_iter().chain(carriers) {
            inside.entry(v).or_insert_with(|| {
                let value = &outer[v];
                let copy = graph.add_value(&value.name, value.ty.clone());
                graph[copy].constant = value.constant.clone();
                graph[copy].contents = value.contents.clone();
                graph.captures.push((v, copy));
                copy
            });
        }
        Subgraph { graph, inputs, inside }
    }

    /// Calls `f` with a context that builds this graph; what the program is known by goes along and comes back.
    pub fn build<'a, R>(
        &mut self,
        cx: &mut Cx<'a, '_>,
        start: Start<'a>,
        f: impl for<'h> FnOnce(&mut Cx<'a, 'h>) -> R,
    ) -> R {
        let reads: Vec<ValueId> = self.graph.captures.iter().map(|c| c.1).collect();
        let mut inner = Cx {
            b: Builder::new(&mut self.graph, &mut *cx.b.symbols),
            symbols: std::mem::take(&mut cx.symbols),
            slots: start.slots,
            scopes: start.scopes,
            autocast: cx.autocast,
            complex: start.complex,
            warnings: std::mem::take(&mut cx.warnings),
            problems: std::mem::take(&mut cx.problems),
            taken: std::mem::take(&mut cx.taken),
            assumed: Default::default(),
            last_source: cx.last_source.clone(),
        };
        inner.b.prefix = cx.b.prefix.clone();
        inner.b.source = cx.b.source.clone();
        reads.into_iter().for_each(|v| inner.b.note_symbols(v));
        let result = f(&mut inner);
        let Cx { symbols, warnings, problems, taken, .. } = inner;
        (cx.symbols, cx.warnings, cx.problems, cx.taken) = (symbols, warnings, problems, taken);
        result
    }
}

/// Gives a subgraph its outputs, each made inside and once, drops what it does not need, and makes its names differ from those
/// outside.
pub(crate) fn finish(mut inner: Graph, symbols: &mut Symbols, label: &str, outputs: Vec<ValueId>) -> Result<Graph> {
    let mut done: Vec<ValueId> = Vec::new();
    {
        let mut b = Builder::new(&mut inner, symbols);
        b.prefix = "out".into();
        for v in outputs {
            let fresh = b.graph[v].producer().is_some() && !done.contains(&v);
            done.push(if fresh { v } else { b.call("Identity", &[v])? });
        }
    }
    inner.outputs = done;
    inner.remove_dead_nodes();
    let mut inner = inner.compacted();
    let outputs: FxHashSet<ValueId> = inner.outputs.iter().copied().collect();
    let unread: FxHashSet<ValueId> =
        inner.captures.iter().map(|c| c.1).filter(|v| inner[*v].users().is_empty() && !outputs.contains(v)).collect();
    inner.captures.retain(|c| !unread.contains(&c.1));
    for v in inner.value_ids() {
        inner[v].name = format!("{label}/{}", inner[v].name);
    }
    for n in inner.node_ids() {
        inner[n].name = format!("{label}/{}", inner[n].name);
    }
    Ok(inner)
}
