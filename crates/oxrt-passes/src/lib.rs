//! Graph rewrites: a driver that verifies after each step, and rules, one file each.
//!
//! * [`simplify`] rewrites to fewer standard ONNX operators; the result can be written to a file.
//! * [`repair`] puts sizes back that an exporter wrote down as numbers.
//! * [`prepare_engine`] goes on with the fused operators that only engines have.

mod driver;
mod fuse;
mod layout;
mod lower;
mod origins;
mod quant;
mod query;
mod repair;
mod simplify;

pub use driver::{Applied, Log, Options, Rewrite, Rule};
pub use repair::{Finding, example_sizes, repair};
pub use simplify::{Unfolded, ZERO_STATES, unfolded};

use driver::Reach;
use oxrt_ir::{Attr, Dim, Graph, Model, Symbol, ValueType};
use oxrt_tensor::Result;

/// Ends the name of a value that is another one, whose name stands before it, in channels-last layout.
pub const CHANNELS_LAST: &str = "@last";

/// The rule that keeps weights of few bits for `oxrt.BlockGemm`; for backends without a kernel of that it is to stay off.
pub const BLOCK_WEIGHTS: &str = "lower-block-weights";
/// Likewise of tables, for `oxrt.GatherBlocks`.
pub const BLOCK_TABLE: &str = "lower-block-table";

/// The rewrite of builds for devices that puts normalisations into products; it is named like a rule to be kept off.
pub const FOLD_NORMS: &str = "fold-norms";

/// Replaces symbols throughout the model and infers types again.
pub fn substitute_symbols(model: &mut Model, replace: &dyn Fn(&Symbol) -> Option<Dim>) -> Result<()> {
    oxrt_ir::substitute_conditions(model, replace);
    let g = &mut model.graph;
    for v in g.value_ids() {
        let ty = g[v].ty.substitute(replace);
        g[v].ty = ty;
        if let Some(c) = &mut g[v].contents {
            c.elements.iter_mut().for_each(|d| *d = d.substitute(replace));
        }
    }
    let gone: Vec<Symbol> = model.symbols.iter().map(|(s, _)| s.clone()).filter(|s| replace(s).is_some()).collect();
    for s in &gone {
        model.symbols.remove(s);
    }
    oxrt_ops::infer::infer_model(model)
}

/// Removes the checks (`oxrt.Assert`) of a graph and of its subgraphs, with what only they read. Returns how many went.
pub fn drop_assertions(graph: &mut Graph) -> usize {
    let mut count = 0;
    for id in graph.node_ids() {
        if &*graph[id].op == "oxrt.Assert" {
            graph.remove_node(id);
            count += 1;
        } else if graph[id].subgraphs().next().is_some() {
            count += graph.edit_attrs(id, |attrs| {
                let inner = attrs.0.values_mut().map(|attr| match attr {
                    Attr::Graph(g) => drop_assertions(g),
                    Attr::Graphs(gs) => gs.iter_mut().map(drop_assertions).sum(),
                    _ => 0,
                });
                inner.sum::<usize>()
            });
        }
    }
    if count > 0 {
        graph.remove_dead_nodes();
    }
    count
}

/// Rules that [`prepare_engine`] runs on request ([`Options::extra`]): for devices whose fused operators take and give tensors of
/// 16 bits.
pub const HALVES: &[Rule] = &[layout::HALVES[0], layout::HALVES[1], fuse::HALVES[0], fuse::HALVES[1]];

/// The same for devices that multiply floats of 8 bits.
pub const SMALL_FLOATS: &[Rule] = &quant::SMALL_FLOATS;

/// Fuses and lays out for the engine.
///
/// # Errors
/// When a rule breaks the graph: the rule and the node are named.
pub fn prepare_engine(model: &mut Model, options: &Options) -> Result<Log> {
    let mut log = Log::default();
    let quantised = model.graph.nodes().any(|(_, n)| n.op.contains("uantizeLinear") || n.op.starts_with("QLinear"));
    let mut run = |rules: &[Rule], log: &mut Log| -> Result<()> {
        log.extend(driver::run(model, rules, Reach::Main, &options.after(log))?);
        Ok(())
    };
    if quantised {
        run(&[simplify::RULES, quant::RULES].concat(), &mut log)?;
        run(quant::LEFT_OVER, &mut log)?;
    }
    run(&[simplify::RULES, lower::RULES, layout::RULES, quant::RULES, fuse::RULES].concat(), &mut log)?;
    run(&[fuse::MOVES, simplify::RULES].concat(), &mut log)?;
    run(fuse::ELEMENTWISE, &mut log)?;
    Ok(log)
}

/// Simplifies to standard ONNX operators, inside of branches and bodies too.
pub fn simplify(model: &mut Model, options: &Options) -> Result<Log> {
    let stated: Vec<ValueType> = model.graph.outputs.iter().map(|&v| model.graph[v].ty.clone()).collect();
    let log = driver::run(model, simplify::RULES, Reach::Bodies, options)?;
    // Names of the dimensions of outputs are part of the contract, also where a rule knows the size by another name.
    for (v, ty) in model.graph.outputs.clone().into_iter().zip(stated) {
        let (Some(old), ValueType::Tensor(new)) = (ty.dims(), &mut model.graph[v].ty) else { continue };
        let dims = new.dims.iter_mut().flatten().zip(old);
        dims.filter(|(new, _)| new.as_const().is_none()).for_each(|(new, old)| *new = old.clone());
    }
    Ok(log)
}

/// Names of all rules: of [`simplify`], and of [`prepare_engine`] beyond those.
pub fn rule_names() -> (Vec<&'static str>, Vec<&'static str>) {
    let names = |lists: &[&[Rule]]| lists.concat().iter().map(|r| r.name).collect();
    let engine = [
        lower::RULES,
        layout::RULES,
        HALVES,
        SMALL_FLOATS,
        quant::RULES,
        quant::LEFT_OVER,
        fuse::RULES,
        fuse::MOVES,
        fuse::ELEMENTWISE,
    ];
    let mut of_engines: Vec<&str> = names(&engine);
    of_engines.push(FOLD_NORMS);
    (names(&[simplify::RULES]), of_engines)
}
