//! Sizes that an exporter wrote down as numbers: found where a constant equals an example size on a path of a
//! dynamic dimension, and rewritten from the sizes of the inputs.
//!
//! A tracer runs the model on an example. What Python computes from a size on the way (`int(x.size(0))`, a tensor of
//! zeros, a mask) is a constant of the file, right for that example alone. The walk goes through the nodes in order with
//! symbolic sizes: at each node whose constants contradict the symbols it puts the sizes back, so that the nodes after
//! it are judged with the right sizes again. What cannot be told from the file (the branch that was not taken, a loop
//! that was unrolled) is reported.

mod grow;
mod places;

use oxrt_ir::{Dim, Graph, Model, NodeId, Symbol, Tensor, ValueId, ValueType};
use oxrt_ops::Builder;
use oxrt_ops::infer::infer_node;
use oxrt_tensor::Result;
use std::collections::{BTreeMap, BTreeSet};

/// A size that was baked in.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The node, as `Reshape "/view/Reshape"`.
    pub node: String,
    /// Python line, where the file keeps it.
    pub location: String,
    /// What stands there and what it should be.
    pub what: String,
    pub repaired: bool,
}

/// Most combinations of candidates that are tried for one shape.
const MAX_COMBINATIONS: usize = 20_000;

/// The example sizes that the constants of the file betray: for a size `batch` and a constant that must be equal to
/// `batch * 48`, 96 says 2. `known` are sizes that are known already.
pub fn example_sizes(model: &Model, known: &BTreeMap<Symbol, i64>) -> BTreeMap<Symbol, i64> {
    // What one constant says may be what another one needs: `batch * time = 96`.
    let first = vote_once(model, known);
    if first.len() == known.len() { first } else { vote_once(model, &first) }
}

fn vote_once(model: &Model, known: &BTreeMap<Symbol, i64>) -> BTreeMap<Symbol, i64> {
    let mut model = model.clone();
    let mut votes: BTreeMap<Symbol, BTreeMap<i64, usize>> = BTreeMap::new();
    forget_types(&mut model.graph);
    for id in model.graph.node_ids() {
        let _ = infer_node(&mut model.graph, &mut model.symbols, id);
        let g = &model.graph;
        let mut vote = |d: &Dim, size: i64| {
            if let Some((s, v)) = d.solve(Some(size), &|s| known.get(s).copied()) {
                if v > 0 && model.symbols.get(&s).is_some() && !known.contains_key(&s) {
                    *votes.entry(s).or_default().entry(v).or_default() += 1;
                }
            }
        };
        let node = &g[id];
        let dims = |i: usize| node.input(i).and_then(|v| g.dims(v)).unwrap_or_default();
        let ints = |i: usize| node.input(i).and_then(|v| g.constant(v)).and_then(|t| t.to_i64_vec().ok());
        match &*node.op {
            "Reshape" => {
                let Some(shape) = ints(1) else { continue };
                let total: Dim = dims(0).iter().cloned().product();
                let whole = shape.iter().all(|&n| n > 0);
                if whole {
                    vote(&total, shape.iter().product());
                }
                // Sizes at their own places, if they account for all elements together.
                let placed: BTreeMap<Symbol, i64> = (dims(0).iter().zip(&shape))
                    .filter(|(_, n)| **n > 0)
                    .filter_map(|(d, &n)| Some((d.as_symbol()?.clone(), n)))
                    .collect();
                let sum = total.eval(&|s| placed.get(s).or(known.get(s)).copied());
                let first = dims(0).first().zip(shape.first()).filter(|(_, n)| **n > 0);
                if whole && sum == Some(shape.iter().product()) {
                    placed.iter().for_each(|(s, &n)| vote(&s.clone().into(), n));
                } else if let (false, Some((d, &n))) = (whole, first) {
                    vote(d, n);
                }
            }
            "LSTM" | "GRU" | "RNN" => {
                for state in [5, 6] {
                    if let (Some(d), Some(n)) = (dims(0).get(1), dims(state).get(1).and_then(Dim::as_const)) {
                        vote(d, n);
                    }
                }
            }
            "Expand" => {
                let wanted =
                    node.input(1).and_then(|v| g[v].contents.as_ref()).map(|c| c.elements.clone()).unwrap_or_default();
                for (d, w) in dims(0).iter().rev().zip(wanted.iter().rev()) {
                    if let Some(n) = d.as_const().filter(|&n| n > 1) {
                        vote(w, n);
                    }
                }
            }
            "Concat" => {
                let axis = node.attrs.int_or("axis", 0).unwrap_or(0);
                for axis in (0..dims(0).len()).filter(|&a| a as i64 != axis) {
                    let all: Vec<&Dim> = (0..node.inputs().len()).filter_map(|i| dims(i).get(axis)).collect();
                    for d in &all {
                        all.iter().filter_map(|e| e.as_const()).filter(|&e| e > 1).for_each(|e| vote(d, e));
                    }
                }
            }
            "Add" | "Sub" | "Mul" | "Div" | "Where" | "MatMul" | "And" | "Or" | "Max" | "Min" => {
                let skip = if &*node.op == "MatMul" { 2 } else { 0 };
                for i in 0..node.inputs().len() {
                    for j in (0..node.inputs().len()).filter(|&j| j != i) {
                        let (x, y) = (dims(i), dims(j));
                        for (d, e) in x.iter().rev().skip(skip).zip(y.iter().rev().skip(skip)) {
                            if let Some(e) = e.as_const().filter(|&e| e > 1) {
                                vote(d, e);
                            }
                        }
                    }
                }
            }
            _ => {}
        }
    }
    let mut out = known.clone();
    for (s, counts) in votes {
        // What is said most often; of equals, the larger: small numbers are often something else.
        if let Some((&size, _)) = counts.iter().max_by_key(|(size, n)| (**n, **size)) {
            out.insert(s, size);
        }
    }
    out
}

fn forget_types(g: &mut Graph) {
    for v in g.value_ids() {
        if g[v].producer().is_some() {
            g[v].ty = ValueType::Unknown;
            g[v].contents = None;
        }
    }
}

/// Puts sizes back in place of the numbers of an example with the given sizes.
///
/// # Errors
/// When the rewritten graph does not infer: the node is named.
pub fn repair(model: &mut Model, example: &BTreeMap<Symbol, i64>) -> Result<Vec<Finding>> {
    forget_types(&mut model.graph);
    let mut walk = Walk { model, example, findings: Vec::new(), selected: BTreeMap::new() };
    for id in walk.model.graph.node_ids() {
        if !walk.model.graph.is_alive(id) {
            continue;
        }
        walk.mend(id)?;
        infer_node(&mut walk.model.graph, &mut walk.model.symbols, id)?;
        walk.judge_selection(id);
    }
    let findings = walk.findings;
    let g = &mut model.graph;
    g.remove_dead_nodes();
    unique_names(g);
    g.sort()?;
    g.verify()?;
    Ok(findings)
}

/// Every value and node its own name; those of inputs and outputs stay.
fn unique_names(g: &mut Graph) {
    let fixed: Vec<ValueId> = g.inputs.iter().chain(&g.outputs).copied().collect();
    let mut taken: BTreeSet<String> = fixed.iter().map(|&v| g[v].name.clone()).collect();
    let fresh = |name: &str, taken: &mut BTreeSet<String>| {
        let mut unique = name.to_string();
        let mut k = 0;
        while !taken.insert(unique.clone()) {
            k += 1;
            unique = format!("{name}_{k}");
        }
        unique
    };
    for v in g.value_ids().filter(|v| !fixed.contains(v)).collect::<Vec<_>>() {
        g[v].name = fresh(&g[v].name.clone(), &mut taken);
    }
    let mut nodes = BTreeSet::new();
    for n in g.node_ids() {
        g[n].name = fresh(&g[n].name.clone(), &mut nodes);
    }
}

/// A size that may stand behind a number.
#[derive(Clone, PartialEq)]
struct Candidate {
    dim: Dim,
    /// `dim` is one of so many parts of this size.
    of: Dim,
    parts: i64,
}

impl Candidate {
    fn part(of: &Dim, parts: i64) -> Candidate {
        Candidate { dim: of.floor_div(&Dim::Const(parts)), of: of.clone(), parts }
    }
}

impl From<Dim> for Candidate {
    fn from(dim: Dim) -> Candidate {
        Candidate { of: dim.clone(), dim, parts: 1 }
    }
}

struct Walk<'m> {
    model: &'m mut Model,
    example: &'m BTreeMap<Symbol, i64>,
    findings: Vec<Finding>,
    /// Places that single elements are taken from along a dynamic axis: the marks of an unrolled loop.
    selected: BTreeMap<(ValueId, i64), Vec<i64>>,
}

impl Walk<'_> {
    fn note(&mut self, id: NodeId, what: String, repaired: bool) {
        let node = &self.model.graph[id];
        let location = node.source.as_ref().map(|s| s.location.clone()).unwrap_or_default();
        self.findings.push(Finding { node: format!("{} \"{}\"", node.op, node.name), location, what, repaired });
    }

    fn at_example(&self, d: &Dim) -> Option<i64> {
        d.eval(&|s| self.example.get(s).copied())
    }

    fn is_dynamic(&self, d: &Dim) -> bool {
        d.as_const().is_none() && self.at_example(d).is_some()
    }

    fn dims(&self, id: NodeId, i: usize) -> Vec<Dim> {
        let g = &self.model.graph;
        g[id].input(i).and_then(|v| g.dims(v)).map(<[Dim]>::to_vec).unwrap_or_default()
    }

    /// The elements of an input that states sizes.
    fn stated(&self, id: NodeId, i: usize) -> Option<Vec<Dim>> {
        let g = &self.model.graph;
        let v = g[id].input(i)?;
        if let Some(t) = g.constant(v) {
            return Some(t.to_i64_vec().ok()?.into_iter().map(Dim::Const).collect());
        }
        g[v].contents.as_ref().map(|c| c.elements.clone())
    }

    fn builder(&mut self, id: NodeId) -> Builder<'_> {
        let (name, source) = (self.model.graph[id].name.clone(), self.model.graph[id].source.clone());
        let mut b = Builder::new(&mut self.model.graph, &mut self.model.symbols);
        (b.prefix, b.source) = (name, source);
        b
    }

    /// Replaces input `i` by a vector of these sizes.
    fn restate(&mut self, id: NodeId, i: usize, dims: &[Dim]) -> Result<()> {
        let v = self.builder(id).shape_value(dims)?;
        self.model.graph.set_input(id, i, Some(v));
        Ok(())
    }

    fn mend(&mut self, id: NodeId) -> Result<()> {
        match &*self.model.graph[id].op.clone() {
            "Reshape" => self.reshape(id),
            "Expand" => self.expand(id),
            "Resize" => self.resize(id),
            "Slice" => self.slice(id),
            "Gather" => self.gather(id),
            "Div" => {
                self.divisor(id)?;
                self.broadcast(id, 0)
            }
            "Add" | "Sub" | "Mul" | "Where" | "And" | "Or" | "Max" | "Min" | "Equal" | "Less" | "Greater" => {
                self.broadcast(id, 0)
            }
            "MatMul" => self.broadcast(id, 2),
            "Concat" => self.concat(id),
            "ScatterND" | "ScatterElements" => self.scatter(id),
            "Split" => self.split(id),
            "LSTM" | "GRU" | "RNN" => {
                let batch = self.dims(id, 0).get(1).cloned();
                for i in [5, 6] {
                    if let (Some(d), true) = (&batch, self.dims(id, i).len() == 3) {
                        self.grow_input(id, i, 1, d)?;
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    // ---- shapes ----

    /// Sizes that may stand behind the number `n`: first those of the same axis.
    fn candidates(&self, n: i64, axis: usize, local: &[Dim]) -> Vec<Candidate> {
        let mut out: Vec<Candidate> = Vec::new();
        let mut add = |c: Candidate| {
            if !out.contains(&c) {
                out.push(c);
            }
        };
        let mut ordered: Vec<&Dim> = local.get(axis).into_iter().collect();
        ordered.extend(local);
        for d in ordered.iter().filter(|d| self.is_dynamic(d)) {
            match self.at_example(d) {
                Some(e) if e == n => add((*d).clone().into()),
                Some(e) if e > 1 && n % e == 0 => add(((*d).clone() * (n / e)).into()),
                Some(e) if n > 1 && e % n == 0 => add(Candidate::part(d, e / n)),
                _ => {}
            }
        }
        // Neighbouring axes that were flattened together.
        for from in 0..local.len() {
            for to in from + 2..=local.len() {
                let d: Dim = local[from..to].iter().cloned().product();
                if self.is_dynamic(&d) && self.at_example(&d) == Some(n) {
                    add(d.into());
                }
            }
        }
        for (s, &e) in self.example {
            let d = Dim::from(s.clone());
            if e == n {
                add(d.into());
            } else if n > 1 && e % n == 0 {
                add(Candidate::part(&d, e / n));
            }
        }
        out
    }

    fn reshape(&mut self, id: NodeId) -> Result<()> {
        let x = self.dims(id, 0);
        let Some(stated) = self.stated(id, 1) else { return Ok(()) };
        let total: Dim = x.iter().cloned().product();
        if !self.is_dynamic(&total) || self.model.graph[id].attrs.bool_or("allowzero", false)? {
            return Ok(());
        }
        let hole = stated.iter().position(|d| d.is(-1));
        let stated: Vec<Dim> = stated
            .iter()
            .enumerate()
            .map(|(i, d)| if d.is(0) { x.get(i).cloned().unwrap_or(d.clone()) } else { d.clone() })
            .collect();
        let product: Dim = stated.iter().filter(|d| !d.is(-1)).cloned().product();
        let fits = match hole {
            None => product == total,
            // The rest goes into the hole; it should hold no dynamic size that a number took the place of.
            Some(_) => total.divide_exactly(&product).is_some_and(|rest| !self.is_dynamic(&rest)),
        };
        if fits {
            return Ok(());
        }
        let options: Vec<Vec<Candidate>> = (stated.iter().enumerate())
            .map(|(i, d)| match d.as_const() {
                Some(n) if n > 0 => {
                    let mut list = vec![d.clone().into()];
                    list.extend(self.candidates(n, i, &x));
                    list
                }
                _ => vec![d.clone().into()],
            })
            .collect();
        let count = options.iter().map(Vec::len).try_fold(1usize, |a, b| a.checked_mul(b));
        if count.is_none_or(|c| c > MAX_COMBINATIONS) {
            return Ok(());
        }
        let groups = self.groups(&x, &stated);
        let mut best: Option<(i64, Vec<Candidate>)> = None;
        let mut pick = vec![0usize; options.len()];
        loop {
            let chosen: Vec<&Candidate> = pick.iter().zip(&options).map(|(&k, o)| &o[k]).collect();
            let shape: Vec<Dim> = chosen.iter().map(|c| c.dim.clone()).collect();
            let product: Dim = shape.iter().filter(|d| !d.is(-1)).cloned().product();
            let rest_of = |product: &Dim, total: &Dim| match hole {
                None => (product == total).then_some(Dim::Const(1)),
                Some(_) => total.divide_exactly(product),
            };
            // Parts of a size make it up again when they divide it.
            let divided = || {
                let of: Dim = chosen.iter().filter(|c| !c.dim.is(-1)).map(|c| c.of.clone()).product();
                let parts: i64 = chosen.iter().map(|c| c.parts).product();
                (parts > 1).then(|| rest_of(&of, &(total.clone() * parts)))?
            };
            let exact = rest_of(&product, &total);
            let condition = exact.is_none();
            if let Some(rest) = exact.or_else(divided) {
                let same = shape.iter().zip(&x).filter(|(a, b)| a == b && self.is_dynamic(a)).count() as i64;
                let changed = pick.iter().filter(|k| **k > 0).count() as i64;
                // Sizes at their own place first, then a hole without dynamic sizes, then few changes, early ones.
                let early: i64 = pick.iter().enumerate().map(|(i, &k)| if k > 0 { i as i64 } else { 0 }).sum();
                let open = self.is_dynamic(&rest) as i64;
                // Axes that are split or joined among themselves.
                let aligned = groups.iter().all(|(from, to)| {
                    let have = |f: &dyn Fn(&Candidate) -> Dim| chosen[to.clone()].iter().map(|c| f(c)).product::<Dim>();
                    let want: Dim = x[from.clone()].iter().cloned().product();
                    let parts: i64 = chosen[to.clone()].iter().map(|c| c.parts).product();
                    have(&|c| c.dim.clone()) == want || have(&|c| c.of.clone()) == want * parts
                });
                let score = same * 1000 + aligned as i64 * 500
                    - open * 2000
                    - changed * 100
                    - early
                    - condition as i64 * 10_000;
                if best.as_ref().is_none_or(|(s, _)| score > *s) {
                    best = Some((score, chosen.into_iter().cloned().collect()));
                }
            }
            let Some(at) = (0..pick.len()).rev().find(|&i| pick[i] + 1 < options[i].len()) else { break };
            pick[at] += 1;
            pick[at + 1..].fill(0);
        }
        let best = best.map(|(score, chosen)| {
            if score < -5_000 {
                chosen.iter().filter(|c| c.parts > 1).for_each(|c| self.require_divisible(c));
            }
            (score, chosen.into_iter().map(|c| c.dim).collect::<Vec<Dim>>())
        });
        match best {
            Some((_, shape)) if shape != stated => {
                self.note(id, format!("the shape {stated:?} of {x:?} should be {shape:?}"), true);
                self.restate_shape(id, &shape, hole)
            }
            Some(_) => Ok(()),
            None => {
                self.note(id, format!("the shape {stated:?} does not fit {x:?}"), false);
                Ok(())
            }
        }
    }

    /// Runs of axes before and after a reshape that hold the same elements in the example; empty when a size is open.
    fn groups(&self, x: &[Dim], stated: &[Dim]) -> Vec<(std::ops::Range<usize>, std::ops::Range<usize>)> {
        let at_example = |d: &Dim| d.as_const().or_else(|| self.at_example(d)).filter(|&n| n > 0);
        let sizes = |dims: &[Dim]| dims.iter().map(at_example).collect::<Option<Vec<i64>>>();
        let (Some(a), Some(b)) = (sizes(x), sizes(stated)) else { return Vec::new() };
        let (mut out, mut i, mut j) = (Vec::new(), 0, 0);
        while i < a.len() && j < b.len() {
            let (from, to) = (i, j);
            let (mut left, mut right) = (a[i], b[j]);
            (i, j) = (i + 1, j + 1);
            while left != right {
                let (n, k, list) = if left < right { (&mut left, &mut i, &a) } else { (&mut right, &mut j, &b) };
                let Some(next) = list.get(*k) else { return Vec::new() };
                *n = n.saturating_mul(*next);
                *k += 1;
            }
            out.push((from..i, to..j));
        }
        out
    }

    /// Writes down that a size is a multiple: the sizes of a run are held against it.
    fn require_divisible(&mut self, c: &Candidate) {
        let text = self.model.metadata.entry(oxrt_ir::CONDITIONS.to_string()).or_default();
        let line = format!("({}) % {} == 0", c.of, c.parts);
        if !text.lines().any(|l| l == line) {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&line);
        }
    }

    /// A shape with at most one size left to the run is a constant with -1.
    fn restate_shape(&mut self, id: NodeId, shape: &[Dim], hole: Option<usize>) -> Result<()> {
        let dynamic: Vec<usize> = (0..shape.len()).filter(|&i| shape[i].as_const().is_none()).collect();
        if let (None, [one]) = (hole, &dynamic[..]) {
            let mut shape = shape.to_vec();
            shape[*one] = Dim::Const(-1);
            return self.restate(id, 1, &shape);
        }
        self.restate(id, 1, shape)
    }

    fn expand(&mut self, id: NodeId) -> Result<()> {
        let (x, Some(stated)) = (self.dims(id, 0), self.stated(id, 1)) else { return Ok(()) };
        let lead = stated.len().saturating_sub(x.len());
        let mut shape = stated.clone();
        for i in 0..x.len() {
            // What is expanded has the example's size where the wanted one is dynamic.
            if let Some(w) = stated.get(lead + i).filter(|w| self.is_dynamic(w)).cloned() {
                self.grow_input(id, 0, i, &w)?;
            }
        }
        for (i, d) in x.iter().enumerate() {
            let at = shape.get(lead + i).cloned();
            if at.as_ref().and_then(Dim::as_const).is_some_and(|n| n > 1 && self.at_example(d) == Some(n))
                && self.is_dynamic(d)
            {
                shape[lead + i] = d.clone();
            }
        }
        if shape == stated {
            return Ok(());
        }
        self.note(id, format!("the shape {stated:?} of {x:?} should be {shape:?}"), true);
        self.restate(id, 1, &shape)
    }

    fn resize(&mut self, id: NodeId) -> Result<()> {
        let (x, Some(stated)) = (self.dims(id, 0), self.stated(id, 3)) else { return Ok(()) };
        if stated.len() != x.len() {
            return Ok(());
        }
        let mut shape = stated.clone();
        for (axis, d) in x.iter().enumerate() {
            let (Some(n), true) = (stated[axis].as_const(), self.is_dynamic(d)) else { continue };
            let same = self.candidates(n, axis, std::slice::from_ref(d)).into_iter().next();
            if let Some(better) = same {
                shape[axis] = better.dim;
            }
        }
        if shape == stated {
            return Ok(());
        }
        self.note(id, format!("the sizes {stated:?} of {x:?} should be {shape:?}"), true);
        self.restate(id, 3, &shape)
    }

    fn gather(&mut self, id: NodeId) -> Result<()> {
        let g = &self.model.graph;
        let axis = g[id].attrs.int_or("axis", 0)?;
        let x = self.dims(id, 0);
        let at = if axis < 0 { axis + x.len() as i64 } else { axis };
        let Some(size) = usize::try_from(at).ok().and_then(|a| x.get(a)).filter(|d| self.is_dynamic(d)).cloned() else {
            return Ok(());
        };
        let Some(index) = g[id].input(1).and_then(|v| g.constant(v)).filter(|t| t.len() == 1).cloned() else {
            return Ok(());
        };
        let (n, e) = (index.to_i64_vec()?[0], self.at_example(&size).unwrap_or(0));
        if let Some(v) = g[id].input(0) {
            self.selected.entry((v, at)).or_default().push(n);
        }
        // A lone last element: where all are taken one by one, a loop was unrolled.
        let alone = self.readers_of_axis(id, at) == 1;
        if n == e - 1 && e > 1 && alone {
            self.note(id, format!("element {n} of {size} should be the last"), true);
            let mut b = self.builder(id);
            let last = b.constant(Tensor::from_i64(index.dtype(), index.shape(), &[-1])?);
            self.model.graph.set_input(id, 1, Some(last));
        }
        Ok(())
    }

    /// Nodes that take single elements of the same value along the same axis.
    fn readers_of_axis(&self, id: NodeId, axis: i64) -> usize {
        let g = &self.model.graph;
        let Some(v) = g[id].input(0) else { return 0 };
        g[v].users()
            .iter()
            .filter(|&&u| {
                let n = &g[u];
                let own = n.attrs.int_or("axis", 0).unwrap_or(0);
                let own = if own < 0 { own + g.dims(v).map_or(0, |d| d.len() as i64) } else { own };
                &*n.op == "Gather" && own == axis && n.input(1).is_some_and(|i| g[i].is_constant())
            })
            .count()
    }

    /// Reports a loop over a dynamic axis that was unrolled.
    fn judge_selection(&mut self, id: NodeId) {
        let g = &self.model.graph;
        if &*g[id].op != "Gather" {
            return;
        }
        let Some(v) = g[id].input(0) else { return };
        let axis = g[id].attrs.int_or("axis", 0).unwrap_or(0);
        let rank = g.dims(v).map_or(0, |d| d.len() as i64);
        let axis = if axis < 0 { axis + rank } else { axis };
        let Some(places) = self.selected.get(&(v, axis)) else { return };
        let size = usize::try_from(axis).ok().and_then(|a| g.dims(v)?.get(a)).cloned();
        let e = size.as_ref().and_then(|d| self.at_example(d)).unwrap_or(0);
        if e > 1 && places.len() as i64 == e && places.iter().enumerate().all(|(i, &p)| p == i as i64) {
            let size = size.unwrap_or(Dim::Const(e));
            self.note(
                id,
                format!("a loop over `{size}` was unrolled for {e} turns; script the model or use torch.export"),
                false,
            );
        }
    }

    /// A sum over a dynamic axis divided by its example size.
    fn divisor(&mut self, id: NodeId) -> Result<()> {
        let g = &self.model.graph;
        let (Some(x), Some(c)) = (g[id].input(0), g[id].input(1)) else { return Ok(()) };
        let Some(t) = g.constant(c).filter(|t| t.len() == 1).cloned() else { return Ok(()) };
        let Some(sum) = g.producer(x).filter(|n| &*n.op == "ReduceSum") else { return Ok(()) };
        let axes = sum.input(1).and_then(|a| g.constant(a)).and_then(|a| a.to_i64_vec().ok()).unwrap_or_default();
        let dims = sum.input(0).and_then(|v| g.dims(v)).unwrap_or_default().to_vec();
        let reduced: Dim = axes
            .iter()
            .filter_map(|&a| dims.get(if a < 0 { a + dims.len() as i64 } else { a } as usize))
            .cloned()
            .product();
        let n = t.to_f64_vec()?[0];
        if !self.is_dynamic(&reduced) || self.at_example(&reduced).map(|e| e as f64) != Some(n) || axes.is_empty() {
            return Ok(());
        }
        self.note(id, format!("the divisor {n} should be {reduced}"), true);
        let dtype = t.dtype();
        let mut b = self.builder(id);
        let v = b.dim_value(&reduced)?;
        let v = b.cast(v, dtype)?;
        let v = b.squeeze(v, &[0])?;
        self.model.graph.set_input(id, 1, Some(v));
        Ok(())
    }

    // ---- operands of a fixed size that meet a dynamic one ----

    fn broadcast(&mut self, id: NodeId, skip: usize) -> Result<()> {
        let n = self.model.graph[id].inputs().len();
        let all: Vec<Vec<Dim>> = (0..n).map(|i| self.dims(id, i)).collect();
        let rank = all.iter().map(Vec::len).max().unwrap_or(0);
        for back in skip + 1..=rank {
            let at = |dims: &Vec<Dim>| dims.len().checked_sub(back).map(|a| dims[a].clone());
            let Some(wanted) = all.iter().filter_map(at).find(|d| self.is_dynamic(d)) else { continue };
            for (i, dims) in all.iter().enumerate() {
                if dims.len() >= back {
                    self.grow_input(id, i, dims.len() - back, &wanted)?;
                }
            }
        }
        Ok(())
    }

    fn concat(&mut self, id: NodeId) -> Result<()> {
        let own = self.model.graph[id].attrs.int_or("axis", 0)?;
        let n = self.model.graph[id].inputs().len();
        let all: Vec<Vec<Dim>> = (0..n).map(|i| self.dims(id, i)).collect();
        let rank = all.first().map_or(0, Vec::len);
        let own = if own < 0 { own + rank as i64 } else { own } as usize;
        for axis in (0..rank).filter(|&a| a != own) {
            let Some(wanted) = all.iter().filter_map(|d| d.get(axis)).find(|d| self.is_dynamic(d)).cloned() else {
                continue;
            };
            for i in 0..n {
                self.grow_input(id, i, axis, &wanted)?;
            }
        }
        Ok(())
    }
}
