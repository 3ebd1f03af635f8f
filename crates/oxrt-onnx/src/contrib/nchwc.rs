//! `com.microsoft.nchwc`: what onnxruntime makes of convolutions at its highest level, channels in blocks of 8 or 16,
//! whichever the machine had that wrote the file. Weights are unpacked, and everything is said in ONNX's order again.
//!
//! The file does not name the block. [`block`] finds it by what only one of both can have written; where nothing tells
//! them apart, the model is declined.
//!
//! Packing: `MlasReorderFilterOIHWBiBo` and `MlasReorderFilterOIHWBo` of onnxruntime, and its `NchwcTransformer`.

use super::fused::{convolve, one};
use super::{Call, Expand, keep};
use crate::proto::NodeProto;
use oxrt_ir::{Attrs, Dim, ValueId};
use oxrt_tensor::{DType, Error, Result, Tensor, bail};
use std::collections::HashMap;

pub(crate) const DOMAIN: &str = "com.microsoft.nchwc";

pub(super) const TABLE: &[(&str, Expand)] = &[
    ("Conv", conv),
    ("ReorderInput", reorder_input),
    ("ReorderOutput", reorder_output),
    ("MaxPool", |c| pool(c, "MaxPool")),
    ("AveragePool", |c| pool(c, "AveragePool")),
    ("GlobalMaxPool", |c| pool(c, "GlobalMaxPool")),
    ("GlobalAveragePool", |c| pool(c, "GlobalAveragePool")),
    ("Upsample", upsample),
];

/// Elements of packed weights, by the place that they have in ONNX's order.
#[derive(Clone, Copy)]
struct Packed {
    maps: usize,
    channels: usize,
    taps: usize,
    block: usize,
    /// Channels are in blocks too, and not maps alone.
    both: bool,
}

impl Packed {
    /// `None` when weights of this shape are never packed so.
    fn new(shape: &[usize], group: i64, block: usize) -> Option<Packed> {
        let &[maps, channels, h, w] = shape else { return None };
        let single = if group > 1 { channels == 1 } else { channels < block };
        let fits = maps % block == 0 && (single || channels % block == 0);
        fits.then_some(Packed { maps, channels, taps: h * w, block, both: !single })
    }

    fn at(&self, map: usize, channel: usize, tap: usize) -> usize {
        let b = self.block;
        if self.both {
            let cell = (map / b * (self.channels / b) + channel / b) * self.taps + tap;
            (cell * b + channel % b) * b + map % b
        } else {
            ((map / b * self.channels + channel) * self.taps + tap) * b + map % b
        }
    }

    /// In ONNX's order.
    fn unpack(&self, data: &[f32]) -> Vec<f32> {
        let mut out = Vec::with_capacity(data.len());
        for map in 0..self.maps {
            for channel in 0..self.channels {
                out.extend((0..self.taps).map(|tap| data[self.at(map, channel, tap)]));
            }
        }
        out
    }
}

/// The weights and group count of a node that [`block`] looks at.
struct Weights {
    tensor: Tensor,
    group: i64,
    /// Its input is in blocks.
    blocked: bool,
}

/// What told the channels of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// Sizes that only one of both can have.
    BySizes,
    /// The numbers of weights: likely beyond doubt, but no proof.
    ByNumbers,
}

/// The channels of a block, and what told them.
pub(crate) fn block(nodes: &[NodeProto], constant: &dyn Fn(&str) -> Option<Tensor>) -> Option<(usize, Told)> {
    let int = |n: &NodeProto, name: &str| n.attribute.iter().find(|a| a.name == name).map(|a| a.i);
    // Channels of values in blocks, with those that fill the last block.
    let mut widths: HashMap<&str, Option<usize>> = HashMap::new();
    let (mut weights, mut ends) = (Vec::new(), Vec::new());
    for n in nodes {
        let first = n.input.first().map_or("", String::as_str);
        let known = widths.get(first).copied();
        let out = match (n.domain == DOMAIN, n.op_type.as_str()) {
            (true, "ReorderOutput") => {
                if let (Some(Some(width)), Some(channels)) = (known, int(n, "channels")) {
                    ends.push((usize::try_from(channels).ok()?, width));
                }
                continue;
            }
            (true, "Conv") => {
                let tensor = constant(n.input.get(1)?)?;
                let &[maps, _, _, _] = tensor.shape() else { return None };
                weights.push(Weights { tensor, group: int(n, "group").unwrap_or(1), blocked: known.is_some() });
                Some(maps)
            }
            (true, "ReorderInput") => None,
            (_, "Concat") if known.is_some() => None,
            _ if known.is_some() => known.flatten(),
            _ => continue,
        };
        widths.extend(n.output.first().map(|o| (o.as_str(), out)));
    }
    let mut likely = [8, 16].into_iter().filter(|&b| {
        weights.iter().all(|w| {
            let packed = Packed::new(w.tensor.shape(), w.group, b);
            packed.is_some_and(|p| w.blocked == (p.both || w.group > 1))
        }) && ends.iter().all(|&(channels, width)| channels.next_multiple_of(b) == width)
    });
    match (likely.next(), likely.next()) {
        (Some(b), None) => Some((b, Told::BySizes)),
        (Some(_), Some(_)) => by_numbers(&weights).map(|b| (b, Told::ByNumbers)),
        _ => None,
    }
}

/// Tells the blocks apart by the weights: half a block of maps without a number fills up one of 16; and maps of trained
/// weights differ in scale, as channels do, which shows in the right order alone.
fn by_numbers(weights: &[Weights]) -> Option<usize> {
    let (mut eight, mut sixteen) = (0, 0);
    for w in weights {
        let shape = w.tensor.shape();
        let data = w.tensor.get_slice::<f32>()?;
        let (narrow, wide) = (Packed::new(shape, w.group, 8)?, Packed::new(shape, w.group, 16)?);
        let lines = wide.channels * wide.taps;
        let ordered = wide.unpack(data);
        let tail = &ordered[ordered.len().saturating_sub(8 * lines)..];
        if tail.iter().all(|&v| v == 0.0) && ordered.iter().any(|&v| v != 0.0) {
            return Some(16);
        }
        let gain = likelihood(&wide, &ordered) - likelihood(&narrow, &narrow.unpack(data));
        // Far beyond what chance makes of weights that are all alike.
        if gain.abs() > 100.0 * (wide.maps as f64).sqrt() + 0.002 * data.len() as f64 {
            *(if gain > 0.0 { &mut sixteen } else { &mut eight }) += 1;
        }
    }
    match (eight, sixteen) {
        (3.., 0) => Some(8),
        (0, 3..) => Some(16),
        _ => None,
    }
}

/// The logarithm of how likely weights in ONNX's order are, where every channel and every map has a scale of its own.
fn likelihood(p: &Packed, data: &[f32]) -> f64 {
    let squares = |map: usize, channel: usize| -> f64 {
        let at = (map * p.channels + channel) * p.taps;
        data[at..at + p.taps].iter().map(|&v| f64::from(v) * f64::from(v)).sum()
    };
    let whole: f64 = data.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>() / data.len().max(1) as f64;
    let (of_channel, of_map) = ((p.maps * p.taps) as f64, (p.channels * p.taps) as f64);
    let floor = (whole * 1e-9).max(f64::MIN_POSITIVE);
    let channels: Vec<f64> =
        (0..p.channels).map(|c| ((0..p.maps).map(|m| squares(m, c)).sum::<f64>() / of_channel).max(floor)).collect();
    let maps = (0..p.maps).map(|m| {
        let share = channels.iter().enumerate().map(|(c, scale)| squares(m, c) / scale).sum::<f64>() / of_map;
        share.max(1e-9).ln() * of_map
    });
    -0.5 * (maps.sum::<f64>() + channels.iter().map(|v| v.ln() * of_channel).sum::<f64>())
}

fn unknown() -> Error {
    Error::unsupported("a model whose weights onnxruntime packed in blocks for the machine that it ran on, which the file does not name")
        .help("save it with ORT_ENABLE_EXTENDED instead of ORT_ENABLE_ALL")
}

fn conv(c: &mut Call) -> Result<Vec<Option<ValueId>>> {
    let block = c.block.ok_or_else(unknown)?;
    let (x, w) = (c.input(0)?, c.input(1)?);
    let mut attrs = keep(c.attrs, &["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"]);
    let group = attrs.int_or("group", 1)?;
    let Some(weights) = c.b.graph.constant(w).filter(|t| t.dtype() == DType::F32).cloned() else {
        return Err(unknown());
    };
    let Some((packed, data)) = Packed::new(weights.shape(), group, block).zip(weights.get_slice::<f32>()) else {
        bail!(invalid, "weights of shape {:?} in {group} groups and blocks of {block}", weights.shape());
    };
    if group > 1 && packed.channels == 1 {
        // Maps that fill up the last block are groups too.
        attrs.set("group", packed.maps as i64);
    }
    let w = c.b.constant(Tensor::from_slice(weights.shape(), &packed.unpack(data)));
    one(convolve(c, x, Some(w), attrs)?)
}

/// Channels that fill up the last block are zeros.
fn reorder_input(c: &mut Call) -> Result<Vec<Option<ValueId>>> {
    let mut x = c.input(0)?;
    if c.attrs.bool_or("channels_last", false)? {
        x = c.channels_first(x)?;
    }
    let block = c.block.ok_or_else(unknown)?;
    let (rank, channels) = (c.b.rank(x)?, channels(c, x)?);
    let more = channels.next_multiple_of(block) - channels;
    if more > 0 {
        let mut pads = vec![0; 2 * rank];
        pads[rank + 1] = more as i64;
        let pads = c.b.ints(&pads);
        x = c.call("Pad", &[x, pads])?;
    }
    one(x)
}

fn reorder_output(c: &mut Call) -> Result<Vec<Option<ValueId>>> {
    let mut x = c.input(0)?;
    let wanted = c.attrs.int_or("channels", 0)?;
    if channels(c, x)? as i64 != wanted {
        x = c.slice(x, 1, 0, wanted)?;
    }
    one(if c.attrs.bool_or("channels_last", false)? { c.channels_last(x)? } else { x })
}

fn channels(c: &Call, x: ValueId) -> Result<usize> {
    let known = c.b.graph.dims(x).and_then(|d| d.get(1)).and_then(Dim::as_size);
    known.ok_or_else(|| Error::unsupported("blocks of a number of channels that is not known"))
}

fn pool(c: &mut Call, op: &str) -> Result<Vec<Option<ValueId>>> {
    let x = c.input(0)?;
    let names = ["auto_pad", "ceil_mode", "count_include_pad", "dilations", "kernel_shape", "pads", "strides"];
    one(c.b.op(op, &[x], keep(c.attrs, &names))?)
}

fn upsample(c: &mut Call) -> Result<Vec<Option<ValueId>>> {
    let x = c.input(0)?;
    let scales: Vec<f32> = c.attrs.ints("scales")?.unwrap_or(&[]).iter().map(|&s| s as f32).collect();
    let scales = c.b.constant(Tensor::from_slice(&[scales.len()], &scales));
    let mode = c.attrs.string_or("mode", "nearest")?.to_string();
    let place = c.attrs.string_or("coordinate_transformation_mode", "asymmetric")?.to_string();
    let mut attrs = Attrs::new().with("mode", mode.as_str()).with("coordinate_transformation_mode", place.as_str());
    if mode == "nearest" {
        attrs.set("nearest_mode", "floor");
    }
    Ok(vec![Some(c.b.op_multi("Resize", &[Some(x), None, Some(scales)], attrs, 1)?[0])])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::AttributeProto;

    /// Weights [maps, channels, 3, 3] in ONNX's order; every map and channel has a scale of its own, or none.
    fn weights(maps: usize, channels: usize, scaled: bool) -> Vec<f32> {
        let noise = |i: usize| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f32 / (1 << 23) as f32 - 1.0;
        let scale = |i: usize| if scaled { 1.0 + (i * 7 % 11) as f32 / 3.0 } else { 1.0 };
        (0..maps * channels * 9).map(|i| noise(i + 1) * scale(i / (channels * 9)) * scale(i / 9 % channels)).collect()
    }

    fn packed(data: &[f32], shape: &[usize], group: i64, block: usize) -> Tensor {
        let p = Packed::new(shape, group, block).expect("fits");
        let mut out = vec![0.0; data.len()];
        for (i, &v) in data.iter().enumerate() {
            out[p.at(i / (p.channels * p.taps), i / p.taps % p.channels, i % p.taps)] = v;
        }
        assert_eq!(p.unpack(&out), data);
        Tensor::from_slice(shape, &out)
    }

    fn node(op: &str, inputs: &[&str], output: &str, attr: (&str, i64)) -> NodeProto {
        NodeProto {
            op_type: op.into(),
            domain: DOMAIN.into(),
            input: inputs.iter().map(|s| s.to_string()).collect(),
            output: vec![output.into()],
            attribute: vec![AttributeProto { name: attr.0.into(), i: attr.1, r#type: 2, ..Default::default() }],
            ..Default::default()
        }
    }

    /// Three convolutions of 64 channels behind each other, and what follows.
    fn found(block: usize, scaled: bool, end: Option<i64>) -> Option<(usize, Told)> {
        let shape = [64, 64, 3, 3];
        let tensor = packed(&weights(64, 64, scaled), &shape, 1, block);
        let mut nodes = vec![node("ReorderInput", &["x"], "y0", ("channels_last", 0))];
        for i in 0..3 {
            nodes.push(node("Conv", &[&format!("y{i}"), "w"], &format!("y{}", i + 1), ("group", 1)));
        }
        nodes.extend(end.map(|channels| node("ReorderOutput", &["y3"], "z", ("channels", channels))));
        super::block(&nodes, &|name| (name == "w").then(|| tensor.clone()))
    }

    #[test]
    fn the_block_is_found_or_it_is_not_guessed() {
        for block in [8, 16] {
            assert_eq!(found(block, true, None), Some((block, Told::ByNumbers)));
            assert_eq!(found(block, false, None), None, "nothing tells {block} from the other");
        }
        assert_eq!(found(16, false, Some(52)), Some((16, Told::BySizes)));
        assert_eq!(found(16, false, Some(57)), None);
    }

    #[test]
    fn sizes_that_only_one_block_has() {
        let of = |shape: [usize; 4], group: i64, input: &str| {
            let nodes = [
                node("ReorderInput", &["x"], "blocks", ("channels_last", 0)),
                node("Conv", &[input, "w"], "y", ("group", group)),
            ];
            let tensor = Tensor::zeros(DType::F32, &shape);
            super::block(&nodes, &|name| (name == "w").then(|| tensor.clone())).map(|(block, _)| block)
        };
        assert_eq!(of([24, 16, 1, 1], 1, "blocks"), Some(8));
        assert_eq!(of([32, 8, 1, 1], 1, "x"), Some(16));
        assert_eq!(of([32, 8, 1, 1], 1, "blocks"), Some(8));
        assert_eq!(of([24, 1, 3, 3], 24, "blocks"), Some(8));
        assert_eq!(of([20, 16, 1, 1], 1, "blocks"), None);
    }
}
