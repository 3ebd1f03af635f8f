//! Sections of a `.cfg` file.

use oxrt_tensor::{Error, Result, bail};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

/// `[name]` with its options. Options that nobody asked for are an error: they may change the result.
#[derive(Debug)]
pub(crate) struct Section {
    pub name: String,
    /// From 1.
    pub line: usize,
    options: Vec<(String, String, usize)>,
    read: RefCell<BTreeSet<String>>,
    all_read: Cell<bool>,
}

/// Options that concern training or drawing alone.
const TRAINING: &[&str] = &[
    "learning_rate",
    "stopbackward",
    "dontload",
    "dontloadscales",
    "dont_update",
    "train_only_bn",
    "burnin_update",
    "ignore_thresh",
    "truth_thresh",
    "iou_thresh",
    "iou_normalizer",
    "cls_normalizer",
    "obj_normalizer",
    "delta_normalizer",
    "iou_loss",
    "iou_thresh_kind",
    "nms_kind",
    "beta_nms",
    "max_delta",
    "jitter",
    "resize",
    "random",
    "rescore",
    "map",
    "label_smooth_eps",
    "focal_loss",
    "counters_per_class",
    "uc_normalizer",
    "object_scale",
    "noobject_scale",
    "class_scale",
    "coord_scale",
    "thresh",
    "absolute",
    "bias_match",
    "max",
    "objectness_smooth",
    "show_details",
    "track_history_size",
    "sim_thresh",
    "dets_for_track",
    "dets_for_show",
    "track_ciou_norm",
    "embedding_layer",
    "cls_loss",
    "forced",
    "probability",
    "hurst",
    "flip",
    "angle",
    "saturation",
    "exposure",
    "hue",
    "shift",
    "mosaic_bound",
    "assisted_excitation",
    "sway",
    "rotate",
    "stretch",
    "antialiasing",
    "scale_y_x",
    "joint",
    "sqrt_train",
    "softmax_tree",
    "tree",
    "multiscale",
];

pub(crate) fn parse(text: &str) -> Result<Vec<Section>> {
    let mut out: Vec<Section> = Vec::new();
    for (i, raw) in text.lines().enumerate() {
        let line = raw.split(['#', ';']).next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        if let Some(name) = line.strip_prefix('[') {
            let name = name.strip_suffix(']').ok_or_else(|| Error::invalid(format!("line {}: `{line}`", i + 1)))?;
            out.push(Section {
                name: name.trim().to_string(),
                line: i + 1,
                options: Vec::new(),
                read: RefCell::default(),
                all_read: Cell::new(false),
            });
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            bail!(invalid, "line {}: `{line}` is neither a section nor an option", i + 1)
        };
        let Some(section) = out.last_mut() else { bail!(invalid, "line {}: an option before any section", i + 1) };
        let value: String = value.chars().filter(|c| !c.is_whitespace()).collect();
        section.options.push((key.trim().to_string(), value, i + 1));
    }
    if out.is_empty() {
        bail!(invalid, "no section: not a Darknet cfg");
    }
    Ok(out)
}

impl Section {
    pub fn text(&self, name: &str) -> Option<&str> {
        self.read.borrow_mut().insert(name.to_string());
        // Darknet takes the first of several.
        self.options.iter().find(|(k, ..)| k == name).map(|(_, v, _)| v.as_str())
    }

    fn bad(&self, name: &str, text: &str) -> Error {
        let line = self.options.iter().find(|(k, ..)| k == name).map_or(self.line, |o| o.2);
        Error::invalid(format!("line {line}: `{name}={text}` is not a number"))
    }

    pub fn int(&self, name: &str) -> Result<Option<i64>> {
        self.text(name).map(|t| t.parse().map_err(|_| self.bad(name, t))).transpose()
    }

    pub fn int_or(&self, name: &str, default: i64) -> Result<i64> {
        Ok(self.int(name)?.unwrap_or(default))
    }

    pub fn need(&self, name: &str) -> Result<i64> {
        self.int(name)?.ok_or_else(|| Error::invalid(format!("the option `{name}` is missing")))
    }

    pub fn float_or(&self, name: &str, default: f64) -> Result<f64> {
        self.text(name).map_or(Ok(default), |t| t.parse().map_err(|_| self.bad(name, t)))
    }

    pub fn flag(&self, name: &str) -> Result<bool> {
        Ok(self.int_or(name, 0)? != 0)
    }

    pub fn ints(&self, name: &str) -> Result<Vec<i64>> {
        let Some(text) = self.text(name) else { return Ok(Vec::new()) };
        text.split(',').filter(|p| !p.is_empty()).map(|p| p.parse().map_err(|_| self.bad(name, text))).collect()
    }

    pub fn floats(&self, name: &str) -> Result<Vec<f64>> {
        let Some(text) = self.text(name) else { return Ok(Vec::new()) };
        text.split(',').filter(|p| !p.is_empty()).map(|p| p.parse().map_err(|_| self.bad(name, text))).collect()
    }

    /// An option that must have its neutral value.
    pub fn refuse(&self, name: &str, neutral: &str) -> Result<()> {
        match self.text(name) {
            Some(t) if t != neutral => bail!(unsupported, "`{name}={t}`"),
            _ => Ok(()),
        }
    }

    /// Options of this section that are not asked for do not matter.
    pub fn ignore_rest(&self) {
        self.all_read.set(true);
    }

    /// Complains about options that no one read.
    pub fn check_read(&self) -> Result<()> {
        let read = self.read.borrow();
        let unknown = self.options.iter().find(|(k, ..)| !read.contains(k) && !TRAINING.contains(&k.as_str()));
        match unknown.filter(|_| !self.all_read.get()) {
            Some((k, v, line)) => {
                Err(Error::unsupported(format!("line {line}: the option `{k}={v}` of [{}]", self.name))
                    .help("remove it from the cfg if it concerns training alone"))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_and_options() {
        let s =
            parse("# a comment\n[net]\nwidth = 416 # wide\n\n[convolutional]\nanchors = 10,13,  16,30\nfilters=x\n")
                .unwrap();
        assert_eq!((s.len(), s[1].line), (2, 5));
        assert_eq!(s[0].int("width").unwrap(), Some(416));
        assert_eq!(s[1].floats("anchors").unwrap(), [10.0, 13.0, 16.0, 30.0]);
        assert!(s[1].int("filters").is_err());
        assert!(s[1].check_read().is_ok());
        assert!(s[0].check_read().is_ok());
        assert!(
            parse("width=3").is_err() && parse("").is_err() && parse("[net\n").is_err() && parse("[net]\nx\n").is_err()
        );
    }

    #[test]
    fn what_nobody_reads_is_an_error() {
        let s = parse("[convolutional]\nfilters=3\nmystery=1\njitter=.3\n").unwrap();
        s[0].int("filters").unwrap();
        assert!(s[0].check_read().unwrap_err().to_string().contains("mystery"));
    }
}
