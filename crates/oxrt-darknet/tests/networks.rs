//! Small networks made by hand: what they compute, and what damaged files say.

use oxrt_darknet::{ImportOptions, Suppression, import};
use oxrt_ops::{Datum, Interpreter};
use oxrt_tensor::{Result, Tensor};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

struct Files(PathBuf);

impl Drop for Files {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

fn load_with(cfg: &str, numbers: &[u8], options: &ImportOptions) -> Result<oxrt_ir::Model> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    let dir = Files(std::env::temp_dir().join(format!("oxrt-darknet-{}-{n}", std::process::id())));
    std::fs::create_dir_all(&dir.0).unwrap();
    let (c, w) = (dir.0.join("net.cfg"), dir.0.join("net.weights"));
    std::fs::write(&c, cfg).unwrap();
    std::fs::write(&w, numbers).unwrap();
    import(&c, &w, options)
}

fn weights(values: &[f32]) -> Vec<u8> {
    let header = [0i32, 2, 0].iter().flat_map(|v| v.to_le_bytes()).chain(0u64.to_le_bytes());
    header.chain(values.iter().flat_map(|v| v.to_le_bytes())).collect()
}

fn error(cfg: &str, numbers: &[u8]) -> String {
    load_with(cfg, numbers, &ImportOptions::default()).map(|_| ()).unwrap_err().to_string()
}

const NET: &str = "[net]\nwidth=2\nheight=2\nchannels=1\n";
const CONV: &str = "[convolutional]\nfilters=1\nsize=1\nactivation=leaky\n";

#[test]
fn a_convolution_with_statistics() {
    // bias 1, scale 2, mean 0.5, variance 1, weight 3.
    let cfg = format!("{NET}[convolutional]\nbatch_normalize=1\nfilters=1\nsize=1\nactivation=leaky\n");
    let model = load_with(&cfg, &weights(&[1.0, 2.0, 0.5, 1.0, 3.0]), &ImportOptions::default()).unwrap();
    let x = Tensor::from_slice(&[1, 1, 2, 2], &[1.0f32, 0.0, -1.0, 2.0]);
    let y = Interpreter::new(&model.graph).run(vec![Datum::Tensor(x)]).unwrap()[0].clone().into_tensor().unwrap();
    let want = [6.0, 0.0, -6.0, 12.0];
    for (have, want) in y.to_f64_vec().unwrap().into_iter().zip(want) {
        assert!((have - want * if want < 0.0 { 0.1 } else { 1.0 }).abs() < 1e-3, "{have} {want}");
    }
}

#[test]
fn the_batch_is_dynamic_and_so_is_a_plane_of_minus_one() {
    let cfg = "[net]\nwidth=-1\nheight=-1\nchannels=1\n".to_string() + CONV;
    let model = load_with(&cfg, &weights(&[0.0, 1.0]), &ImportOptions::default()).unwrap();
    let g = &model.graph;
    assert_eq!(g[g.inputs[0]].ty.to_string(), "f32[batch, 1, height, width]");
    assert_eq!(g[g.outputs[0]].ty.to_string(), "f32[batch, 1, height, width]");
    let fixed = ImportOptions { input: Some("f32[1,1,8,8]".parse().unwrap()), ..Default::default() };
    let model = load_with(&cfg, &weights(&[0.0, 1.0]), &fixed).unwrap();
    assert_eq!(model.graph[model.graph.outputs[0]].ty.to_string(), "f32[1, 1, 8, 8]");
    let wrong = ImportOptions { input: Some("f32[1,3,8,8]".parse().unwrap()), ..Default::default() };
    assert!(load_with(&cfg, &weights(&[0.0, 1.0]), &wrong).is_err());
}

#[test]
fn what_does_not_fit_is_named_with_its_line() {
    let cfg = format!("{NET}{CONV}");
    assert!(error(&cfg, &weights(&[0.0])).contains("the weights [1, 1, 1, 1] need 4 bytes"));
    assert!(error(&cfg, &weights(&[0.0, 1.0, 2.0])).contains("4 bytes are left"));
    assert!(error(&cfg, &[1, 2, 3]).contains("too few for the header"));
    assert!(error(&cfg, &[0xff; 64]).contains("not a Darknet weights file"));
    assert!(error(&format!("{NET}[mystery]\nsize=3\n"), &weights(&[])).contains("layer 0 [mystery], line 5"));
    assert!(error(&format!("{NET}{CONV}mystery=3\n"), &weights(&[0.0, 1.0])).contains("mystery=3"));
    assert!(error(&format!("{NET}[route]\nlayers=4\n"), &weights(&[])).contains("no layer 4"));
    assert!(error(&format!("{NET}[shortcut]\nfrom=-9\n"), &weights(&[])).contains("no layer -9"));
    assert!(error("[convolutional]\nfilters=1\n", &weights(&[])).contains("[net]"));
    assert!(error("[net]\nwidth=0\nheight=2\n", &weights(&[])).contains("width 0"));
    assert!(error(&format!("{NET}[yolo]\nmask=7\nanchors=1,2\nclasses=1\n"), &weights(&[])).contains("anchor 7"));
}

#[test]
fn enormous_numbers_are_errors() {
    for option in ["filters=99999999999", "size=-1", "stride=0", "groups=0", "filters=65536\nsize=65536", "padding=-5"]
    {
        let cfg = format!("{NET}[convolutional]\n{option}\n");
        assert!(load_with(&cfg, &weights(&[0.0, 1.0]), &ImportOptions::default()).is_err(), "{option}");
    }
    let cfg = format!("{NET}[yolo]\nanchors=1,2\nclasses=99999999\n");
    assert!(load_with(&cfg, &weights(&[]), &ImportOptions { decode: true, ..Default::default() }).is_err());
}

#[test]
fn no_altered_byte_brings_a_panic() {
    let cfg = format!(
        "{NET}{CONV}\n[route]\nlayers=-1\n[upsample]\nstride=2\n[maxpool]\nsize=2\nstride=2\n[reorg]\nstride=1\n"
    );
    let numbers = weights(&[0.0, 1.0]);
    load_with(&cfg, &numbers, &ImportOptions::default()).unwrap();
    for at in 0..cfg.len() {
        for value in [b'9', b'-', b'[', b'\n'] {
            let mut damaged = cfg.clone().into_bytes();
            damaged[at] = value;
            let damaged = String::from_utf8(damaged).unwrap();
            drop(load_with(&damaged, &numbers, &ImportOptions::default()));
        }
    }
}

#[test]
fn suppression_options() {
    let s: Suppression = "0.5:0.1:10".parse().unwrap();
    assert_eq!((s.iou, s.score, s.max_per_class), (0.5, 0.1, 10));
    for bad in ["", "x", "2", "0.5:-1", "0.5:0.5:0", "0.5:0.5:1:1"] {
        assert!(bad.parse::<Suppression>().is_err(), "{bad}");
    }
}
