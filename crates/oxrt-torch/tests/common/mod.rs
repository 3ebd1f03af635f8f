//! Tiny `.pt2` files made by hand.

use oxrt_ops::{Datum, Interpreter};
use oxrt_tensor::{Result, Tensor};
use oxrt_torch::{ImportOptions, Imported, import};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A ZIP archive of stored members.
pub fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in members {
        let at = out.len() as u32;
        // As torch does: sizes in the central directory only, padding in the local extra field.
        let pad = (64 - (out.len() + 30 + name.len() + 4) % 64) % 64;
        out.extend(b"PK\x03\x04\0\0\x08\x08\0\0\0\0\0\0");
        out.extend([0; 12]);
        out.extend((name.len() as u16).to_le_bytes());
        out.extend((pad as u16 + 4).to_le_bytes());
        out.extend(name.as_bytes());
        out.extend(b"FB");
        out.extend((pad as u16).to_le_bytes());
        out.extend(vec![b'Z'; pad]);
        out.extend(*bytes);
        directory.extend(b"PK\x01\x02\0\0\0\0\x08\x08\0\0\0\0\0\0\0\0\0\0");
        directory.extend([bytes.len() as u32, bytes.len() as u32].iter().flat_map(|n| n.to_le_bytes()));
        directory.extend((name.len() as u16).to_le_bytes());
        directory.extend([0; 12]);
        directory.extend(at.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (start, count) = (out.len() as u32, members.len() as u16);
    out.extend(&directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend([count, count].iter().flat_map(|n| n.to_le_bytes()));
    out.extend((directory.len() as u32).to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend([0, 0]);
    out
}

/// Type of a tensor in JSON: f32 with constant sizes, or `s0` for a symbol.
pub fn meta(dtype: i64, sizes: &[&str]) -> String {
    let mut strides = vec!["{\"as_int\": 1}".to_string(); sizes.len()];
    let mut product = 1i64;
    for (i, s) in sizes.iter().enumerate().rev() {
        strides[i] = format!("{{\"as_int\": {product}}}");
        product *= s.parse::<i64>().unwrap_or(7);
    }
    let sizes: Vec<String> = (sizes.iter())
        .map(|s| match s.parse::<i64>() {
            Ok(n) => format!("{{\"as_int\": {n}}}"),
            Err(_) => format!("{{\"as_expr\": {{\"expr_str\": \"Symbol('{s}', positive=True, integer=True)\", \"hint\": {{\"as_int\": 7}}}}}}"),
        })
        .collect();
    format!(
        "{{\"dtype\": {dtype}, \"sizes\": [{}], \"strides\": [{}], \"storage_offset\": {{\"as_int\": 0}}, \"layout\": 7}}",
        sizes.join(", "),
        strides.join(", ")
    )
}

const METADATA: &str = "\"nn_module_stack\": \"L__self__,,m.M;L__self__lin,lin,torch.nn.Linear\", \"stack_trace\": \"File \\\"/home/u/src/m.py\\\", \
                        line 3, in forward\\n    y = self.lin(x)\"";

/// One node: `add.Tensor(self=t:x, other=i:1) -> y`. Kinds: `t` tensor, `i` int, `f` float, `s` text, `d` element type, `l` ints,
/// `T` tensors, `o` operator, `g` graph (of [`body`]). Several results are separated by commas; `-` is none.
pub fn node(text: &str) -> String {
    node_with(text, METADATA)
}

/// A graph as an argument: inputs and results of f32 [3].
#[allow(dead_code)]
pub fn body(inputs: &[&str], nodes: &[&str], outputs: &[&str]) -> String {
    let tensor = |n: &&str| format!("{{\"as_tensor\": {{\"name\": \"{n}\"}}}}");
    let list = |names: &[&str]| names.iter().map(tensor).collect::<Vec<_>>().join(", ");
    let results = nodes.iter().filter_map(|n| n.rsplit_once(" -> ")).map(|(_, name)| name);
    let values: Vec<String> =
        inputs.iter().copied().chain(results).map(|n| format!("\"{n}\": {}", meta(7, &["3"]))).collect();
    let nodes: Vec<String> = nodes.iter().map(|n| node_with(n, "")).collect();
    format!(
        "{{\"as_graph\": {{\"name\": \"g\", \"graph\": {{\"inputs\": [{}], \"outputs\": [{}], \"nodes\": [{}], \"tensor_values\": {{{}}}, \
         \"sym_int_values\": {{}}}}}}}}",
        list(inputs),
        list(outputs),
        nodes.join(", "),
        values.join(", ")
    )
}

fn node_with(text: &str, metadata: &str) -> String {
    let (call, output) = text.rsplit_once(" -> ").unwrap();
    let (target, args) = call.strip_suffix(')').unwrap().split_once('(').unwrap();
    let args: Vec<String> = (args.split(';').map(str::trim).filter(|a| !a.is_empty()))
        .map(|a| {
            let (name, value) = a.split_once('=').unwrap();
            let (kind, value) = value.split_once(':').unwrap();
            let value = match kind {
                "t" => format!("{{\"as_tensor\": {{\"name\": \"{value}\"}}}}"),
                "i" => format!("{{\"as_int\": {value}}}"),
                "f" => format!("{{\"as_float\": {value}}}"),
                "s" => format!("{{\"as_string\": \"{value}\"}}"),
                "d" => format!("{{\"as_scalar_type\": {value}}}"),
                "o" => format!("{{\"as_operator\": \"{value}\"}}"),
                "g" => value.to_string(),
                "T" => {
                    let names = value.split(',').map(str::trim).filter(|n| !n.is_empty());
                    let items: Vec<String> = names.map(|n| format!("{{\"name\": \"{n}\"}}")).collect();
                    format!("{{\"as_tensors\": [{}]}}", items.join(", "))
                }
                _ => format!("{{\"as_ints\": [{value}]}}"),
            };
            format!("{{\"name\": \"{name}\", \"arg\": {value}, \"kind\": 1}}")
        })
        .collect();
    let outputs: Vec<String> = (output.split(',').map(str::trim).filter(|n| !n.is_empty()))
        .map(|n| match n {
            "-" => "{\"as_none\": true}".to_string(),
            n => format!("{{\"as_tensor\": {{\"name\": \"{n}\"}}}}"),
        })
        .collect();
    format!(
        "{{\"target\": \"torch.ops.{target}\", \"inputs\": [{}], \"outputs\": [{}], \"metadata\": {{{metadata}}}}}",
        args.join(", "),
        outputs.join(", ")
    )
}

/// A program with one user input `x`, one optional weight `w` (f32 [2, 3]) and one output.
pub struct Tiny<'a> {
    pub values: &'a [(&'a str, i64, &'a [&'a str])],
    pub nodes: &'a [&'a str],
    pub output: &'a str,
    pub weight: bool,
    pub guards: &'a str,
}

impl Tiny<'_> {
    pub fn json(&self) -> String {
        let values: Vec<String> = self.values.iter().map(|(n, d, s)| format!("\"{n}\": {}", meta(*d, s))).collect();
        let nodes: Vec<String> = self.nodes.iter().map(|n| node(n)).collect();
        let (mut inputs, mut specs) = (String::new(), String::new());
        if self.weight {
            inputs += "{\"as_tensor\": {\"name\": \"p_w\"}}, ";
            specs += "{\"parameter\": {\"arg\": {\"name\": \"p_w\"}, \"parameter_name\": \"lin.w\"}}, ";
        }
        format!(
            "{{\"graph_module\": {{\"graph\": {{\"inputs\": [{inputs}{{\"as_tensor\": {{\"name\": \"x\"}}}}], \"outputs\": \
             [{{\"as_tensor\": {{\"name\": \"{out}\"}}}}], \"nodes\": [{}], \"tensor_values\": {{{}}}, \"sym_int_values\": {{}}}}, \
             \"signature\": {{\"input_specs\": [{specs}{{\"user_input\": {{\"arg\": {{\"as_tensor\": {{\"name\": \"x\"}}}}}}}}], \
             \"output_specs\": [{{\"user_output\": {{\"arg\": {{\"as_tensor\": {{\"name\": \"{out}\"}}}}}}}}]}}}}, \
             \"range_constraints\": {{\"s0\": {{\"min_val\": 2, \"max_val\": null}}}}, \"guards_code\": [{}], \
             \"schema_version\": {{\"major\": 8, \"minor\": 20}}, \"torch_version\": \"2.15.0\"}}",
            nodes.join(", "),
            values.join(", "),
            self.guards,
            out = self.output,
        )
    }

    pub fn bytes(&self) -> Vec<u8> {
        archive(&self.json(), &weight_config(&meta(7, &["2", "3"])))
    }
}

pub fn weight_config(meta: &str) -> String {
    format!(
        "{{\"config\": {{\"lin.w\": {{\"path_name\": \"weight_0\", \"is_param\": true, \"use_pickle\": false, \"tensor_meta\": {meta}}}}}}}"
    )
}

pub fn archive(json: &str, config: &str) -> Vec<u8> {
    let weight: Vec<u8> = (0..6).flat_map(|i| (i as f32).to_le_bytes()).collect();
    zip(&[
        ("m/data/weights/weight_0", &weight),
        ("m/data/weights/model_weights_config.json", config.as_bytes()),
        ("m/models/model.json", json.as_bytes()),
    ])
}

/// A file that goes away with the value.
pub struct File(pub PathBuf);

impl Drop for File {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

pub fn file(bytes: &[u8]) -> File {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("oxrt-torch-{}-{n}.pt2", std::process::id()));
    std::fs::write(&path, bytes).unwrap();
    File(path)
}

pub fn import_bytes(bytes: &[u8], options: &ImportOptions) -> Result<Imported> {
    let f = file(bytes);
    import(&f.0, options)
}

#[allow(dead_code)]
pub fn run(program: &Tiny, x: Tensor) -> Vec<f64> {
    let imported = import_bytes(&program.bytes(), &ImportOptions::default()).unwrap();
    let out = Interpreter::new(&imported.model.graph).run(vec![Datum::Tensor(x)]).unwrap();
    out[0].as_tensor().unwrap().to_f64_vec().unwrap()
}
