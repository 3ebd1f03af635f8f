//! One function per kind of layer.

use crate::cfg::Section;
use crate::decode::{Found, Kind};
use crate::weights::Weights;
use oxrt_ir::{Attrs, DType, Dim, Tensor, ValueId, ValueType};
use oxrt_ops::Builder;
use oxrt_tensor::{Error, Result, bail};

/// Largest kernel, stride or count of filters that is believed.
const MAX_SIZE: i64 = 1 << 16;

/// Whether two sizes are known to differ. Dynamic ones agree where the network can run at all: at multiples of its
/// total stride.
fn differ(a: &Dim, b: &Dim) -> bool {
    matches!((a.as_const(), b.as_const()), (Some(a), Some(b)) if a != b)
}

pub(crate) struct Net<'g, 'w> {
    pub b: Builder<'g>,
    pub weights: &'w mut Weights,
    /// Result of each layer, as `[batch, channels, height, width]`.
    pub outputs: Vec<ValueId>,
    pub images: ValueId,
    /// Detection layers.
    pub found: Vec<Found>,
    pub decode: bool,
}

impl Net<'_, '_> {
    pub fn layer(&mut self, s: &Section) -> Result<()> {
        let x = self.outputs.last().copied().unwrap_or(self.images);
        let y = match s.name.as_str() {
            "convolutional" | "conv" => self.convolutional(s, x)?,
            "deconvolutional" | "deconv" => self.deconvolutional(s, x)?,
            "connected" | "conn" => self.connected(s, x)?,
            "local" => self.local(s, x)?,
            "batchnorm" => self.batchnorm(s, x)?,
            "shortcut" => self.shortcut(s, x)?,
            "route" => self.route(s)?,
            "upsample" => self.upsample(s, x)?,
            "maxpool" | "max" => self.maxpool(s, x)?,
            "local_avgpool" | "local_avg" => self.local_avgpool(s, x)?,
            "avgpool" | "avg" => self.b.call("GlobalAveragePool", &[x])?,
            "reorg" => self.reorg(s, x)?,
            "reorg3d" => self.reorg3d(s, x)?,
            "scale_channels" => self.scale_channels(s, x)?,
            "sam" => self.sam(s, x)?,
            "activation" | "act" => self.activate(s, x, "linear")?,
            // Dropout does nothing in evaluation; a cost layer only measures.
            "dropout" | "cost" => {
                s.ignore_rest();
                x
            }
            "softmax" | "soft" => self.softmax(s, x)?,
            "yolo" | "region" | "detection" => self.detection(s, x)?,
            other => return Err(Error::unsupported(format!("the layer [{other}]")).help(
                "convolutional, deconvolutional, connected, local, batchnorm, shortcut, route, upsample, maxpool, \
                 avgpool, local_avgpool, reorg, reorg3d, scale_channels, sam, activation, dropout, softmax, yolo, region, \
                 detection and cost are read",
            )),
        };
        self.outputs.push(y);
        Ok(())
    }

    fn dims(&self, v: ValueId) -> Result<[Dim; 4]> {
        self.b.dims(v)?.try_into().map_err(|_| Error::bug("a layer's result that has not four axes"))
    }

    fn channels(&self, v: ValueId) -> Result<i64> {
        let [_, c, ..] = self.dims(v)?;
        c.as_const().ok_or_else(|| Error::unsupported("a dynamic number of channels"))
    }

    fn size(s: &Section, name: &str, default: i64) -> Result<i64> {
        let n = s.int_or(name, default)?;
        if (1..=MAX_SIZE).contains(&n) { Ok(n) } else { bail!(invalid, "`{name}={n}`") }
    }

    /// An index of a layer: counted from here when negative.
    fn reference(&self, i: i64) -> Result<ValueId> {
        let here = self.outputs.len() as i64;
        let at = if i < 0 { here + i } else { i };
        let found = usize::try_from(at).ok().and_then(|at| self.outputs.get(at));
        found.copied().ok_or_else(|| Error::invalid(format!("there is no layer {i} before layer {here}")))
    }

    fn constant(&mut self, what: &str, t: Tensor) -> ValueId {
        let name = self.b.name(what);
        self.b.graph.add_constant(&name, t)
    }

    fn numbers(&mut self, what: &str, shape: &[usize]) -> Result<ValueId> {
        let t = self.weights.take(shape, what)?;
        Ok(self.constant(what, t))
    }

    // ---- layers with weights ----

    /// Scale, mean and variance follow the biases in the file.
    fn normalize(&mut self, x: ValueId, bias: ValueId, n: usize) -> Result<ValueId> {
        let scale = self.numbers("scales", &[n])?;
        let mean = self.numbers("rolling_mean", &[n])?;
        let var = self.numbers("rolling_variance", &[n])?;
        // `sqrt(variance + .00001f)` of Darknet's normalize_cpu.
        let attrs = Attrs::new().with("epsilon", 1e-5f32);
        self.b.op("BatchNormalization", &[x, scale, bias, mean, var], attrs)
    }

    fn convolutional(&mut self, s: &Section, x: ValueId) -> Result<ValueId> {
        for (name, neutral) in [
            ("flipped", "0"),
            ("binary", "0"),
            ("xnor", "0"),
            ("share_index", "-1000000000"),
            ("antialiasing", "0"),
            ("bin_output", "0"),
            ("deform", "0"),
            ("coordconv", "0"),
        ] {
            s.refuse(name, neutral)?;
        }
        let n = Self::size(s, "filters", 1)?;
        let k = Self::size(s, "size", 1)?;
        let stride = Self::size(s, "stride", 1)?;
        let (sx, sy) = (Self::size(s, "stride_x", stride)?, Self::size(s, "stride_y", stride)?);
        let groups = Self::size(s, "groups", 1)?;
        // A kernel of one element has none, whatever is written.
        let stated = Self::size(s, "dilation", 1)?;
        let dilation = if k == 1 { 1 } else { stated };
        let padding = s.int_or("padding", 0)?;
        let pad = if s.flag("pad")? { k / 2 } else { padding };
        // Darknet pads by `padding * dilation`.
        let pad = pad * dilation;
        if !(0..=MAX_SIZE).contains(&pad) {
            bail!(invalid, "`padding={padding}`");
        }
        let c = self.channels(x)?;
        if c % groups != 0 || n % groups != 0 {
            bail!(invalid, "{groups} groups of {c} channels and {n} filters");
        }
        let bias = self.numbers("biases", &[n as usize])?;
        let normalized = s.flag("batch_normalize")?;
        // In the file the statistics stand between biases and weights.
        let statistics = match normalized {
            true => Some([
                self.numbers("scales", &[n as usize])?,
                self.numbers("rolling_mean", &[n as usize])?,
                self.numbers("rolling_variance", &[n as usize])?,
            ]),
            false => None,
        };
        let w = self.numbers("weights", &[n as usize, (c / groups) as usize, k as usize, k as usize])?;
        let attrs = Attrs::new()
            .with("kernel_shape", [k, k])
            .with("strides", [sy, sx])
            .with("dilations", [dilation, dilation])
            .with("pads", [pad, pad, pad, pad])
            .with("group", groups);
        let y = match statistics {
            Some([scale, mean, var]) => {
                let y = self.b.op("Conv", &[x, w], attrs)?;
                let attrs = Attrs::new().with("epsilon", 1e-5f32);
                self.b.op("BatchNormalization", &[y, scale, bias, mean, var], attrs)?
            }
            None => self.b.op("Conv", &[x, w, bias], attrs)?,
        };
        self.activate(s, y, "logistic")
    }

    fn deconvolutional(&mut self, s: &Section, x: ValueId) -> Result<ValueId> {
        let (n, k, stride) = (Self::size(s, "filters", 1)?, Self::size(s, "size", 1)?, Self::size(s, "stride", 1)?);
        let pad = if s.flag("pad")? { k / 2 } else { s.int_or("padding", 0)? };
        let c = self.channels(x)?;
        let bias = self.numbers("biases", &[n as usize])?;
        if s.flag("batch_normalize")? {
            bail!(unsupported, "batch_normalize in a [deconvolutional] layer");
        }
        let w = self.numbers("weights", &[c as usize, n as usize, k as usize, k as usize])?;
        let attrs = Attrs::new()
            .with("kernel_shape", [k, k])
            .with("strides", [stride, stride])
            .with("pads", [pad, pad, pad, pad]);
        let y = self.b.op("ConvTranspose", &[x, w, bias], attrs)?;
        self.activate(s, y, "logistic")
    }

    fn connected(&mut self, s: &Section, x: ValueId) -> Result<ValueId> {
        let n = Self::size(s, "output", 1)?;
        let [batch, c, h, w] = self.dims(x)?;
        let Some(inputs) = (c * h * w).as_const() else {
            return Err(Error::unsupported("a [connected] layer over a dynamic size")
                .help("state the width and height: `--input images=f32[batch,3,448,448]`"));
        };
        let bias = self.numbers("biases", &[n as usize])?;
        let transposed = self.weights.transposed;
        let shape = if transposed { [inputs as usize, n as usize] } else { [n as usize, inputs as usize] };
        let w = self.numbers("weights", &shape)?;
        let x = self.b.reshape(x, &[batch.clone(), Dim::Const(inputs)])?;
        let attrs = Attrs::new().with("transB", !transposed as i64);
        let mut y = if s.flag("batch_normalize")? {
            let y = self.b.op("Gemm", &[x, w], attrs)?;
            self.normalize(y, bias, n as usize)?
        } else {
            self.b.op("Gemm", &[x, w, bias], attrs)?
        };
        y = self.b.reshape(y, &[batch, Dim::Const(n), Dim::Const(1), Dim::Const(1)])?;
        self.activate(s, y, "logistic")
    }

    /// A convolution whose weights differ from place to place: windows times one matrix per place.
    fn local(&mut self, s: &Section, x: ValueId) -> Result<ValueId> {
        let (n, k, stride) = (Self::size(s, "filters", 1)?, Self::size(s, "size", 1)?, Self::size(s, "stride", 1)?);
        let pad = if s.flag("pad")? { k / 2 } else { 0 };
        let [batch, c, h, w] = self.dims(x)?;
        let (Some(c), Some(h), Some(w)) = (c.as_const(), h.as_const(), w.as_const()) else {
            return Err(Error::unsupported("a [local] layer over a dynamic size")
                .help("state the width and height: `--input images=f32[batch,3,448,448]`"));
        };
        let out = |size: i64| (size - if pad > 0 { 1 } else { k }) / stride + 1;
        let (oh, ow) = (out(h), out(w));
        if oh < 1 || ow < 1 || oh * ow > 1 << 20 {
            bail!(invalid, "a [local] layer of {oh} × {ow} places");
        }
        let places = oh * ow;
        let bias = self.numbers("biases", &[(n * places) as usize])?;
        let weights = self.numbers("weights", &[places as usize, n as usize, (c * k * k) as usize])?;
        let padded = self.pad_spatial(x, [pad, pad], [pad + k, pad + k])?;
        let index = |n: i64| -> Vec<i64> { (0..n).flat_map(|o| (0..k).map(move |i| o * stride + i)).collect() };
        let rows = self.b.constant(Tensor::from_slice(&[oh as usize, k as usize], &index(oh)));
        let columns = self.b.constant(Tensor::from_slice(&[ow as usize, k as usize], &index(ow)));
        let y = self.b.op("Gather", &[padded, rows], Attrs::new().with("axis", 2))?;
        let y = self.b.op("Gather", &[y, columns], Attrs::new().with("axis", 4))?;
        // [N, C, oh, k, ow, k] → [N, places, C·k·k, 1]
        let y = self.b.transpose(y, &[0, 2, 4, 1, 3, 5])?;
        let one = Dim::Const(1);
        let y = self.b.reshape(y, &[batch.clone(), places.into(), (c * k * k).into(), one])?;
        let y = self.b.call("MatMul", &[weights, y])?;
        let y = self.b.reshape(y, &[batch.clone(), places.into(), n.into()])?;
        let y = self.b.transpose(y, &[0, 2, 1])?;
        let y = self.b.reshape(y, &[batch, n.into(), oh.into(), ow.into()])?;
        let bias = self.b.reshape(bias, &[n.into(), oh.into(), ow.into()])?;
        let y = self.b.call("Add", &[y, bias])?;
        self.activate(s, y, "logistic")
    }

    fn batchnorm(&mut self, s: &Section, x: ValueId) -> Result<ValueId> {
        let _ = s;
        let n = self.channels(x)? as usize;
        let bias = self.numbers("biases", &[n])?;
        self.normalize(x, bias, n)
    }

    // ---- layers that combine others ----

    fn shortcut(&mut self, s: &Section, x: ValueId) -> Result<ValueId> {
        s.refuse("weights_type", "none")?;
        s.refuse("weights_normalization", "none")?;
        let from = s.ints("from")?;
        if from.is_empty() {
            bail!(invalid, "the option `from` is missing");
        }
        let mut y = x;
        for i in from {
            let other = self.reference(i)?;
            let other = self.fitted(other, y)?;
            y = self.b.call("Add", &[y, other])?;
        }
        self.activate(s, y, "linear")
    }

    /// `other` with the channels of `like`: what it has too many is cut, what it lacks is zero.
    fn fitted(&mut self, other: ValueId, like: ValueId) -> Result<ValueId> {
        let ([_, c, h, w], [_, wanted, eh, ew]) = (self.dims(other)?, self.dims(like)?);
        let mut other = other;
        if differ(&h, &eh) || differ(&w, &ew) {
            // Of a plane that is larger by a whole factor every so many-th element is added.
            let factor = |from: &Dim, to: &Dim| {
                from.as_const().zip(to.as_const()).filter(|(a, b)| *b > 0 && a % b == 0).map(|(a, b)| a / b)
            };
            let (Some(by), true) = (factor(&h, &eh), factor(&h, &eh) == factor(&w, &ew)) else {
                bail!(unsupported, "a shortcut between planes of {h} × {w} and {eh} × {ew}");
            };
            let ints = |b: &mut Builder, v: i64| b.ints(&[v, v]);
            let (from, to, axes) = (ints(&mut self.b, 0), ints(&mut self.b, i64::MAX), self.b.ints(&[2, 3]));
            let steps = ints(&mut self.b, by);
            other = self.b.call("Slice", &[other, from, to, axes, steps])?;
        }
        let (Some(c), Some(wanted)) = (c.as_const(), wanted.as_const()) else {
            bail!(unsupported, "a dynamic number of channels")
        };
        if c > wanted {
            return self.slice_channels(other, 0, wanted);
        }
        if c == wanted {
            return Ok(other);
        }
        let pads = self.b.ints(&[0, 0, 0, 0, 0, wanted - c, 0, 0]);
        self.b.call("Pad", &[other, pads])
    }

    fn slice_channels(&mut self, x: ValueId, from: i64, to: i64) -> Result<ValueId> {
        let (from, to, axis) = (self.b.ints(&[from]), self.b.ints(&[to]), self.b.ints(&[1]));
        self.b.call("Slice", &[x, from, to, axis])
    }

    fn route(&mut self, s: &Section) -> Result<ValueId> {
        s.refuse("stream", "0")?;
        let (groups, id) = (Self::size(s, "groups", 1)?, s.int_or("group_id", 0)?);
        let layers = s.ints("layers")?;
        if layers.is_empty() {
            bail!(invalid, "the option `layers` is missing");
        }
        let mut parts = Vec::new();
        for i in layers {
            let mut v = self.reference(i)?;
            if groups > 1 {
                let c = self.channels(v)?;
                if c % groups != 0 || !(0..groups).contains(&id) {
                    bail!(invalid, "group {id} of {groups} of {c} channels");
                }
                v = self.slice_channels(v, id * (c / groups), (id + 1) * (c / groups))?;
            }
            parts.push(v);
        }
        if let [one] = parts[..] {
            return Ok(one);
        }
        let [_, _, h, w] = self.dims(parts[0])?;
        for &p in &parts {
            let [_, _, ph, pw] = self.dims(p)?;
            if differ(&ph, &h) || differ(&pw, &w) {
                bail!(invalid, "layers of {h} × {w} and {ph} × {pw} are joined");
            }
        }
        self.b.op("Concat", &parts, Attrs::new().with("axis", 1))
    }

    fn scale_channels(&mut self, s: &Section, x: ValueId) -> Result<ValueId> {
        s.refuse("scale_wh", "0")?;
        let from = self.reference(s.need("from")?)?;
        let y = self.b.call("Mul", &[from, x])?;
        self.activate(s, y, "linear")
    }

    fn sam(&mut self, s: &Section, x: ValueId) -> Result<ValueId> {
        let from = self.reference(s.need("from")?)?;
        let y = self.b.call("Mul", &[from, x])?;
        self.activate(s, y, "linear")
    }

    // ---- layers without weights ----

    fn upsample(&mut self, s: &Section, x: ValueId) -> Result<ValueId> {
        s.refuse("reverse", "0")?;
        let (stride, scale) = (Self::size(s, "stride", 2)?, s.float_or("scale", 1.0)?);
        let scales = self.b.constant(Tensor::from_slice(&[4], &[1.0, 1.0, stride as f32, stride as f32]));
        let attrs = Attrs::new()
            .with("mode", "nearest")
            .with("coordinate_transformation_mode", "asymmetric")
            .with("nearest_mode", "floor");
        let y = self.b.op_multi("Resize", &[Some(x), None, Some(scales)], attrs, 1)?[0];
        let [n, c, h, w] = self.dims(x)?;
        self.b.graph[y].ty = ValueType::tensor(DType::F32, vec![n, c, h * stride, w * stride]);
        if scale == 1.0 {
            return Ok(y);
        }
        let scale = self.b.scalar_like(y, scale)?;
        self.b.call("Mul", &[y, scale])
    }

    /// Pads height and width by `before` and `after` zeros.
    fn pad_spatial(&mut self, x: ValueId, before: [i64; 2], after: [i64; 2]) -> Result<ValueId> {
        let pads = self.b.ints(&[0, 0, before[0], before[1], 0, 0, after[0], after[1]]);
        self.b.call("Pad", &[x, pads])
    }

    /// Windows of Darknet's pools: `(size + padding - k) / stride + 1`, of which half the padding lies before.
    fn pool_attrs(s: &Section) -> Result<Attrs> {
        let stride = Self::size(s, "stride", 1)?;
        let (sx, sy) = (Self::size(s, "stride_x", stride)?, Self::size(s, "stride_y", stride)?);
        let k = Self::size(s, "size", stride)?;
        let padding = s.int_or("padding", k - 1)?;
        if !(0..=MAX_SIZE).contains(&padding) {
            bail!(invalid, "`padding={padding}`");
        }
        let (before, after) = (padding / 2, padding - padding / 2);
        if after >= k {
            bail!(unsupported, "a pool of size {k} with the padding {padding}");
        }
        Ok(Attrs::new()
            .with("kernel_shape", [k, k])
            .with("strides", [sy, sx])
            .with("pads", [before, before, after, after]))
    }

    fn maxpool(&mut self, s: &Section, x: ValueId) -> Result<ValueId> {
        s.refuse("maxpool_depth", "0")?;
        s.refuse("antialiasing", "0")?;
        self.b.op("MaxPool", &[x], Self::pool_attrs(s)?)
    }

    fn local_avgpool(&mut self, s: &Section, x: ValueId) -> Result<ValueId> {
        self.b.op("AveragePool", &[x], Self::pool_attrs(s)?)
    }

    /// Darknet reads its input as `[c / s², h·s, w·s]` and spreads that into channels; the result is then read as
    /// `[c·s², h / s, w / s]`.
    fn reorg(&mut self, s: &Section, x: ValueId) -> Result<ValueId> {
        s.refuse("reverse", "0")?;
        s.refuse("flatten", "0")?;
        s.refuse("extra", "0")?;
        let r = Self::size(s, "stride", 1)?;
        let [n, c, h, w] = self.dims(x)?;
        let (Some(channels), by) = (c.as_const(), Dim::Const(r)) else { bail!(unsupported, "dynamic channels") };
        if channels % (r * r) != 0 {
            bail!(unsupported, "[reorg] of {channels} channels by {r}");
        }
        let fewer = Dim::Const(channels / (r * r));
        let y = self.b.reshape(x, &[n.clone(), fewer, h.clone(), by.clone(), w.clone(), by.clone()])?;
        let y = self.b.transpose(y, &[0, 3, 5, 1, 2, 4])?;
        self.b.reshape(y, &[n, Dim::Const(channels * r * r), h.floor_div(&by), w.floor_div(&by)])
    }

    /// Space to depth as one would expect it.
    fn reorg3d(&mut self, s: &Section, x: ValueId) -> Result<ValueId> {
        s.refuse("reverse", "0")?;
        let r = Self::size(s, "stride", 1)?;
        self.b.op("SpaceToDepth", &[x], Attrs::new().with("blocksize", r))
    }

    fn softmax(&mut self, s: &Section, x: ValueId) -> Result<ValueId> {
        s.refuse("spatial", "0")?;
        let groups = Self::size(s, "groups", 1)?;
        let temperature = s.float_or("temperature", 1.0)?;
        let [n, c, h, w] = self.dims(x)?;
        let Some(inputs) = (c.clone() * h.clone() * w.clone()).as_const() else {
            bail!(unsupported, "[softmax] over a dynamic size")
        };
        if inputs % groups != 0 {
            bail!(invalid, "[softmax] of {inputs} numbers in {groups} groups");
        }
        let mut y = self.b.reshape(x, &[n.clone(), groups.into(), (inputs / groups).into()])?;
        if temperature != 1.0 {
            let t = self.b.scalar_like(y, temperature)?;
            y = self.b.call("Div", &[y, t])?;
        }
        let y = self.b.op("Softmax", &[y], Attrs::new().with("axis", -1))?;
        self.b.reshape(y, &[n, c, h, w])
    }

    fn detection(&mut self, s: &Section, x: ValueId) -> Result<ValueId> {
        let kind = Kind::read(s)?;
        self.found.push(Found { raw: x, boxes: None, scores: None });
        if self.decode {
            let (boxes, scores) = kind.decode(&mut self.b, x, self.images)?;
            if let Some(last) = self.found.last_mut() {
                (last.boxes, last.scores) = (Some(boxes), Some(scores));
            }
        }
        Ok(x)
    }

    // ---- activations ----

    fn activate(&mut self, s: &Section, x: ValueId, default: &str) -> Result<ValueId> {
        let name = s.text("activation").unwrap_or(default);
        let b = &mut self.b;
        let clip = |b: &mut Builder, x: ValueId, lo: f64, hi: f64| -> Result<ValueId> {
            let (lo, hi) = (b.scalar_like(x, lo)?, b.scalar_like(x, hi)?);
            b.call("Clip", &[x, lo, hi])
        };
        match name {
            "linear" => Ok(x),
            "leaky" => b.op("LeakyRelu", &[x], Attrs::new().with("alpha", 0.1f32)),
            "relu" => b.call("Relu", &[x]),
            "relu6" => clip(b, x, 0.0, 6.0),
            "relie" => b.op("LeakyRelu", &[x], Attrs::new().with("alpha", 0.01f32)),
            "logistic" => b.call("Sigmoid", &[x]),
            "tanh" => b.call("Tanh", &[x]),
            "elu" => b.op("Elu", &[x], Attrs::new().with("alpha", 1.0f32)),
            "selu" => b.call("Selu", &[x]),
            "gelu" => b.op("Gelu", &[x], Attrs::new().with("approximate", "tanh")),
            "hardtan" => clip(b, x, -1.0, 1.0),
            "swish" => {
                let p = b.call("Sigmoid", &[x])?;
                b.call("Mul", &[x, p])
            }
            "mish" => {
                let y = b.call("Softplus", &[x])?;
                let y = b.call("Tanh", &[y])?;
                b.call("Mul", &[x, y])
            }
            "loggy" => {
                // 2 / (1 + exp(-x)) - 1 = tanh(x / 2)
                let half = b.scalar_like(x, 0.5)?;
                let y = b.call("Mul", &[x, half])?;
                b.call("Tanh", &[y])
            }
            "ramp" => {
                let slope = b.scalar_like(x, 0.1)?;
                let (positive, slanted) = (b.call("Relu", &[x])?, b.call("Mul", &[x, slope])?);
                b.call("Add", &[positive, slanted])
            }
            other => bail!(unsupported, "the activation `{other}`"),
        }
    }
}
