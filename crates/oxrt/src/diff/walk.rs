//! The walk along the values of both sides.

use super::side::Found;
use super::{DiffOptions, DiffReport, Fault, NodePlace, Side, ValueDiff, non_finite};
use crate::engine::{Engine, Seen};
use crate::verify::{Comparison, VerifyOptions, compare_tensors};
use oxrt_backend::Precision;
use oxrt_ir::{Graph, ValueId};
use oxrt_ops::{Datum, Interpreter};
use oxrt_tensor::{DType, Error, Result, Tensor, bail};
use oxrt_verify::{Store, pattern, worst_elements};
use std::collections::{BTreeMap, HashMap};

/// The values of one side that the other one has too, by the name that the reference gives them.
struct Names {
    /// Name in the tested side → name in the reference.
    of_tested: HashMap<String, String>,
}

impl Names {
    fn new(reference: &Side, tested: &Side) -> Names {
        let list = |side: &Side| -> Vec<String> {
            match side {
                Side::Tensors(t) => t.keys().cloned().collect(),
                _ => side.results().into_keys().collect(),
            }
        };
        let known: std::collections::HashSet<String> = list(reference).into_iter().collect();
        let mut of_tested: HashMap<String, String> =
            list(tested).into_iter().filter(|n| known.contains(n)).map(|n| (n.clone(), n)).collect();
        // Outputs agree by place; saved ones may be called out0, out1 ….
        let outputs =
            |side: &Side| side.engine().map(|e| e.outputs().iter().map(|p| p.name.clone()).collect::<Vec<_>>());
        let numbered = |side: &Side, i: usize| match side {
            Side::Tensors(t) => Some(format!("out{i}")).filter(|n| t.contains_key(n)),
            Side::Engine { .. } => outputs(side)?.get(i).cloned(),
        };
        let count = outputs(reference).or_else(|| outputs(tested)).map_or(0, |o| o.len());
        for i in 0..count {
            if let (Some(r), Some(t)) = (numbered(reference, i), numbered(tested, i)) {
                if !of_tested.values().any(|x| *x == r) {
                    of_tested.entry(t).or_insert(r);
                }
            }
        }
        Names { of_tested }
    }

    /// The common name of a value of a side.
    fn key(&self, is_tested: bool, name: &str) -> Option<&str> {
        let name = name.strip_suffix(oxrt_passes::CHANNELS_LAST).unwrap_or(name);
        match is_tested {
            true => self.of_tested.get(name).map(String::as_str),
            false => self.of_tested.values().find(|r| *r == name).map(String::as_str),
        }
    }
}

/// Tensor in another element type, where both are floats.
fn in_type(t: Tensor, dtype: DType) -> Result<Tensor> {
    if t.dtype() == dtype || !t.dtype().is_float() || !dtype.is_float() {
        return Ok(t);
    }
    Tensor::from_f64(dtype, t.shape(), &t.to_f64_vec()?)
}

pub(super) fn compare(name: &str, got: &Tensor, want: &Tensor) -> Result<Comparison> {
    let limits = VerifyOptions::default();
    compare_tensors(name, &in_type(got.clone(), want.dtype())?, want, limits.rtol, limits.atol)
}

/// Largest relative L2 error that one step may add: a few hundred roundings of its element type.
fn usual_budget(want: DType, got: DType, precision: Precision) -> f64 {
    let of_type = |d: DType| -> f64 {
        match d {
            DType::F64 => 1e-9,
            DType::F32 => 2e-5,
            DType::F16 => 5e-3,
            d if d.is_float() => 2e-2,
            _ => 0.0,
        }
    };
    let of_precision = if precision == Precision::F32 { 0.0 } else { 2e-2 };
    match want.is_float() {
        true => of_type(want).max(of_type(got)).max(of_precision),
        false => 0.0,
    }
}

pub(super) fn is_within(c: &Comparison, budget: f64) -> bool {
    c.mismatch.is_none() && c.non_finite == 0 && c.rel_l2 <= budget && (c.rel_l2 > 0.0 || c.outside == 0)
}

/// The nodes of the reference between the values that both sides have and one of them, as a graph that can be run.
pub(super) struct Region {
    pub graph: Graph,
    /// Common names of its inputs.
    pub inputs: Vec<String>,
}

impl Region {
    /// `None` when the value is no result of a node.
    pub fn of(g: &Graph, is_given: &dyn Fn(&str) -> bool, value: &str) -> Option<Region> {
        let target =
            g.nodes().flat_map(|(_, n)| n.outputs().iter().flatten()).copied().find(|&v| g[v].name == value)?;
        let given: Vec<ValueId> = (g.value_ids())
            .filter(|&v| v != target && !g[v].is_constant() && (g.inputs.contains(&v) || is_given(&g[v].name)))
            .collect();
        let graph = g.extracted(&given, &[target]).ok()?;
        let inputs = graph.inputs.iter().map(|&v| graph[v].name.clone()).collect();
        Some(Region { graph, inputs })
    }

    pub fn run(&self, get: &mut dyn FnMut(&str) -> Result<Option<Tensor>>) -> Result<Option<Tensor>> {
        let mut inputs = Vec::new();
        for (name, &v) in self.inputs.iter().zip(&self.graph.inputs) {
            let Some(t) = get(name)? else { return Ok(None) };
            inputs.push(Datum::Tensor(in_type(t, self.graph[v].ty.dtype().unwrap_or(DType::F32))?));
        }
        Ok(Interpreter::new(&self.graph).run(inputs)?.into_iter().next().and_then(|d| d.as_tensor().cloned()))
    }
}

/// Every element off by one rounding, up or down by turns that follow no axis.
fn jittered(t: Tensor, unit: f64) -> Result<Tensor> {
    if !t.dtype().is_float() {
        return Ok(t);
    }
    let turn = |i: usize| if (i.wrapping_mul(0x9e37_79b9) >> 7) & 1 == 0 { 1.0 + unit } else { 1.0 - unit };
    let values: Vec<f64> = t.to_f64_vec()?.into_iter().enumerate().map(|(i, x)| x * turn(i)).collect();
    Tensor::from_f64(t.dtype(), t.shape(), &values)
}

struct Walk<'a> {
    reference: &'a Side,
    tested: &'a Side,
    names: Names,
    /// Values of the side that is not run step by step, by common name.
    store: Store,
    /// The reference's graph with numbers for sizes.
    graph: Option<Graph>,
    options: &'a DiffOptions,
}

pub(super) fn walk(
    reference: &Side,
    tested: &Side,
    inputs: &[(String, Tensor)],
    options: &DiffOptions,
) -> Result<DiffReport> {
    let names = Names::new(reference, tested);
    if names.of_tested.is_empty() {
        return Err(Error::invalid("the two have no value in common, not even an output")
            .help("values are matched by name, outputs by place too"));
    }
    // An engine's graph cannot be run apart: its weights are packed.
    let is_model = matches!(reference, Side::Engine { is_model: true, .. });
    let graph = if is_model { reference.concrete(&reference.order_inputs(inputs)?) } else { None };
    let mut w = Walk { reference, tested, names, store: Store::new(options.memory), graph, options };
    match (reference.engine(), tested.engine()) {
        (_, Some(_)) => w.fill(reference, false, inputs)?,
        (Some(_), None) => w.fill(tested, true, inputs)?,
        (None, None) => return w.saved_only(),
    }
    for (name, t) in inputs {
        w.store.insert(name, t.clone())?;
    }
    // Engines name their inputs as they like: by place they are the reference's.
    if let Some(e) = reference.engine().or(tested.engine()) {
        for (port, (_, t)) in e.inputs().iter().zip(inputs) {
            if !w.store.contains(&port.name) {
                w.store.insert(&port.name, t.clone())?;
            }
        }
    }
    w.walk(inputs)
}

impl Walk<'_> {
    /// Keeps the values of one side that the other one has.
    fn fill(&mut self, side: &Side, is_tested: bool, inputs: &[(String, Tensor)]) -> Result<()> {
        if let Side::Tensors(tensors) = side {
            for (name, t) in tensors {
                if let Some(key) = self.names.key(is_tested, name) {
                    self.store.insert(key, t.clone())?;
                }
            }
            return Ok(());
        }
        let (Some(engine), Some(g)) = (side.engine(), side.graph()) else { return Ok(()) };
        let mut key_of: HashMap<ValueId, (String, Found)> = HashMap::new();
        for (name, found) in side.results() {
            key_of.extend(self.names.key(is_tested, &name).map(|k| (found.value, (k.to_string(), found))));
        }
        let store = &mut self.store;
        engine.run_watched(side.order_inputs(inputs)?, &mut |_, v, datum| {
            if let (Some((key, found)), Some(t)) = (key_of.get(&v), datum.as_tensor()) {
                store.insert(key, found.read(t)?)?;
            }
            Ok(Seen::Keep)
        })?;
        // Outputs that no node makes.
        for &v in &g.outputs {
            if let (Some(t), Some(key)) = (g.constant(v), self.names.key(is_tested, &g[v].name)) {
                self.store.insert(key, t.clone())?;
            }
        }
        Ok(())
    }

    fn walk(&mut self, inputs: &[(String, Tensor)]) -> Result<DiffReport> {
        let runs_tested = self.tested.engine().is_some();
        let runner = if runs_tested { self.tested } else { self.reference };
        let Some(engine) = runner.engine() else { bail!(bug, "no side can be run") };
        let ordered = runner.order_inputs(inputs)?;
        let key_of: HashMap<ValueId, (String, Found)> = (runner.results().into_iter())
            .filter_map(|(n, f)| Some((f.value, (self.names.key(runs_tested, &n)?.to_string(), f))))
            .filter(|(_, (k, _))| self.store.contains(k))
            .collect();

        // Each value from the other side's values.
        let mut values: Vec<ValueDiff> = Vec::new();
        let mut fault: Option<(ValueId, Tensor, Tensor)> = None;
        let mut noted = Vec::new();
        engine.run_watched(ordered.clone(), &mut |step, v, datum| {
            let (Some((key, found)), Some(held)) = (key_of.get(&v), datum.as_tensor()) else { return Ok(Seen::Keep) };
            let t = &found.read(held)?;
            let Some(other) = self.store.get(key)? else { return Ok(Seen::Keep) };
            let (got, want) = if runs_tested { (t, &other) } else { (&other, t) };
            let mut added = compare(key, got, want)?;
            let precision = if runs_tested { precision_of(engine, step) } else { Precision::F32 };
            let mut budget = self.options.budget.unwrap_or_else(|| usual_budget(want.dtype(), got.dtype(), precision));
            let mut within = is_within(&added, budget);
            if !within && added.mismatch.is_none() && added.non_finite == 0 {
                let noise = self.noise(key, precision)?;
                budget = budget.max(64.0 * noise);
                within = is_within(&added, budget) || (noise > 0.0 && added.rel_l2 <= budget);
            }
            added.passed = within;
            values.push(ValueDiff {
                value: key.clone(),
                node: self.place_of(key).unwrap_or_else(|| runner.place(engine.plan().steps[step].node)),
                added: Some(added),
                total: None,
                budget,
                within,
            });
            if !within && fault.is_none() {
                fault = Some((v, got.clone(), want.clone()));
                if !self.options.all {
                    return Ok(Seen::Stop);
                }
            }
            let replacement = match other.shape() == t.shape() {
                true => found.write(in_type(other, t.dtype())?)?,
                false => return Ok(Seen::Keep),
            };
            Ok(match replacement.dtype() == t.dtype() {
                true => Seen::Replace(replacement.into()),
                false => Seen::Keep,
            })
        })?;

        // The same with the runner's own values.
        let region = fault
            .as_ref()
            .and_then(|(v, ..)| Region::of(self.graph.as_ref()?, &|n| self.store.contains(n), &key_of[v].0));
        let mut own: BTreeMap<String, Tensor> = inputs.iter().cloned().collect();
        let mut totals: HashMap<String, Comparison> = HashMap::new();
        let finals = engine.run_watched(ordered.clone(), &mut |_, v, datum| {
            let (Some((key, found)), Some(held)) = (key_of.get(&v), datum.as_tensor()) else { return Ok(Seen::Keep) };
            let t = &found.read(held)?;
            if let Some(other) = self.store.get(key)? {
                let (got, want) = if runs_tested { (t, &other) } else { (&other, t) };
                totals.insert(key.clone(), compare(key, got, want)?);
            }
            let is_fault = fault.as_ref().is_some_and(|(f, ..)| *f == v);
            if is_fault || region.as_ref().is_some_and(|r| r.inputs.contains(key)) {
                own.insert(key.clone(), t.clone());
            }
            Ok(Seen::Keep)
        })?;
        for d in &mut values {
            d.total = totals.get(&d.value).cloned();
        }

        let mut notes = Vec::new();
        let finals = finals.unwrap_or_default();
        if runs_tested {
            noted.extend(memory_fault(engine, &ordered, &finals)?);
        }
        let mut outputs = Vec::new();
        for (port, datum) in engine.outputs().iter().zip(&finals) {
            let (Some(key), Some(t)) = (self.names.key(runs_tested, &port.name), datum.as_tensor()) else { continue };
            let Some(other) = self.store.get(key)? else { continue };
            let (got, want) = if runs_tested { (t, &other) } else { (&other, t) };
            let mut c = compare(key, got, want)?;
            if runs_tested && engine.precision() != Precision::F32 && want.dtype().is_float() {
                c.judge_by_l2(VerifyOptions::default().rel_l2);
            }
            outputs.push(c);
        }
        let outputs_agree = outputs.iter().all(|c| c.passed) && noted.is_empty();
        notes.append(&mut noted);
        if key_of.values().all(|(k, _)| outputs.iter().any(|c| c.name == *k))
            && runner.graph().is_some_and(|g| g.num_nodes() > 1)
        {
            notes.push("only outputs have the same name on both sides: no value between can be compared".to_string());
        }
        if fault.is_none() && !outputs_agree && notes.is_empty() {
            let most = values.iter().max_by(|a, b| l2(a).total_cmp(&l2(b)));
            let most = most.map_or(String::new(), |d| format!("; `{}` adds most, {:.2e}", d.value, l2(d)));
            notes.push(format!("no step adds more than its budget: the differences are roundings that add up{most}"));
        }
        let mut report = DiffReport {
            fault: None,
            non_finite: None,
            memory_bytes: self.store.bytes().0,
            file_bytes: self.store.bytes().1,
            values,
            outputs,
            outputs_agree,
            notes,
        };
        if let Some((v, got, want)) = fault {
            report.fault = Some(self.fault(&key_of[&v].0, &got, &want, region.as_ref(), &own, runs_tested, &totals)?);
        }
        let odd = |c: &Comparison| c.non_finite > 0;
        let faulty = report.fault.as_ref().is_some_and(|f| odd(&f.added) || f.total.as_ref().is_some_and(odd));
        if faulty || report.outputs.iter().any(odd) {
            report.non_finite = non_finite::find_non_finite(runner, inputs)?;
        }
        Ok(report)
    }

    fn fault(
        &mut self,
        key: &str,
        got: &Tensor,
        want: &Tensor,
        region: Option<&Region>,
        own: &BTreeMap<String, Tensor>,
        runs_tested: bool,
        totals: &HashMap<String, Comparison>,
    ) -> Result<Fault> {
        let tested_name = self.names.of_tested.iter().find(|(_, r)| *r == key).map(|(t, _)| t.clone());
        let places = |side: &Side, name: &str, is_tested: bool| -> Vec<NodePlace> {
            let (Some(g), Some(v)) = (side.graph(), side.results().get(name).map(|f| f.value)) else {
                return Vec::new();
            };
            let given = |x: ValueId| {
                x != v
                    && (g[x].producer().is_none()
                        || self.names.key(is_tested, &g[x].name).is_some_and(|k| self.store.contains(k)))
            };
            g.nodes_between(&given, &[v]).into_iter().map(|id| side.place(id)).collect()
        };
        let reference_nodes = places(self.reference, key, false);
        let tested_nodes = places(self.tested, tested_name.as_deref().unwrap_or(key), true);
        // What the reference makes of the tested side's inputs, against the reference's value.
        let inherited = match region {
            None => None,
            Some(r) => {
                let exact = r.run(&mut |n| if runs_tested { Ok(own.get(n).cloned()) } else { self.store.get(n) });
                let truth = if runs_tested { self.store.get(key)? } else { own.get(key).cloned() };
                match (exact.ok().flatten(), truth) {
                    (Some(exact), Some(truth)) => Some(compare(key, &exact, &truth)?),
                    _ => None,
                }
            }
        };
        Ok(Fault {
            value: key.to_string(),
            reference_nodes,
            tested_nodes,
            inputs: region.map(|r| r.inputs.clone()).unwrap_or_default(),
            added: compare(key, got, want)?,
            inherited,
            total: totals.get(key).cloned(),
            worst: worst_elements(&in_type(got.clone(), want.dtype())?, want, 5)?,
            pattern: pattern(got, want)?,
            differing: differing(self.reference, self.tested, key, tested_name.as_deref().unwrap_or(key))?,
        })
    }

    fn place_of(&self, key: &str) -> Option<NodePlace> {
        let g = self.reference.graph()?;
        let v = self.reference.results().get(key)?.value;
        Some(self.reference.place(g[v].producer()?.0))
    }

    /// Relative change of a value when the reference's inputs of its nodes change by one rounding: no kernel can do better.
    fn noise(&mut self, key: &str, precision: Precision) -> Result<f64> {
        let Some(region) = self.graph.as_ref().and_then(|g| Region::of(g, &|n| self.store.contains(n), key)) else {
            return Ok(0.0);
        };
        let unit = if precision == Precision::F32 { 2f64.powi(-23) } else { 2f64.powi(-8) };
        let run = |store: &mut Store, unit: f64| {
            region.run(&mut |n| store.get(n)?.map(|t| jittered(t, unit)).transpose()).ok().flatten()
        };
        let (Some(plain), Some(other)) = (run(&mut self.store, 0.0), run(&mut self.store, unit)) else {
            return Ok(0.0);
        };
        let c = compare(key, &other, &plain)?;
        Ok(if c.non_finite == 0 && c.rel_l2.is_finite() { c.rel_l2 } else { 0.0 })
    }

    /// Two files of tensors: all that can be said is how far apart they are.
    fn saved_only(&mut self) -> Result<DiffReport> {
        let (Side::Tensors(a), Side::Tensors(b)) = (self.reference, self.tested) else {
            bail!(bug, "a side can be run")
        };
        let mut values = Vec::new();
        for (name, want) in a {
            let Some(got) = b.get(name) else { continue };
            let mut c = compare(name, got, want)?;
            let budget = self.options.budget.unwrap_or_else(|| usual_budget(want.dtype(), got.dtype(), Precision::F32));
            let within = is_within(&c, budget) || (self.options.budget.is_none() && c.passed);
            c.passed = within;
            let node = NodePlace { name: name.clone(), ..NodePlace::default() };
            values.push(ValueDiff { value: name.clone(), node, added: None, total: Some(c), budget, within });
        }
        let outputs_agree = values.iter().all(|v| v.within);
        let outputs = values.iter().filter_map(|v| v.total.clone()).collect();
        let notes =
            vec!["both are saved tensors: errors that were made cannot be told from those that came in".to_string()];
        Ok(DiffReport {
            values,
            fault: None,
            outputs,
            outputs_agree,
            non_finite: None,
            memory_bytes: 0,
            file_bytes: 0,
            notes,
        })
    }
}

fn l2(d: &ValueDiff) -> f64 {
    d.added.as_ref().map_or(0.0, |c| c.rel_l2)
}

fn precision_of(engine: &Engine, step: usize) -> Precision {
    let kernels = engine.plan().steps[step].kind.kernels().iter();
    kernels.map(|k| engine.precision_of(&k.candidate)).max().unwrap_or_default()
}

/// A run in shared memory must give what a run step by step gives, bit for bit.
fn memory_fault(engine: &Engine, inputs: &[Datum], finals: &[Datum]) -> Result<Option<String>> {
    if !engine.is_static() {
        return Ok(None);
    }
    let views: Option<Vec<_>> = inputs.iter().map(|d| d.as_tensor()?.view().ok()).collect();
    let Some(views) = views else { return Ok(None) };
    let mut session = engine.session();
    let outputs = session.run_ordered(&views)?;
    let differs = outputs
        .iter()
        .zip(finals)
        .zip(engine.outputs())
        .find(|((a, b), _)| b.as_tensor().is_some_and(|b| b.bytes() != a.bytes()));
    Ok(differs.map(|(_, port)| {
        format!(
            "output `{}` differs between a run in planned memory and one step by step: a buffer is overwritten",
            port.name
        )
    }))
}

/// How the nodes that make the value differ, where both are the same operator.
fn differing(reference: &Side, tested: &Side, key: &str, tested_name: &str) -> Result<Vec<String>> {
    let (Some(a), Some(b)) = (reference.graph(), tested.graph()) else { return Ok(Vec::new()) };
    let node = |side: &Side, g: &Graph, name: &str| Some(g[side.results().get(name)?.value].producer()?.0);
    let (Some(x), Some(y)) = (node(reference, a, key), node(tested, b, tested_name)) else { return Ok(Vec::new()) };
    let (x, y) = (&a[x], &b[y]);
    let mut found = Vec::new();
    if x.op != y.op {
        return Ok(found);
    }
    let mut names: Vec<&str> = x.attrs.iter().chain(y.attrs.iter()).map(|(k, _)| k).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let text = |n: &oxrt_ir::Node| n.attrs.get(name).map_or("absent".to_string(), |v| format!("{v:?}"));
        if x.attrs.get(name) != y.attrs.get(name) {
            found.push(format!("attribute `{name}` is {}, in the reference {}", text(y), text(x)));
        }
    }
    let list = |g: &Graph, n: &oxrt_ir::Node| -> Vec<Option<String>> {
        n.inputs().iter().map(|v| v.filter(|&v| !g[v].is_constant()).map(|v| g[v].name.clone())).collect()
    };
    let (left, right) = (list(a, x), list(b, y));
    let sorted = |l: &[Option<String>]| {
        let mut l: Vec<_> = l.iter().flatten().cloned().collect();
        l.sort();
        l
    };
    if left != right && sorted(&left) == sorted(&right) {
        let words = |l: &[Option<String>]| l.iter().flatten().cloned().collect::<Vec<_>>().join(", ");
        found.push(format!("its inputs are ({}), in the reference ({})", words(&right), words(&left)));
    }
    for (i, (v, w)) in x.inputs().iter().zip(y.inputs()).enumerate() {
        let (Some(v), Some(w)) = (v, w) else { continue };
        let (Some(want), Some(got)) = (a.constant(*v), b.constant(*w)) else { continue };
        let c = compare(&a[*v].name, got, want)?;
        let worst = worst_elements(got, want, 1)?.pop();
        if let Some(m) = c.mismatch {
            found.push(format!("constant input {i} `{}`: {m}", a[*v].name));
        } else if let Some(e) = worst.filter(|_| got != want) {
            found.push(format!(
                "constant input {i} `{}` differs, most at {:?}: {} for {}",
                a[*v].name, e.index, e.got, e.want
            ));
        }
    }
    Ok(found)
}
