//! Names of outputs from the pytree spec (`module_call_graph[0].signature.out_spec`).

use serde::Deserialize;

#[derive(Deserialize)]
struct Spec {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    context: Option<serde_json::Value>,
    #[serde(default)]
    children_spec: Vec<Spec>,
}

/// One name per leaf: dict keys and field names joined by `_`; numbers for places in tuples and lists.
/// A bare leaf has the empty name. `None` when the spec is not understood.
pub(crate) fn leaf_names(spec: &str) -> Option<Vec<String>> {
    let (_, root): (i64, Spec) = serde_json::from_str(spec).ok()?;
    let mut out = Vec::new();
    walk(&root, "", &mut out);
    Some(out)
}

fn walk(spec: &Spec, path: &str, out: &mut Vec<String>) {
    if spec.kind.is_none() {
        out.push(path.to_string());
        return;
    }
    // The context is JSON inside a string; for dicts and dataclasses it lists the keys.
    let context = match &spec.context {
        Some(serde_json::Value::String(s)) => serde_json::from_str(s).ok(),
        other => other.clone(),
    };
    let keys = context.as_ref().and_then(find_keys).filter(|k| k.len() == spec.children_spec.len());
    for (i, child) in spec.children_spec.iter().enumerate() {
        let key = keys.as_ref().map_or_else(|| i.to_string(), |k| k[i].clone());
        let path = if path.is_empty() { key } else { format!("{path}_{key}") };
        walk(child, &path, out);
    }
}

/// A list of texts, at the top or one level down (dataclasses wrap it).
fn find_keys(context: &serde_json::Value) -> Option<Vec<String>> {
    let list = context.as_array()?;
    let text = |v: &serde_json::Value| match v {
        serde_json::Value::String(s) => Some(s.clone()),
        serde_json::Value::Number(n) => Some(n.to_string()),
        _ => None,
    };
    let keys: Option<Vec<String>> = list.iter().map(text).collect();
    keys.or_else(|| list.iter().find_map(find_keys))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_keys_and_places() {
        let spec = r#"[1, {"type": "builtins.tuple", "context": "null", "children_spec": [
            {"type": null, "context": null, "children_spec": []},
            {"type": "builtins.dict", "context": "[\"a\", \"b\"]", "children_spec": [
                {"type": null, "context": null, "children_spec": []},
                {"type": "builtins.list", "context": "null", "children_spec": [{"type": null, "context": null, "children_spec": []}]}]}]}]"#;
        assert_eq!(leaf_names(spec).unwrap(), ["0", "1_a", "1_b_0"]);
        assert_eq!(leaf_names(r#"[1, {"type": null, "context": null, "children_spec": []}]"#).unwrap(), [""]);
        assert_eq!(leaf_names("nonsense"), None);
    }
}
