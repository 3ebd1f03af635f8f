//! Names and ranges of the symbolic dimensions.
//!
//! torch names a symbol after a hash (`s77`); the user's `Dim("batch")` is not in the file. Names are
//! made from the inputs and axes that a symbol sizes.

use crate::program::Input;
use crate::schema::{ExportedProgram, SymInt};
use crate::symbols::SymbolTable;
use oxrt_ir::Expr;
use oxrt_ir::{DType, Range, Symbol};
use rustc_hash::FxHashMap;

/// Where a plain symbol stands: input, axis, rank, element type.
struct Place<'a> {
    input: &'a str,
    axis: usize,
    rank: usize,
    dtype: DType,
    /// The size is the symbol, not an expression of it.
    plain: bool,
}

/// Gives each symbol a name: `batch` for a first axis that inputs share (or the only dynamic first
/// axis), `height` and `width` of an image, `sequence` of token ids, else `<input>_dim<axis>`.
pub(crate) fn name_symbols(
    ep: &ExportedProgram,
    symbols: &mut SymbolTable,
    inputs: &[Input],
    warnings: &mut Vec<String>,
) {
    let graph = &ep.graph_module.graph;
    let mut places: Vec<(String, Vec<Place>)> = Vec::new();
    for input in inputs {
        let Some(meta) = graph.tensor_values.get(&input.torch_name) else { continue };
        for (axis, size) in meta.sizes.iter().enumerate() {
            let mut names = Vec::new();
            if let SymInt::AsExpr(e) = size {
                if let Ok(e) = Expr::parse(&e.expr_str) {
                    e.names(&mut |n| names.push(n.to_string()));
                }
            }
            for name in names {
                let plain = SymbolTable::plain(size).is_some();
                let place = Place { plain, input: &input.name, axis, rank: meta.sizes.len(), dtype: input.dtype };
                match places.iter_mut().find(|(n, _)| *n == name) {
                    Some((_, list)) => list.push(place),
                    None => places.push((name, vec![place])),
                }
            }
        }
    }
    let joined = join_batches(&mut places, &symbols.hints, warnings);
    let first_axis: Vec<&str> =
        places.iter().filter(|(_, p)| p.iter().any(|p| p.axis == 0)).map(|(n, _)| n.as_str()).collect();
    let mut names: FxHashMap<String, Symbol> = FxHashMap::default();
    let mut taken: Vec<String> = Vec::new();
    for (symbol, list) in &places {
        let Some(first) = list.first() else { continue };
        let on_first_axis = list.iter().filter(|p| p.axis == 0).count();
        let image = first.rank == 4 && first.dtype.is_float();
        let fallback = format!("{}_dim{}", first.input, first.axis);
        let wish = match first.axis {
            0 if on_first_axis == list.len() && (on_first_axis > 1 || first_axis.len() == 1) => "batch".to_string(),
            2 if image => "height".to_string(),
            3 if image => "width".to_string(),
            1 if first.rank == 2 && first.dtype.is_int() => "sequence".to_string(),
            _ => fallback.clone(),
        };
        let name = [wish, fallback, symbol.clone()].into_iter().find(|n| !taken.contains(n)).unwrap_or_default();
        taken.push(name.clone());
        names.insert(symbol.clone(), Symbol::new(&name));
    }
    for (symbol, kept) in joined {
        if let Some(name) = names.get(&kept).cloned() {
            names.insert(symbol, name);
        }
    }
    let hints = std::mem::take(&mut symbols.hints);
    symbols.hints = hints.into_iter().map(|(s, h)| (names.get(s.as_str()).cloned().unwrap_or(s), h)).collect();
    symbols.rename(names);
}

/// Takes symbols that size nothing but first axes of several inputs, and had one size in the example, as one:
/// a model rarely reads inputs of different batches, and torch only notices that two sizes must agree when an
/// operation says so (an index into the other input does not). Returns (symbol, the one it became).
fn join_batches(
    places: &mut Vec<(String, Vec<Place>)>,
    hints: &FxHashMap<Symbol, i64>,
    warnings: &mut Vec<String>,
) -> Vec<(String, String)> {
    let mut joined: Vec<(String, String)> = Vec::new();
    let hint = |name: &str| hints.get(&Symbol::new(name)).copied();
    let mut i = 0;
    while i < places.len() {
        let batch = |(_, list): &(String, Vec<Place>)| list.iter().all(|p| p.axis == 0 && p.plain && p.rank > 1);
        let same = (0..i).find(|&k| {
            batch(&places[k])
                && batch(&places[i])
                && hint(&places[k].0).is_some()
                && hint(&places[k].0) == hint(&places[i].0)
        });
        let Some(k) = same else {
            i += 1;
            continue;
        };
        let (name, list) = places.remove(i);
        joined.push((name, places[k].0.clone()));
        places[k].1.extend(list);
    }
    for (_, list) in places.iter().filter(|(n, _)| joined.iter().any(|(_, kept)| kept == n)) {
        let mut inputs: Vec<&str> = list.iter().map(|p| p.input).collect();
        inputs.dedup();
        warnings.push(format!(
            "the first axes of {} had one size in the example and are taken as one dimension; export with different \
             sizes to keep them apart",
            inputs.join(", ")
        ));
    }
    joined
}

/// Ranges from the file. A least size of 2 is mostly torch's own doing: it traces with sizes other than
/// 0 and 1 because those broadcast. The lowered operators broadcast at run time, so 1 is fine too unless
/// a guard of the program says otherwise.
/// `conditions` receives the guards in terms of the dimensions, for whoever checks sizes later.
pub(crate) fn set_ranges(
    ep: &ExportedProgram,
    symbols: &mut SymbolTable,
    inputs: &[Input],
    conditions: &mut Vec<String>,
    warnings: &mut Vec<String>,
) {
    let mut more = 0;
    for (name, r) in &ep.range_constraints {
        // Keys of derived dimensions are expressions; their ranges follow from the symbol's.
        let Ok(Expr::Name(name)) = Expr::parse(name) else { continue };
        let symbol = symbols.names.get(&name).cloned().unwrap_or_else(|| Symbol::new(&name));
        let max = r.max_val.filter(|&m| m < i64::MAX / 2);
        let range = Range { min: r.min_val.unwrap_or(0), max };
        let both = symbols.ranges.get(&symbol).map_or(range, |have| Range {
            min: have.min.max(range.min),
            max: [have.max, range.max].into_iter().flatten().min(),
        });
        symbols.ranges.insert(symbol, both);
    }
    let guards: Vec<(&str, Expr)> =
        ep.guards_code.iter().filter_map(|g| Some((g.as_str(), Expr::parse(g).ok()?))).collect();
    let paths = paths(ep, symbols, inputs);
    let holds = |guard: &Expr, hints: &FxHashMap<Symbol, i64>| -> Option<bool> {
        let lookup = |path: &str| match paths.get(&*input_key(path)?)? {
            PathSize::Known(n) => Some(*n),
            PathSize::Symbol(s) => hints.get(s).copied(),
        };
        guard.eval(&lookup).map(|v| v != 0.0)
    };
    let names: Vec<Symbol> = symbols.names.values().cloned().collect();
    let at = |s: &Symbol, x: i64, hints: &FxHashMap<Symbol, i64>| {
        let mut hints = hints.clone();
        hints.insert(s.clone(), x);
        hints
    };
    for s in &names {
        let (Some(range), Some(&hint)) = (symbols.ranges.get(s).copied(), symbols.hints.get(s)) else { continue };
        // The least size that the guards allow: below torch's soft 2, or above what it wrote down.
        let first = if range.min == 2 { 1 } else { range.min };
        let allowed = |x: i64| {
            let hints = at(s, x, &symbols.hints);
            guards.iter().all(|(_, g)| holds(g, &hints) != Some(false))
        };
        if let Some(min) = (first..=hint.min(first + MAX_STEPS)).find(|&x| allowed(x)) {
            symbols.ranges.insert(s.clone(), Range { min, ..range });
        }
    }
    // Guards that fail inside the ranges: sizes that the program silently excludes.
    for (text, guard) in &guards {
        if holds(guard, &symbols.hints) != Some(true) {
            continue;
        }
        let condition = readable(text, &paths);
        conditions.push(condition.clone());
        let failing = names.iter().find_map(|s| {
            let (range, &hint) = (symbols.ranges.get(s)?, symbols.hints.get(s)?);
            let inside = |x: &i64| *x >= range.min && range.max.is_none_or(|m| *x <= m);
            let tries = [hint + 1, hint - 1, hint * 2, hint * 3 + 1, range.min.max(1)];
            let bad = |x: &i64| holds(guard, &at(s, *x, &symbols.hints)) == Some(false);
            tries.into_iter().filter(inside).find(bad).map(|x| (s.clone(), x))
        });
        if let Some((s, x)) = failing {
            if condition.len() <= 160 {
                warnings.push(format!("the program was traced for sizes with `{condition}`; {s} = {x} breaks it"));
            } else {
                more += 1;
            }
        }
    }
    if warnings.len() > 8 {
        more += warnings.len() - 8;
        warnings.truncate(8);
    }
    if more > 0 {
        warnings.push(format!("{more} more conditions on the sizes"));
    }
}

/// How far the least allowed size is searched.
const MAX_STEPS: i64 = 4096;

enum PathSize {
    Known(i64),
    Symbol(Symbol),
}

/// Sizes by `<input>|<axis>`, as [`input_key`] spells it.
fn paths(ep: &ExportedProgram, symbols: &SymbolTable, inputs: &[Input]) -> FxHashMap<String, PathSize> {
    let mut out = FxHashMap::default();
    for input in inputs {
        let Some(meta) = ep.graph_module.graph.tensor_values.get(&input.torch_name) else { continue };
        for (axis, size) in meta.sizes.iter().enumerate() {
            let size = match size {
                SymInt::AsInt(x) => PathSize::Known(*x),
                size => match SymbolTable::plain(size).and_then(|n| symbols.names.get(&n).cloned()) {
                    Some(s) => PathSize::Symbol(s),
                    None => continue,
                },
            };
            out.insert(format!("{}|{axis}", input.torch_name), size);
        }
    }
    out
}

/// `L['d']['k'].size()[1]` → `d_k|1`.
fn input_key(path: &str) -> Option<String> {
    let (access, axis) = path.strip_prefix('L')?.split_once(".size()[")?;
    let parts: Vec<&str> = access.split(['[', ']', '\'', '"']).filter(|p| !p.is_empty()).collect();
    Some(format!("{}|{}", parts.join("_"), axis.strip_suffix(']')?))
}

/// A guard with the names of the dimensions in place of the paths.
fn readable(guard: &str, paths: &FxHashMap<String, PathSize>) -> String {
    let mut out = String::new();
    let mut rest = guard;
    while let Some(at) = rest.find("L[") {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = rest.find(".size()[").and_then(|s| rest[s + 8..].find(']').map(|e| s + 8 + e + 1));
        let Some(end) = end else { break };
        let path = &rest[..end];
        match input_key(path).and_then(|k| paths.get(&k)) {
            Some(PathSize::Symbol(s)) => out.push_str(s.as_str()),
            Some(PathSize::Known(n)) => out.push_str(&n.to_string()),
            None => out.push_str(path),
        }
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}
