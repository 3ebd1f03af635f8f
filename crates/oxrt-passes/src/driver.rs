//! Applies rules until none fires, verifying after each step.

use crate::origins;
use oxrt_ir::{Attr, Graph, Model, NodeId};
use oxrt_ops::Builder;
use oxrt_ops::infer::infer_node;
use oxrt_tensor::{Error, Kind, Result};
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

/// Which graphs the rules of a run are applied to.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Reach {
    /// The main graph alone.
    Main,
    /// Branches and bodies too, however deep.
    Bodies,
}

/// Sweeps over the nodes, applying each rule that fires, until a sweep changes nothing; with [`Reach::Bodies`] likewise over the
/// graphs inside of nodes, until all of them are settled.
///
/// The graph is verified after each sweep. Where that fails, the same is done again from the start with verification after each
/// step, which names the rule; builds with debug assertions do so at once.
///
/// # Errors
/// When a rule breaks the graph: the rule and the node are named.
pub(crate) fn run(model: &mut Model, rules: &[Rule], reach: Reach, options: &Options) -> Result<Log> {
    let rules: Vec<&Rule> =
        options.extra.iter().chain(rules).filter(|r| !options.disabled.iter().any(|d| d == r.name)).collect();
    let run = |model: &mut Model, verify_each: bool| {
        let mut run = Run { rules: &rules, options, verify_each, log: Log::default() };
        run.settle(model, reach)?;
        Ok(run.log)
    };
    if cfg!(debug_assertions) {
        return run(model, true);
    }
    let before = model.clone();
    run(model, false).or_else(|e| {
        *model = before;
        run(model, true).and(Err(e))
    })
}

/// A run under way.
struct Run<'a> {
    rules: &'a [&'a Rule],
    options: &'a Options,
    verify_each: bool,
    log: Log,
}

impl Run<'_> {
    fn is_over(&self) -> bool {
        self.options.stop_at.is_some_and(|n| self.log.steps.len() >= n)
    }

    /// Applies the rules to the graph of `model`, and to those inside of its nodes, until none fires.
    fn settle(&mut self, model: &mut Model, reach: Reach) -> Result<()> {
        // Graphs inside see what became known around them, and the graph around them what they no longer read.
        for _round in 0..16 {
            self.sweeps(model)?;
            if reach == Reach::Main || !self.bodies(model)? {
                break;
            }
        }
        Ok(())
    }

    fn sweeps(&mut self, model: &mut Model) -> Result<()> {
        let keeps_origins = model.graph.nodes().any(|(_, n)| !n.origins.is_empty());
        model.graph.record_edits(keeps_origins);
        // A rule that undoes another one would never end; real graphs settle in a few sweeps.
        for _sweep in 0..64 {
            let before = self.log.steps.len();
            for id in model.graph.node_ids() {
                for rule in self.rules {
                    if self.is_over() {
                        return finish(model);
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
                    let mut rewrite = Rewrite { model, fold_limit: self.options.fold_limit };
                    if !(rule.apply)(&mut rewrite, id).map_err(place)? {
                        continue;
                    }
                    if keeps_origins {
                        origins::hand_on(&mut model.graph, id, first_new);
                    }
                    if self.verify_each {
                        model.graph.sort().and_then(|()| model.graph.verify()).map_err(place)?;
                    }
                    self.log.steps.push(Applied { rule: rule.name, node: name.clone() });
                }
            }
            model.graph.remove_dead_nodes();
            model.graph.take_edits();
            model.graph.sort()?;
            model.graph.verify()?;
            if self.log.steps.len() == before {
                break;
            }
        }
        finish(model)
    }

    /// Settles the graphs inside of nodes. Returns whether something changed.
    fn bodies(&mut self, model: &mut Model) -> Result<bool> {
        let before = self.log.steps.len();
        for id in model.graph.node_ids() {
            if model.graph[id].subgraphs().next().is_none() || self.is_over() {
                continue;
            }
            // Captured values are what they are outside: constants, types, known elements.
            infer_node(&mut model.graph, &mut model.symbols, id)?;
            let mut attrs = model.graph[id].attrs.clone();
            let is_branch = &*model.graph[id].op == "If";
            let steps = self.log.steps.len();
            for attr in attrs.0.values_mut() {
                let bodies: &mut [Graph] = match attr {
                    Attr::Graph(g) => std::slice::from_mut(&mut **g),
                    Attr::Graphs(gs) => gs,
                    _ => continue,
                };
                for body in bodies {
                    self.body(model, body, is_branch)?;
                }
            }
            if self.log.steps.len() > steps {
                model.graph.edit_attrs(id, |a| *a = attrs);
            }
        }
        Ok(self.log.steps.len() > before)
    }

    fn body(&mut self, model: &mut Model, body: &mut Graph, is_branch: bool) -> Result<()> {
        let (as_it_was, steps) = (body.clone(), self.log.steps.len());
        std::mem::swap(&mut model.graph, body);
        let settled = self.settle(model, Reach::Bodies);
        std::mem::swap(&mut model.graph, body);
        match settled {
            Ok(()) if self.log.steps.len() > steps => body.tidy_captures(),
            Ok(()) => *body = as_it_was,
            // A branch that contradicts the types around it is one that is never taken.
            Err(e) if is_branch && e.kind() == Kind::Invalid => {
                *body = as_it_was;
                self.log.steps.truncate(steps);
            }
            Err(e) => return Err(e),
        }
        Ok(())
    }
}

fn finish(model: &mut Model) -> Result<()> {
    model.graph.record_edits(false);
    model.graph.remove_dead_nodes();
    model.graph.sort()?;
    model.graph.verify()?;
    model.graph = model.graph.compacted();
    Ok(())
}
