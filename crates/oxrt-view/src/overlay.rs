//! Figures per node: measured times, memory, errors.

use crate::Document;
use oxrt_tensor::{Error, Result};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// What the figures of an overlay are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    Ms,
    Bytes,
    /// Operations, parameters.
    Count,
    /// A difference from the reference, of any measure: shown on a logarithmic scale, and the greatest counts for a group.
    Error,
    /// Names: precision, step.
    Name,
}

/// One figure or name per node that has one.
#[derive(Clone, Debug, Serialize)]
pub struct Overlay {
    /// `time`, `memory`, `precision`, `step`, `error`.
    pub name: String,
    pub unit: Unit,
    /// By node, in order of the document; `None` where nothing is known.
    pub values: Vec<Option<f64>>,
    /// For [`Unit::Name`]: what the figures stand for.
    pub names: Vec<String>,
}

impl Overlay {
    fn empty(name: &str, unit: Unit, d: &Document) -> Overlay {
        Overlay { name: name.to_string(), unit, values: vec![None; d.num_nodes()], names: Vec::new() }
    }

    fn set_name(&mut self, node: usize, text: &str) {
        let at = self.names.iter().position(|n| n == text).unwrap_or_else(|| {
            self.names.push(text.to_string());
            self.names.len() - 1
        });
        self.values[node] = Some(at as f64);
    }

    /// Reads what `oxrt bench --json --profile-steps` printed: `time`, `memory` (bytes of inputs and outputs), `precision`
    /// and `step`. A step counts for the node of its name, else in equal parts for the nodes whose work it does.
    ///
    /// # Errors
    /// Other JSON, or a profile of which no step fits the document.
    pub fn of_profile(json: &str, d: &Document) -> Result<Vec<Overlay>> {
        let value: Value = serde_json::from_str(json).map_err(|e| Error::invalid(format!("not a profile: {e}")))?;
        let steps = value.pointer("/report/steps").or_else(|| value.get("steps")).and_then(Value::as_array);
        let Some(steps) = steps.filter(|s| !s.is_empty()) else {
            return Err(Error::invalid("the file holds no times of steps")
                .help("write it with `oxrt bench MODEL --profile-steps --json > profile.json`"));
        };
        let index = d.nodes_by_name();
        let mut time = Overlay::empty("time", Unit::Ms, d);
        let mut memory = Overlay::empty("memory", Unit::Bytes, d);
        let mut precision = Overlay::empty("precision", Unit::Name, d);
        let mut step_of = Overlay::empty("step", Unit::Name, d);
        for step in steps {
            let text = |key: &str| step.get(key).and_then(Value::as_str).unwrap_or_default();
            let number = |key: &str| step.get(key).and_then(Value::as_f64).unwrap_or(0.0);
            let origins = step.get("origins").and_then(Value::as_array).into_iter().flatten();
            let nodes: Vec<usize> = match index.get(text("name")).filter(|&&n| d.text(d.nodes.op[n]) == text("op")) {
                Some(&n) => vec![n],
                None => origins.filter_map(|o| index.get(o.as_str()?).copied()).collect(),
            };
            for &n in &nodes {
                let share = 1.0 / nodes.len() as f64;
                *time.values[n].get_or_insert(0.0) += number("ms") * share;
                *memory.values[n].get_or_insert(0.0) += number("bytes") * share;
                precision.set_name(n, text("precision"));
                step_of.set_name(n, text("name"));
            }
        }
        if time.values.iter().all(Option::is_none) {
            return Err(Error::invalid("no step of the profile has a name of this model")
                .help("is it of another model? `--profile` alone measures this one"));
        }
        Ok(vec![time, memory, precision, step_of])
    }

    /// Reads errors per node: a list of `{"node": NAME, "error": NUMBER}`, or an object with such a list as `nodes`.
    ///
    /// # Errors
    /// Other JSON, or names that the document does not have.
    pub fn of_errors(json: &str, d: &Document) -> Result<Overlay> {
        let value: Value =
            serde_json::from_str(json).map_err(|e| Error::invalid(format!("not a list of errors: {e}")))?;
        let list = value.get("nodes").unwrap_or(&value).as_array();
        let form =
            || Error::invalid("the file is no list of errors").help("write `[{\"node\": \"conv1\", \"error\": 1e-6}]`");
        let index: BTreeMap<&str, usize> = d.nodes_by_name();
        let mut overlay = Overlay::empty("error", Unit::Error, d);
        let mut found = 0;
        for row in list.ok_or_else(form)? {
            let (Some(node), Some(error)) = (row.get("node").and_then(Value::as_str), row.get("error")) else {
                return Err(form());
            };
            if let Some(&n) = index.get(node) {
                found += 1;
                // JSON has no NaN: `null` is an error that is no number, unless the row says that all is well.
                let well = row.get("within").and_then(Value::as_bool) == Some(true);
                let error = error.as_f64().or((!well).then_some(f64::MAX));
                // Of a node with several results the worst counts.
                overlay.values[n] = overlay.values[n].into_iter().chain(error).reduce(f64::max);
            }
        }
        if found == 0 {
            return Err(Error::invalid("no node of the list is in this model"));
        }
        Ok(overlay)
    }

    /// Which step of an engine does the work of each node, and with which kernel's precision unknown: names of steps.
    pub fn of_engine(d: &Document, engine: &Document) -> Overlay {
        let mut overlay = Overlay::empty("step", Unit::Name, d);
        for (node, steps) in d.heirs(engine).iter().enumerate() {
            if let Some(&step) = steps.first() {
                overlay.set_name(node, &format!("{} {}", engine.text(engine.nodes.op[step]), engine.node_name(step)));
            }
        }
        overlay
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oxrt_ir::{Model, parse_graph};

    fn document() -> Document {
        let graph = parse_graph("(f32[4] x) { a = Exp(x); y = Relu(a) } => y").unwrap();
        Document::of_model("m", &Model { graph, ..Model::default() }, &Default::default())
    }

    #[test]
    fn a_profile_finds_nodes_by_name_and_by_origin() {
        let json = r#"{"report": {"steps": [
            {"name": "fused", "op": "oxrt.Elementwise", "ms": 3.0, "bytes": 8, "precision": "fp32", "origins": ["a", "y"]}]}}"#;
        let overlays = Overlay::of_profile(json, &document()).unwrap();
        assert_eq!(overlays[0].values, [Some(1.5), Some(1.5)]);
        assert_eq!(overlays[3].names, ["fused"]);
        assert!(Overlay::of_profile("{}", &document()).is_err());
        assert!(Overlay::of_profile(r#"{"steps": [{"name": "other", "op": "X", "ms": 1}]}"#, &document()).is_err());
    }

    #[test]
    fn errors_are_read_and_bad_files_refused() {
        let o = Overlay::of_errors(r#"[{"node": "y", "error": 0.5}]"#, &document()).unwrap();
        assert_eq!(o.values, [None, Some(0.5)]);
        let diff = r#"{"nodes": [{"node": "a", "error": null, "within": true}, {"node": "y", "error": 1e-6}, {"node": "y", "error": null}]}"#;
        assert_eq!(Overlay::of_errors(diff, &document()).unwrap().values, [None, Some(f64::MAX)]);
        for bad in ["[", "3", r#"[{"name": "y"}]"#, r#"[{"node": "z", "error": 1}]"#] {
            assert!(Overlay::of_errors(bad, &document()).is_err(), "{bad}");
        }
    }
}
