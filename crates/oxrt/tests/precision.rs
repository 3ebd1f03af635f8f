//! Lower precision, and kernels chosen by measurement.

use oxrt::{BuildOptions, Device, Engine, ExportOptions, Model, Precision, TensorView, Tuning, VerifyOptions};
use std::path::{Path, PathBuf};

fn example(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name).join("model.pt2")
}

/// The super-resolution example: convolutions that have several rival kernels.
fn model() -> Model {
    let (model, _) = Model::open(example("super_resolution")).unwrap().simplify(&Default::default()).unwrap();
    model
}

fn tuned(record: &Path, precision: Precision) -> Engine {
    let tuning = Tuning::Record(record.to_path_buf());
    model().build(&BuildOptions { tuning, precision, threads: 1, ..Default::default() }).unwrap()
}

#[test]
fn a_record_repeats_an_engine_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let record = dir.path().join("times.json");
    let bytes = |name: &str| {
        let path = dir.path().join(name);
        tuned(&record, Precision::F32).save(&path).unwrap();
        std::fs::read(path).unwrap()
    };
    let first = bytes("first.engine");
    let times = std::fs::read(&record).unwrap();
    assert_eq!(first, bytes("second.engine"));
    assert_eq!(times, std::fs::read(&record).unwrap(), "a full record is not measured again");

    // The record decides: with its times turned around, another kernel is taken.
    let text = String::from_utf8(times).unwrap();
    assert!(text.contains("\"conv\":") && text.contains("\"conv_winograd4\":"), "{text}");
    let kernels = |engine: &Engine| -> Vec<String> {
        let name = |s: &oxrt::plan::Step| match &s.kind {
            oxrt::plan::StepKind::Kernel { kernels, .. } => Some(kernels[0].candidate.clone()),
            _ => None,
        };
        engine.plan().steps.iter().filter_map(name).collect()
    };
    for forced in ["conv", "conv_winograd2", "conv_winograd4"] {
        let mut all: serde_json::Value = serde_json::from_str(&text).unwrap();
        for times in all["machines"].as_object_mut().unwrap().values_mut().flat_map(|m| m.as_object_mut().unwrap()) {
            for (kernel, time) in times.1.as_object_mut().unwrap() {
                *time = serde_json::json!(if kernel == forced { 1.0 } else { 1000.0 });
            }
        }
        std::fs::write(&record, all.to_string()).unwrap();
        let engine = tuned(&record, Precision::F32);
        assert!(kernels(&engine).iter().any(|k| k == forced), "{forced}: {:?}", kernels(&engine));
        // Whatever is chosen, the numbers hold.
        let options = VerifyOptions { threads: 1, element_limit: 1 << 13, ..Default::default() };
        let cases = oxrt::verify_engine(&engine, &model(), &options).unwrap();
        assert!(!cases.is_empty() && cases.iter().all(|c| c.passed), "{forced}: {cases:?}");
    }
}

#[test]
fn a_file_that_is_no_record_is_refused_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notes.txt");
    for text in ["{", "[1, 2]", "{\"machines\": 3}", "\u{0}\u{1}"] {
        std::fs::write(&path, text).unwrap();
        let options = BuildOptions { tuning: Tuning::Record(path.clone()), ..Default::default() };
        let e = model().build(&options).err().unwrap().to_string();
        assert!(e.contains("notes.txt") && e.contains("tuning record"), "{e}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
}

#[test]
fn a_record_without_a_folder_is_refused_before_the_work() {
    let path = std::env::temp_dir().join("no such folder").join("times.json");
    let options = BuildOptions { tuning: Tuning::Record(path), ..Default::default() };
    let e = model().build(&options).err().unwrap().to_string();
    assert!(e.contains("there is no folder"), "{e}");
}

#[test]
fn bf16_stays_close_and_says_when_it_cannot_be_had() {
    let has_unit = oxrt::cpu::CpuBackend::bf16_unit().is_some();
    let options = BuildOptions { precision: Precision::Bf16, ..Default::default() };
    for source in [model(), Model::open(example("digits")).unwrap()] {
        let (engine, report) = source.build_with(&options, &mut |_, _, _| {}).unwrap();
        let expected = if has_unit { Precision::Bf16 } else { Precision::F32 };
        assert_eq!(engine.precision(), expected);
        assert_eq!(report.notes.iter().any(|n| n.contains("no unit for bfloat16")), !has_unit, "{:?}", report.notes);
        let cases = oxrt::verify_engine(&engine, &source, &VerifyOptions::default()).unwrap();
        assert!(!cases.is_empty() && cases.iter().all(|c| c.passed), "{cases:?}");
        if has_unit {
            // Rounded somewhere: an engine that quietly computed in fp32 would pass the budget of fp32.
            let worst = cases.iter().flat_map(|c| &c.outputs).map(|c| c.rel_l2).fold(0.0, f64::max);
            assert!(worst > 1e-4, "{worst}");
            assert_eq!(Engine::precision(&engine), Precision::Bf16);
        }
    }
}

#[test]
fn bf16_engines_run_at_every_size_and_from_a_file() {
    let options = ExportOptions { dims: vec!["pixels:0=batch=1..64".into()], ..Default::default() };
    let model = Model::open_with(example("digits"), &options).unwrap();
    let engine = model.build(&BuildOptions { precision: Precision::Bf16, ..Default::default() }).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("d.engine");
    engine.save(&path).unwrap();
    let loaded = Engine::open(&path).unwrap();
    assert_eq!(loaded.precision(), engine.precision());
    let judge = model.build(&BuildOptions { device: Device::Reference, ..Default::default() }).unwrap();
    for n in [1usize, 2, 13, 14, 33, 64] {
        let x: Vec<f32> = (0..n * 64).map(|i| ((i * 37) % 29) as f32 / 29.0).collect();
        let shape = [n, 1, 8, 8];
        let x = [("pixels", TensorView::of(&shape, &x).unwrap())];
        let (got, again) = (engine.run(&x).unwrap(), loaded.run(&x).unwrap());
        assert_eq!(got[0], again[0]);
        let c = oxrt::compare_tensors("y", &got[0], &judge.run(&x).unwrap()[0], 0.0, 0.0).unwrap();
        assert!(c.rel_l2 < 2e-2, "{n}: {c:?}");
    }
}
