//! Parameters, operations, bytes and intensity.

use crate::ui;
use oxrt::ir::{Dim, Graph, Symbol};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What one node costs: as an expression, and as a number at the sizes asked for.
struct Row {
    op: String,
    name: String,
    parameters: usize,
    flops: (Option<Dim>, Option<f64>),
    bytes: (Option<Dim>, Option<f64>),
    /// Nodes of unknown work: itself, or in its bodies.
    unknown: usize,
    /// A loop of unknown length counts for one turn.
    per_turn: bool,
}

/// The costs of a graph.
pub struct Costs {
    rows: Vec<Row>,
    sizes: String,
    /// Elements of constants, each counted once.
    pub parameters: usize,
}

pub fn of(g: &Graph, sizes: &BTreeMap<Symbol, i64>) -> Costs {
    let number = |e: Option<Dim>| {
        let at = e.as_ref().and_then(|e| e.eval(&|s| sizes.get(s).copied())).map(|x| x as f64);
        (e, at)
    };
    let rows = g.nodes().map(|(id, node)| {
        let c = oxrt::ops::cost::cost(g, id);
        Row {
            op: node.op.to_string(),
            name: node.name.clone(),
            parameters: c.parameters,
            flops: number(c.flops),
            bytes: number(c.bytes),
            unknown: c.unknown,
            per_turn: c.per_turn,
        }
    });
    Costs {
        rows: rows.collect(),
        sizes: sizes.iter().map(|(s, n)| format!("{s}={n}")).collect::<Vec<_>>().join(" "),
        parameters: elements_of_constants(g),
    }
}

fn elements_of_constants(g: &Graph) -> usize {
    let own: usize = g.value_ids().filter_map(|v| g.constant(v)).map(|t| t.len()).sum();
    let inner: usize = g.nodes().flat_map(|(_, n)| n.subgraphs()).map(|(_, body)| elements_of_constants(body)).sum();
    own + inner
}

impl Costs {
    fn sum(&self, of: impl Fn(&Row) -> Option<f64>) -> f64 {
        self.rows.iter().filter_map(of).sum()
    }

    /// Nodes whose operations are not known.
    fn unknown(&self) -> usize {
        self.rows.iter().map(|r| r.unknown.max(r.flops.1.is_none() as usize)).sum()
    }

    /// Loops that are counted for one turn.
    fn loops(&self) -> usize {
        self.rows.iter().filter(|r| r.per_turn).count()
    }

    pub fn sentence(&self) -> String {
        let (flops, bytes) = (self.sum(|r| r.flops.1), self.sum(|r| r.bytes.1));
        let at = if self.sizes.is_empty() { String::new() } else { format!(" at {}", self.sizes) };
        let unknown = match self.unknown() {
            0 => String::new(),
            n => format!("; {n} nodes of unknown work"),
        };
        let turns = match self.loops() {
            0 => String::new(),
            n => format!("; {n} loops of unknown length counted for one turn"),
        };
        format!(
            "{}FLOP, {} moved, {} per byte{at}{unknown}{turns}",
            si(flops),
            ui::bytes(bytes as usize),
            intensity(flops, bytes)
        )
    }

    pub fn totals(&self) -> Value {
        json!({
            "sizes": self.sizes, "parameters": self.parameters, "flops": self.sum(|r| r.flops.1),
            "bytes": self.sum(|r| r.bytes.1), "nodes_of_unknown_work": self.unknown(), "loops_counted_for_one_turn": self.loops(),
        })
    }

    /// By operator, then by node; expressions stand beside numbers where sizes are open.
    pub fn table(&self) -> (String, Value) {
        let total = self.sum(|r| r.flops.1);
        let mut by_op: BTreeMap<&str, [f64; 4]> = BTreeMap::new();
        for r in &self.rows {
            let entry = by_op.entry(&r.op).or_default();
            let add = [1.0, r.parameters as f64, r.flops.1.unwrap_or(0.0), r.bytes.1.unwrap_or(0.0)];
            entry.iter_mut().zip(add).for_each(|(e, x)| *e += x);
        }
        let mut ops: Vec<_> = by_op.iter().collect();
        ops.sort_by(|a, b| b.1[2].total_cmp(&a.1[2]));
        let head = |first: &[&str], last: &[&str]| -> Vec<String> {
            let middle = ["parameters", "FLOP", "%", "bytes", "FLOP/byte"];
            first.iter().chain(&middle).chain(last).map(|s| s.to_string()).collect()
        };
        let percent = |x: f64| format!("{:.1}", if total > 0.0 { 100.0 * x / total } else { 0.0 });
        let mut rows = vec![head(&["operator", "nodes"], &[])];
        for (op, [n, p, f, b]) in &ops {
            rows.push(vec![
                op.to_string(),
                n.to_string(),
                short(*p),
                si(*f),
                percent(*f),
                ui::bytes(*b as usize),
                intensity(*f, *b),
            ]);
        }
        let all = [self.rows.len() as f64, self.parameters as f64, total, self.sum(|r| r.bytes.1)];
        rows.push(vec![
            "total".into(),
            all[0].to_string(),
            short(all[1]),
            si(total),
            percent(total),
            ui::bytes(all[3] as usize),
            intensity(total, all[3]),
        ]);
        let mut text = ui::table(&rows);
        let mut rows = vec![head(&["operator"], &["FLOP as an expression", "node"])];
        for r in &self.rows {
            let number = |x: Option<f64>, show: &dyn Fn(f64) -> String| x.map_or("unknown".to_string(), show);
            let mut open = r.flops.0.as_ref().filter(|d| d.as_const().is_none()).map_or(String::new(), Dim::to_string);
            if r.per_turn {
                open.push_str(if open.is_empty() { "per turn" } else { " per turn" });
            }
            rows.push(vec![
                r.op.clone(),
                short(r.parameters as f64),
                number(r.flops.1, &si),
                r.flops.1.map_or(String::new(), percent),
                number(r.bytes.1, &|b| ui::bytes(b as usize)),
                r.flops.1.zip(r.bytes.1).map_or(String::new(), |(f, b)| intensity(f, b)),
                open,
                r.name.clone(),
            ]);
        }
        text.push('\n');
        text.push_str(&ui::table(&rows));
        let expression = |d: &Option<Dim>| d.as_ref().map(Dim::to_string);
        let nodes: Vec<Value> = self
            .rows
            .iter()
            .map(|r| {
                json!({
                    "op": r.op, "name": r.name, "parameters": r.parameters, "flops": r.flops.1, "bytes": r.bytes.1, "per_turn": r.per_turn,
                    "flops_expression": expression(&r.flops.0), "bytes_expression": expression(&r.bytes.0),
                })
            })
            .collect();
        (text, json!({ "totals": self.totals(), "nodes": nodes }))
    }
}

fn intensity(flops: f64, bytes: f64) -> String {
    if bytes > 0.0 { format!("{:.2}", flops / bytes) } else { "0".into() }
}

/// `1.23 G`: a factor of ten at a time, with the unit's prefix at the end.
fn si(x: f64) -> String {
    let units = ["", "k", "M", "G", "T", "P"];
    let (mut x, mut unit) = (x, 0);
    while x >= 1000.0 && unit + 1 < units.len() {
        x /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{x:.0} ") } else { format!("{x:.2} {}", units[unit]) }
}

/// The same for counts.
pub fn short(x: f64) -> String {
    si(x).trim_end().to_string()
}
