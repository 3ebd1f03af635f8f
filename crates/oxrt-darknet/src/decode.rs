//! Boxes and scores out of the raw results of detection layers.

use crate::Suppression;
use crate::cfg::Section;
use oxrt_ir::{Attrs, DType, Dim, Tensor, ValueId, ValueType};
use oxrt_ops::Builder;
use oxrt_tensor::{Error, Result, bail};

/// A detection layer: its raw input and, where wanted, what it finds.
pub(crate) struct Found {
    pub raw: ValueId,
    /// `[batch, n, 4]`: left, top, right, bottom, in pixels of the input.
    pub boxes: Option<ValueId>,
    /// `[batch, n, classes]`
    pub scores: Option<ValueId>,
}

/// How boxes are written in a layer's result.
pub(crate) enum Kind {
    /// `[yolo]`: anchors in pixels of the input, independent classes.
    Yolo { anchors: Vec<[f64; 2]>, classes: i64, scale: f64, new_coords: bool },
    /// `[region]`: anchors in cells, classes that exclude one another.
    Region { anchors: Vec<[f64; 2]>, classes: i64, softmax: bool },
    /// `[detection]` of the first version: a vector of probabilities, confidences and boxes.
    Grid { side: i64, num: i64, classes: i64, square: bool, softmax: bool },
}

fn pairs(list: &[f64]) -> Vec<[f64; 2]> {
    list.chunks_exact(2).map(|p| [p[0], p[1]]).collect()
}

impl Kind {
    pub fn read(s: &Section) -> Result<Kind> {
        let count = |name: &str, default: i64| -> Result<i64> {
            let n = s.int_or(name, default)?;
            if (0..=1 << 16).contains(&n) { Ok(n) } else { bail!(invalid, "`{name}={n}`") }
        };
        match s.name.as_str() {
            "yolo" => {
                let (all, mask) = (pairs(&s.floats("anchors")?), s.ints("mask")?);
                count("num", 1)?;
                let mask = if mask.is_empty() { (0..all.len() as i64).collect() } else { mask };
                let pick = |&i: &i64| {
                    let found = usize::try_from(i).ok().and_then(|i| all.get(i)).copied();
                    found.ok_or_else(|| Error::invalid(format!("`mask` names anchor {i} of {}", all.len())))
                };
                let anchors = mask.iter().map(pick).collect::<Result<Vec<_>>>()?;
                Ok(Kind::Yolo {
                    anchors,
                    classes: count("classes", 20)?,
                    scale: s.float_or("scale_x_y", 1.0)?,
                    new_coords: s.flag("new_coords")?,
                })
            }
            "region" => {
                let (n, anchors) = (count("num", 1)?, pairs(&s.floats("anchors")?));
                if anchors.len() as i64 != n || s.int_or("coords", 4)? != 4 {
                    bail!(
                        unsupported,
                        "[region] with {} anchors for num={n}, or other than four coordinates",
                        anchors.len()
                    );
                }
                s.refuse("background", "0")?;
                Ok(Kind::Region { anchors, classes: count("classes", 20)?, softmax: s.flag("softmax")? })
            }
            _ if s.int_or("coords", 4)? != 4 => bail!(unsupported, "[detection] with other than four coordinates"),
            _ => Ok(Kind::Grid {
                side: count("side", 7)?,
                num: count("num", 1)?,
                classes: count("classes", 1)?,
                square: s.flag("sqrt")?,
                softmax: s.flag("softmax")?,
            }),
        }
    }

    /// Boxes and scores of a raw result.
    pub fn decode(&self, b: &mut Builder, raw: ValueId, images: ValueId) -> Result<(ValueId, ValueId)> {
        let image = b.dims(images)?;
        let (height, width) = (float_size(b, &image[2])?, float_size(b, &image[3])?);
        match self {
            Kind::Grid { side, num, classes, square, softmax } => {
                grid(b, raw, (*side, *num, *classes), *square, *softmax, (height, width))
            }
            Kind::Yolo { anchors, classes, scale, new_coords } => {
                let p = Planes::cut(b, raw, anchors.len() as i64, *classes)?;
                let center = |b: &mut Builder, v: ValueId| -> Result<ValueId> {
                    let v = if *new_coords { v } else { b.call("Sigmoid", &[v])? };
                    if *scale == 1.0 {
                        return Ok(v);
                    }
                    let (by, less) = (b.scalar_like(v, *scale)?, b.scalar_like(v, (*scale - 1.0) / 2.0)?);
                    let v = b.call("Mul", &[v, by])?;
                    b.call("Sub", &[v, less])
                };
                let extent = |b: &mut Builder, v: ValueId, i: usize| -> Result<ValueId> {
                    let v = if *new_coords {
                        let two = b.scalar_like(v, 2.0)?;
                        let v = b.call("Mul", &[v, two])?;
                        b.call("Mul", &[v, v])?
                    } else {
                        b.call("Exp", &[v])?
                    };
                    let a = anchor_values(b, anchors, i);
                    b.call("Mul", &[v, a])
                };
                let (x, y) = (center(b, p.parts[0])?, center(b, p.parts[1])?);
                let (x, y) = (p.placed(b, x, 3, width)?, p.placed(b, y, 2, height)?);
                let (w, h) = (extent(b, p.parts[2], 0)?, extent(b, p.parts[3], 1)?);
                let sure = if *new_coords { p.parts[4] } else { b.call("Sigmoid", &[p.parts[4]])? };
                let classes = if *new_coords { p.classes } else { b.call("Sigmoid", &[p.classes])? };
                p.finish(b, [x, y, w, h], sure, classes)
            }
            Kind::Region { anchors, classes, softmax } => {
                let p = Planes::cut(b, raw, anchors.len() as i64, *classes)?;
                let (x, y) = (b.call("Sigmoid", &[p.parts[0]])?, b.call("Sigmoid", &[p.parts[1]])?);
                let (x, y) = (p.placed(b, x, 3, width)?, p.placed(b, y, 2, height)?);
                let extent = |b: &mut Builder, v: ValueId, i: usize, axis: usize, pixels: ValueId| -> Result<ValueId> {
                    let v = b.call("Exp", &[v])?;
                    let a = anchor_values(b, anchors, i);
                    let v = b.call("Mul", &[v, a])?;
                    let cells = float_size(b, &p.plane[axis - 2].clone())?;
                    let step = b.call("Div", &[pixels, cells])?;
                    b.call("Mul", &[v, step])
                };
                let (w, h) = (extent(b, p.parts[2], 0, 3, width)?, extent(b, p.parts[3], 1, 2, height)?);
                let sure = b.call("Sigmoid", &[p.parts[4]])?;
                let classes = match softmax {
                    true => b.op("Softmax", &[p.classes], Attrs::new().with("axis", 2))?,
                    false => b.call("Sigmoid", &[p.classes])?,
                };
                p.finish(b, [x, y, w, h], sure, classes)
            }
        }
    }
}

/// A size as an f32 of rank 0.
fn float_size(b: &mut Builder, d: &Dim) -> Result<ValueId> {
    if let Some(c) = d.as_const() {
        return b.scalar(DType::F32, c as f64);
    }
    let v = b.dim_value(d)?;
    let v = b.squeeze(v, &[0])?;
    b.cast(v, DType::F32)
}

/// Anchor widths (0) or heights (1), against `[batch, anchors, height, width]`.
fn anchor_values(b: &mut Builder, anchors: &[[f64; 2]], i: usize) -> ValueId {
    let values: Vec<f32> = anchors.iter().map(|a| a[i] as f32).collect();
    b.constant(Tensor::from_slice(&[anchors.len(), 1, 1], &values))
}

/// A raw result cut into its parts: `[batch, anchors, height, width]` each.
struct Planes {
    /// x, y, width, height, objectness.
    parts: [ValueId; 5],
    /// `[batch, anchors, classes, height, width]`
    classes: ValueId,
    batch: Dim,
    anchors: i64,
    count: i64,
    plane: [Dim; 2],
}

impl Planes {
    fn cut(b: &mut Builder, raw: ValueId, anchors: i64, classes: i64) -> Result<Planes> {
        let dims = b.dims(raw)?;
        let [batch, c, h, w] = &dims[..] else { bail!(bug, "a layer's result that has not four axes") };
        let wanted = anchors * (5 + classes);
        if c.as_const() != Some(wanted) {
            bail!(invalid, "{c} channels where {anchors} anchors and {classes} classes need {wanted}");
        }
        let all = b.reshape(raw, &[batch.clone(), anchors.into(), (5 + classes).into(), h.clone(), w.clone()])?;
        let sizes = b.ints(&[1, 1, 1, 1, 1, classes]);
        let inputs = [Some(all), Some(sizes)];
        let cut = b.op_multi("Split", &inputs, Attrs::new().with("axis", 2), 6)?;
        let mut parts = Vec::new();
        for &v in &cut[..5] {
            parts.push(b.squeeze(v, &[2])?);
        }
        let parts = <[ValueId; 5]>::try_from(parts).map_err(|_| Error::bug("five parts"))?;
        Ok(Planes {
            parts,
            classes: cut[5],
            batch: batch.clone(),
            anchors,
            count: classes,
            plane: [h.clone(), w.clone()],
        })
    }

    /// Centres within cells to pixels, along axis 2 (rows) or 3 (columns).
    fn placed(&self, b: &mut Builder, v: ValueId, axis: usize, pixels: ValueId) -> Result<ValueId> {
        let n = &self.plane[axis - 2];
        let (zero, one) = (b.scalar(DType::I64, 0.0)?, b.scalar(DType::I64, 1.0)?);
        let size = match n.as_const() {
            Some(c) => b.scalar(DType::I64, c as f64)?,
            None => {
                let v = b.dim_value(n)?;
                b.squeeze(v, &[0])?
            }
        };
        let places = b.call("Range", &[zero, size, one])?;
        b.graph[places].ty = ValueType::tensor(DType::I64, vec![n.clone()]);
        let places = b.cast(places, DType::F32)?;
        let shape = if axis == 2 { [n.clone(), Dim::Const(1)] } else { [Dim::Const(1), n.clone()] };
        let places = b.reshape(places, &shape)?;
        let v = b.call("Add", &[v, places])?;
        let cells = float_size(b, n)?;
        let step = b.call("Div", &[pixels, cells])?;
        b.call("Mul", &[v, step])
    }

    fn finish(
        &self,
        b: &mut Builder,
        boxes: [ValueId; 4],
        sure: ValueId,
        classes: ValueId,
    ) -> Result<(ValueId, ValueId)> {
        let boxes = corners(b, boxes)?;
        let flat = self.plane[0].clone() * self.plane[1].clone() * self.anchors;
        let mut columns = Vec::new();
        for v in boxes {
            columns.push(b.reshape(v, &[self.batch.clone(), flat.clone(), Dim::Const(1)])?);
        }
        let boxes = b.op("Concat", &columns, Attrs::new().with("axis", 2))?;
        let sure = b.unsqueeze(sure, &[2])?;
        let scores = b.call("Mul", &[classes, sure])?;
        // [N, A, classes, H, W] → [N, A·H·W, classes]
        let scores = b.transpose(scores, &[0, 1, 3, 4, 2])?;
        let scores = b.reshape(scores, &[self.batch.clone(), flat, self.count.into()])?;
        Ok((boxes, scores))
    }
}

/// Centre and extent to left, top, right, bottom.
fn corners(b: &mut Builder, [x, y, w, h]: [ValueId; 4]) -> Result<[ValueId; 4]> {
    let half = b.scalar_like(x, 0.5)?;
    let (w, h) = (b.call("Mul", &[w, half])?, b.call("Mul", &[h, half])?);
    Ok([b.call("Sub", &[x, w])?, b.call("Sub", &[y, h])?, b.call("Add", &[x, w])?, b.call("Add", &[y, h])?])
}

/// The first version: `side² · classes` probabilities, `side² · num` confidences, then the boxes.
fn grid(
    b: &mut Builder,
    raw: ValueId,
    (side, num, classes): (i64, i64, i64),
    square: bool,
    softmax: bool,
    (height, width): (ValueId, ValueId),
) -> Result<(ValueId, ValueId)> {
    let dims = b.dims(raw)?;
    let cells = side * side;
    let total: Dim = dims[1..].iter().cloned().product();
    let wanted = cells * (classes + num * 5);
    if total.as_const() != Some(wanted) {
        bail!(invalid, "{total} numbers where a grid of {side} with {num} boxes and {classes} classes needs {wanted}");
    }
    let batch = dims[0].clone();
    let flat = b.reshape(raw, &[batch.clone(), Dim::Const(wanted)])?;
    let sizes = b.ints(&[cells * classes, cells * num, cells * num * 4]);
    let cut = b.op_multi("Split", &[Some(flat), Some(sizes)], Attrs::new().with("axis", 1), 3)?;
    let mut p = b.reshape(cut[0], &[batch.clone(), cells.into(), 1i64.into(), classes.into()])?;
    if softmax {
        p = b.op("Softmax", &[p], Attrs::new().with("axis", -1))?;
    }
    let sure = b.reshape(cut[1], &[batch.clone(), cells.into(), num.into(), 1i64.into()])?;
    let scores = b.call("Mul", &[p, sure])?;
    let scores = b.reshape(scores, &[batch.clone(), (cells * num).into(), classes.into()])?;
    let boxes = b.reshape(cut[2], &[batch.clone(), cells.into(), num.into(), 4i64.into()])?;
    let sizes = b.ints(&[1, 1, 1, 1]);
    let parts = b.op_multi("Split", &[Some(boxes), Some(sizes)], Attrs::new().with("axis", 3), 4)?;
    let places = |b: &mut Builder, f: fn(i64, i64) -> i64| {
        let values: Vec<f32> = (0..cells).map(|i| f(i, side) as f32).collect();
        b.constant(Tensor::from_slice(&[cells as usize, 1, 1], &values))
    };
    let (columns, rows) = (places(b, |i, n| i % n), places(b, |i, n| i / n));
    let n = b.scalar(DType::F32, side as f64)?;
    let center = |b: &mut Builder, v: ValueId, places: ValueId, pixels: ValueId| -> Result<ValueId> {
        let v = b.call("Add", &[v, places])?;
        let step = b.call("Div", &[pixels, n])?;
        b.call("Mul", &[v, step])
    };
    let extent = |b: &mut Builder, v: ValueId, pixels: ValueId| -> Result<ValueId> {
        let v = if square { b.call("Mul", &[v, v])? } else { v };
        b.call("Mul", &[v, pixels])
    };
    let (x, y) = (center(b, parts[0], columns, width)?, center(b, parts[1], rows, height)?);
    let (w, h) = (extent(b, parts[2], width)?, extent(b, parts[3], height)?);
    let all = corners(b, [x, y, w, h])?;
    let boxes = b.op("Concat", &all, Attrs::new().with("axis", 3))?;
    let boxes = b.reshape(boxes, &[batch, (cells * num).into(), 4i64.into()])?;
    Ok((boxes, scores))
}

/// The outputs of a decoded network.
pub(crate) fn results(b: &mut Builder, found: &[Found], nms: Option<Suppression>) -> Result<Vec<(String, ValueId)>> {
    let all = |get: fn(&Found) -> Option<ValueId>| -> Result<Vec<ValueId>> {
        found.iter().map(|f| get(f).ok_or_else(|| Error::bug("a layer that was not decoded"))).collect()
    };
    let join = |b: &mut Builder, parts: Vec<ValueId>| match parts[..] {
        [one] => Ok(one),
        _ => b.op("Concat", &parts, Attrs::new().with("axis", 1)),
    };
    let boxes = join(b, all(|f| f.boxes)?)?;
    let scores = join(b, all(|f| f.scores)?)?;
    let Some(nms) = nms else { return Ok(vec![("boxes".into(), boxes), ("scores".into(), scores)]) };
    let by_class = b.transpose(scores, &[0, 2, 1])?;
    let most = b.ints(&[nms.max_per_class]);
    let (iou, least) =
        (b.constant(Tensor::from_slice(&[1], &[nms.iou])), b.constant(Tensor::from_slice(&[1], &[nms.score])));
    let inputs = [Some(boxes), Some(by_class), Some(most), Some(iou), Some(least)];
    let kept = b.op_multi("NonMaxSuppression", &inputs, Attrs::new(), 1)?[0];
    let column = |b: &mut Builder, i: i64| -> Result<ValueId> {
        let (from, to, axis) = (b.ints(&[i]), b.ints(&[i + 1]), b.ints(&[1]));
        b.call("Slice", &[kept, from, to, axis])
    };
    let (image, class, place) = (column(b, 0)?, column(b, 1)?, column(b, 2)?);
    let box_at = b.op("Concat", &[image, place], Attrs::new().with("axis", 1))?;
    let picked = b.call("GatherND", &[boxes, box_at])?;
    let score = b.call("GatherND", &[by_class, kept])?;
    let score = b.unsqueeze(score, &[1])?;
    let (image, class) = (b.cast(image, DType::F32)?, b.cast(class, DType::F32)?);
    let rows = b.op("Concat", &[image, class, score, picked], Attrs::new().with("axis", 1))?;
    Ok(vec![("detections".into(), rows)])
}
