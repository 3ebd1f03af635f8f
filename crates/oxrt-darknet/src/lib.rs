//! Darknet networks: a `.cfg` that lists the layers and a `.weights` file with their numbers.
//!
//! [`import`] gives a graph of ONNX operators. The batch is dynamic; width and height are those of the `[net]`
//! section, dynamic where it says `-1` or where the caller asks for it. The layers follow
//! <https://github.com/pjreddie/darknet> and its continuation <https://github.com/AlexeyAB/darknet>.
//!
//! * `cfg`: sections and options. `weights`: the file of numbers.
//! * `layers`: one function per kind of layer. `decode`: boxes out of detection layers, suppression.

mod cfg;
mod decode;
mod layers;
mod weights;

use cfg::Section;
use decode::Found;
use layers::Net;
use oxrt_ir::{DType, Dim, Model, Range, Source, Symbol, TensorType, ValueType};
use oxrt_ops::Builder;
use oxrt_tensor::{Context, Error, Result, bail};
use std::path::Path;
use std::sync::Arc;
use weights::Weights;

/// Non-maximum suppression over the decoded boxes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Suppression {
    /// Boxes that overlap a better one of their class by more than this are dropped.
    pub iou: f32,
    /// Least score.
    pub score: f32,
    /// Most boxes kept per class.
    pub max_per_class: i64,
}

impl Default for Suppression {
    fn default() -> Suppression {
        Suppression { iou: 0.45, score: 0.25, max_per_class: 200 }
    }
}

impl std::str::FromStr for Suppression {
    type Err = Error;

    /// `IOU[:SCORE[:MAX_PER_CLASS]]`
    fn from_str(text: &str) -> Result<Suppression> {
        let bad = || Error::invalid(format!("`{text}` is not IOU:SCORE:MAX")).help("write `--nms 0.45:0.25:200`");
        let mut out = Suppression::default();
        for (i, part) in text.split(':').enumerate() {
            match i {
                0 => out.iou = part.parse().map_err(|_| bad())?,
                1 => out.score = part.parse().map_err(|_| bad())?,
                2 => out.max_per_class = part.parse().map_err(|_| bad())?,
                _ => return Err(bad()),
            }
        }
        let in_range = (0.0..=1.0).contains(&out.iou) && (0.0..=1.0).contains(&out.score) && out.max_per_class > 0;
        if in_range { Ok(out) } else { Err(bad()) }
    }
}

/// How a network is imported.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// Type of the input `images`, as `f32[batch,3,height,width]`; by default the sizes of `[net]` and a dynamic
    /// batch.
    pub input: Option<TensorType>,
    /// Gives `boxes` (`[batch, n, 4]`: left, top, right, bottom in pixels of the input) and `scores`
    /// (`[batch, n, classes]`) in place of the raw results of the detection layers.
    pub decode: bool,
    /// Decodes and suppresses: `detections` (`[k, 7]`: image, class, score, left, top, right, bottom).
    pub nms: Option<Suppression>,
}

/// Imports a network.
///
/// # Errors
/// Unknown layers and options that change a result (with their line), files that do not fit together.
pub fn import(cfg: &Path, weights: &Path, options: &ImportOptions) -> Result<Model> {
    let text = std::fs::read_to_string(cfg).at(|| cfg.display())?;
    let sections = cfg::parse(&text).at(|| cfg.display())?;
    let mut numbers = Weights::open(weights).at(|| weights.display())?;
    let file = cfg.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let model = build(&sections, &mut numbers, options, &file).at(|| cfg.display())?;
    numbers.finish().at(|| weights.display())?;
    Ok(model)
}

/// Whether a text looks like a Darknet `.cfg`.
pub fn is_cfg(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    let mut lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with(['#', ';']));
    lines.next().is_some_and(|l| l == "[net]" || l == "[network]")
}

fn build(sections: &[Section], weights: &mut Weights, options: &ImportOptions, file: &str) -> Result<Model> {
    let Some((net, rest)) = sections.split_first().filter(|(s, _)| s.name == "net" || s.name == "network") else {
        bail!(invalid, "the first section should be [net]")
    };
    let mut model = Model { producer: "darknet".to_string(), opset: 18, ..Model::default() };
    model.graph.name = "main".to_string();
    let ty = input_type(net, options)?;
    let mut b = Builder::new(&mut model.graph, &mut model.symbols);
    for d in ty.dims.iter().flatten() {
        d.for_each_symbol(&mut |s| b.symbols.declare(s.clone(), Range::default()));
    }
    let images = b.add_input("images", ValueType::Tensor(ty));
    let mut net = Net {
        b,
        weights,
        outputs: Vec::new(),
        images,
        found: Vec::new(),
        decode: options.decode || options.nms.is_some(),
    };
    for (i, section) in rest.iter().enumerate() {
        net.b.prefix = format!("{i}.{}", section.name);
        net.b.source = Some(Arc::new(Source {
            module: net.b.prefix.clone(),
            location: format!("{file}:{}", section.line),
            code: format!("[{}]", section.name),
        }));
        net.layer(section).at(|| format!("layer {i} [{}], line {}", section.name, section.line))?;
        section.check_read()?;
    }
    net.b.prefix.clear();
    net.b.source = None;
    let Net { mut b, outputs, found, .. } = net;
    let results = match (&found[..], options.nms) {
        ([], _) if options.decode || options.nms.is_some() => {
            return Err(Error::invalid("there is no detection layer to decode")
                .help("leave `--decode` and `--nms` out: the network gives its last layer"));
        }
        ([], _) => {
            let last = outputs.last().ok_or_else(|| Error::invalid("the network has no layers"))?;
            vec![("output".to_string(), *last)]
        }
        (found, nms) if options.decode || nms.is_some() => decode::results(&mut b, found, nms)?,
        (found, _) => {
            let name = |i: usize| if found.len() == 1 { "output".to_string() } else { format!("output_{i}") };
            found.iter().enumerate().map(|(i, f): (usize, &Found)| (name(i), f.raw)).collect()
        }
    };
    for (name, v) in results {
        let v = if b.graph[v].producer().is_some() && !b.graph.outputs.contains(&v) {
            v
        } else {
            b.call("Identity", &[v])?
        };
        b.graph[v].name = name;
        b.graph.outputs.push(v);
    }
    model.graph.remove_dead_nodes();
    model.graph = model.graph.compacted();
    model.graph.verify().at(|| "the imported graph")?;
    Ok(model)
}

fn input_type(net: &Section, options: &ImportOptions) -> Result<TensorType> {
    let size = |name: &str| -> Result<Dim> {
        let n = net.int(name)?.ok_or_else(|| Error::invalid(format!("[net] does not state its `{name}`")))?;
        match n {
            -1 => Ok(Dim::symbol(name)),
            n if n > 0 => Ok(Dim::Const(n)),
            n => bail!(invalid, "[net] has the {name} {n}"),
        }
    };
    net.ignore_rest();
    let channels = net.int("channels")?.unwrap_or(3);
    let stated = TensorType::new(
        DType::F32,
        vec![Dim::from(Symbol::new("batch")), Dim::Const(channels), size("height")?, size("width")?],
    );
    let Some(wanted) = &options.input else { return Ok(stated) };
    let fits = wanted.dtype == DType::F32
        && wanted.rank() == Some(4)
        && wanted.dims.as_ref().is_some_and(|d| d[1] == Dim::Const(channels));
    if !fits {
        return Err(Error::invalid(format!("the input {wanted} does not fit the network: it takes {stated}"))
            .help(format!("write `--input images=f32[batch,{channels},height,width]`")));
    }
    Ok(wanted.clone())
}
