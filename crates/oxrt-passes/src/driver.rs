//! Applies rules until none fires, verifying after each step.

use crate::origins;
use oxrt_ir::{Model, NodeId};
use oxrt_ops::Builder;
use oxrt_tensor::{Error, Result};
use serde::Serialize;
use std::collections::BTreeMap;

/// A rewrite of the neighbourhood of one node.
#[derive(Clone, Copy)]
pub struct Rule {
    /// What it does, as `fuse-conv-bn`.
    pub name: &'static str,
    /// Operators that it looks at; empty means all.
    pub ops: &'static [&'static str],
    /// Changes the graph and returns true, or leaves it alone and returns false.
    pub apply: fn(&mut Rewrite, NodeId) -> Result<bool>,
}

/// What a rule works with.
pub struct Rewrite<'m> {
    pub model: &'m mut Model,
    /// Largest constant, in bytes, that folding may make.
    pub fold_limit: usize,
}

impl<'m> Rewrite<'m> {
    /// A builder whose nodes are named after `id` and carry its source.
    pub fn builder(&mut self, id: NodeId) -> Builder<'_> {
        let (name, source) = (self.model.graph[id].name.clone(), self.model.graph[id].source.clone());
        let mut b = Builder::new(&mut self.model.graph, &mut self.model.symbols);
        (b.prefix, b.source, b.made_up) = (name, source, true);
        b
    }
}

impl std::fmt::Debug for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

#[derive(Clone, Debug)]
pub struct Options {
    /// Rules that stay off, by name.
    pub disabled: Vec<String>,
    /// The caller's own rules, tried before the others.
    pub extra: Vec<Rule>,
    /// Stops after so many steps, to find the one that breaks a graph.
    pub stop_at: Option<usize>,
    /// Largest constant, in bytes, that folding may make beyond the size of its inputs.
    pub fold_limit: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options { disabled: Vec::new(), extra: Vec::new(), stop_at: None, fold_limit: 1 << 20 }
    }
}

/// One step.
#[derive(Clone, Debug, Serialize)]
pub struct Applied {
    pub rule: &'static str,
    pub node: String,
}

/// What was done, in order.
#[derive(Clone, Debug, Default)]
pub struct Log {
    pub steps: Vec<Applied>,
}

impl Log {
    /// (rule, times it fired), most frequent first.
    pub fn counts(&self) -> Vec<(String, usize)> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for s in &self.steps {
            *counts.entry(s.rule).or_default() += 1;
        }
        let mut list: Vec<_> = counts.into_iter().map(|(k, v)| (k.to_string(), v)).collect();
        list.sort_by_key(|(k, v)| (std::cmp::Reverse(*v), k.clone()));
        list
    }

    pub fn extend(&mut self, other: Log) {
        self.steps.extend(other.steps);
    }
}

impl Options {
    /// # Errors
    /// Names of disabled rules that no rule has.
    pub fn check_names(&self) -> Result<()> {
        let (mut known, of_engines) = crate::rule_names();
        known.extend(of_engines);
        if let Some(bad) = self.disabled.iter().find(|d| !known.contains(&d.as_str())) {
            known.sort_unstable();
            known.dedup();
            return Err(
                Error::invalid(format!("there is no rule `{bad}`")).help(format!("the rules are {}", known.join(", ")))
            );
        }
        Ok(())
    }

    /// The same for a run that follows `log`, whose steps count.
    pub(crate) fn after(&self, log: &Log) -> Options {
        Options { stop_at: self.stop_at.map(|n| n.saturating_sub(log.steps.len())), ..self.clone() }
    }
}

/// Sweeps over the nodes, applying each rule that fires, until a sweep changes nothing.
///
/// The graph is verified after each sweep. Where that fails, the same is done again from the start with verification after each
/// step, which names the rule; builds with debug assertions do so at once.
///
/// # Errors
/// When a rule breaks the graph: the rule and the node are named.
pub(crate) fn run(model: &mut Model, rules: &[Rule], options: &Options) -> Result<Log> {
    if cfg!(debug_assertions) {
        return sweeps(model, rules, options, true);
    }
    let before = model.clone();
    sweeps(model, rules, options, false).or_else(|e| {
        *model = before;
        sweeps(model, rules, options, true).and(Err(e))
    })
}

fn sweeps(model: &mut Model, rules: &[Rule], options: &Options, verify_each: bool) -> Result<Log> {
    let mut log = Log::default();
    let rules: Vec<&Rule> =
        options.extra.iter().chain(rules).filter(|r| !options.disabled.iter().any(|d| d == r.name)).collect();
    let keeps_origins = model.graph.nodes().any(|(_, n)| !n.origins.is_empty());
    model.graph.record_edits(keeps_origins);
    // A rule that undoes another one would never end; real graphs settle in a few sweeps.
    for _sweep in 0..64 {
        let before = log.steps.len();
        for id in model.graph.node_ids() {
            for rule in &rules {
                if options.stop_at.is_some_and(|n| log.steps.len() >= n) {
                    return finish(model, log);
                }
                if !model.graph.is_alive(id) {
                    break;
                }
                let node = &model.graph[id];
                if !rule.ops.is_empty() && !rule.ops.contains(&&*node.op) {
                    continue;
                }
                let name = node.name.clone();
                let place = |e: Error| e.at(format!("rule {} on node \"{name}\"", rule.name));
                let first_new = model.graph.next_node();
                let mut rewrite = Rewrite { model, fold_limit: options.fold_limit };
                if !(rule.apply)(&mut rewrite, id).map_err(place)? {
                    continue;
                }
                if keeps_origins {
                    origins::hand_on(&mut model.graph, id, first_new);
                }
                if verify_each {
                    model.graph.sort().and_then(|()| model.graph.verify()).map_err(place)?;
                }
                log.steps.push(Applied { rule: rule.name, node: name.clone() });
            }
        }
        model.graph.remove_dead_nodes();
        model.graph.take_edits();
        model.graph.sort()?;
        model.graph.verify()?;
        if log.steps.len() == before {
            break;
        }
    }
    finish(model, log)
}

fn finish(model: &mut Model, log: Log) -> Result<Log> {
    model.graph.record_edits(false);
    model.graph.remove_dead_nodes();
    model.graph.sort()?;
    model.graph.verify()?;
    model.graph = model.graph.compacted();
    Ok(log)
}
