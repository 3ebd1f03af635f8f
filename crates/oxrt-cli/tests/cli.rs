//! The shipped examples through every command.

mod common;

use common::{Bench, example};
use oxrt::npy::{read_npz, write_npz};
use oxrt::{Tensor, image};
use std::path::Path;

const SR: &str = "super_resolution/model.pt2";

#[test]
fn a_photograph_is_the_same_from_every_stage() {
    let b = Bench::new();
    let (model, cat) = (example(SR), format!("image={}", example("super_resolution/cat.png")));
    let (onnx, engine) = (b.path("sr.onnx"), b.path("sr.engine"));
    b.ok(&["export", &model, "-o", &onnx]);
    // Timed kernels may add in another order.
    b.ok(&["build", &onnx, "--no-tune", "-o", &engine]);
    let mut pictures = Vec::new();
    for (i, file) in [&model, &onnx, &engine].into_iter().enumerate() {
        let out = b.path(&format!("{i}.png"));
        b.ok(&["run", file, "--in", &cat, "--out", &out]);
        pictures.push(std::fs::read(out).unwrap());
    }
    assert!(pictures.windows(2).all(|w| w[0] == w[1]));
    let t = image::read_image(Path::new(&b.path("0.png")), 3, image::Layout::Nchw, oxrt::DType::U8).unwrap();
    assert_eq!(t.shape(), [1, 3, 300, 450]);
}

#[test]
fn saved_outputs_of_pytorch_agree_at_two_sizes() {
    let b = Bench::new();
    b.ok(&["convert", &example(SR), "-o", &b.path("sr.engine")]);
    for npz in ["reference.npz", "reference-odd.npz"] {
        let against = example(&format!("super_resolution/{npz}"));
        let report = b.ok(&[
            "verify",
            &b.path("sr.engine"),
            "--against",
            &against,
            "--rtol",
            "1e-4",
            "--atol",
            "1e-5",
            "--json",
        ]);
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        assert_eq!(report["passed"], true);
    }
    // A wrong reference must be noticed.
    let mut arrays = read_npz(Path::new(&example("super_resolution/reference-odd.npz"))).unwrap();
    arrays.get_mut("output").unwrap().as_mut_slice::<f32>()[7] += 0.5;
    let wrong = b.path("wrong.npz");
    write_npz(Path::new(&wrong), arrays.iter().map(|(k, t)| (k.as_str(), t))).unwrap();
    let r = b.run(&["verify", &b.path("sr.engine"), "--against", &wrong]);
    assert_eq!(r.code, Some(1), "{}", r.out);
    assert!(r.out.contains("DIFFERENT") && r.out.contains("1 of"), "{}", r.out);
}

#[test]
fn digits_get_the_predictions_of_pytorch() {
    let b = Bench::new();
    let held_out = example("digits/held-out.npz");
    b.ok(&["run", &example("digits/model.pt2"), "--in", &held_out, "--out", &format!("output={}", b.path("y.npy"))]);
    let logits = oxrt::npy::read_npy(Path::new(&b.path("y.npy"))).unwrap();
    let arrays = read_npz(Path::new(&held_out)).unwrap();
    let argmax = |row: &[f32]| (0..10).max_by(|&i, &j| row[i].total_cmp(&row[j])).unwrap() as i64;
    let ours: Vec<i64> = logits.as_slice::<f32>().chunks(10).map(argmax).collect();
    assert_eq!(ours, arrays["predictions"].as_slice::<i64>());
    let right = ours.iter().zip(arrays["labels"].as_slice::<i64>()).filter(|(a, b)| a == b).count();
    assert!(right as f64 / ours.len() as f64 > 0.98, "{right} of {}", ours.len());
}

#[test]
fn names_dimensions_and_opset_are_the_users() {
    let b = Bench::new();
    let onnx = b.path("m.onnx");
    b.ok(&[
        "export",
        &example(SR),
        "-o",
        &onnx,
        "--input-name",
        "pixels",
        "--output-name",
        "output=large",
        "--dim",
        "batch=1..4",
        "--opset",
        "17",
    ]);
    let report: serde_json::Value = serde_json::from_str(&b.ok(&["inspect", &onnx, "--json"])).unwrap();
    assert_eq!(report["inputs"][0], "pixels f32[batch, 3, height, width]");
    assert_eq!(report["outputs"][0], "large f32[batch, 3, 2*height, 2*width]");
    assert_eq!(report["about"]["opset"], "17");
    assert!(report["about"]["dimensions"].as_str().unwrap().contains("batch 1..4"));
    // The ranges travel with the ONNX file to the engine.
    b.fails(&["build", &onnx, "-o", &b.path("m.engine"), "--dim", "batch=1:8:64"], &["batch", "1..4"]);
}

#[test]
fn external_data_and_simplify_round_trip() {
    let b = Bench::new();
    let (onnx, small) = (b.path("m.onnx"), b.path("small.onnx"));
    b.ok(&["export", &example("digits/model.pt2"), "-o", &onnx, "--external-data", "256"]);
    assert!(Path::new(&b.path("m.onnx.data")).exists());
    let out = b.ok(&["simplify", &onnx, "-o", &small, "--json"]);
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(report["nodes_after"].as_u64() < report["nodes_before"].as_u64(), "{out}");
    assert!(report["checks"].as_array().unwrap().iter().all(|c| c["passed"] == true));
    b.ok(&["verify", &small, "--against", &example("digits/held-out.npz")]);
    b.ok(&["check", &small]);
}

#[test]
fn equal_builds_are_byte_identical_and_profiles_are_chosen() {
    // Kernels chosen by timing may differ from build to build; by estimate or by a record they do not.
    let b = Bench::new();
    for name in ["a.engine", "b.engine"] {
        b.ok(&[
            "build",
            "--no-tune",
            &example("digits/model.pt2"),
            "-o",
            &b.path(name),
            "--dim",
            "batch=1:1:4",
            "--profile",
            "batch=16:32:64",
        ]);
    }
    assert_eq!(std::fs::read(b.path("a.engine")).unwrap(), std::fs::read(b.path("b.engine")).unwrap());
    for (n, fits) in [(4, true), (8, false), (32, true)] {
        let npz = b.path("x.npz");
        let x = Tensor::zeros(oxrt::DType::F32, &[n, 1, 8, 8]);
        write_npz(Path::new(&npz), [("pixels", &x)]).unwrap();
        let args = ["run", &b.path("a.engine"), "--in", &npz];
        if fits {
            assert!(b.ok(&args).contains(&format!("[{n}, 10]")));
        } else {
            b.fails(&args, &["batch", "is 8", "range 1 to 4", "--dim"]);
        }
    }
}

#[test]
fn trtexec_spelling_builds_the_same_ranges() {
    let b = Bench::new();
    let onnx = b.path("sr.onnx");
    b.ok(&["export", &example(SR), "-o", &onnx]);
    let engine = format!("--saveEngine={}", b.path("t.engine"));
    let shapes = ["--minShapes=image:1x3x8x8", "--optShapes=image:1x3x64x96", "--maxShapes=image:4x3x512x512"];
    b.ok(&["build", &onnx, &engine, shapes[0], shapes[1], shapes[2], "--memPoolSize=workspace:512"]);
    let report: serde_json::Value = serde_json::from_str(&b.ok(&["inspect", &b.path("t.engine"), "--json"])).unwrap();
    assert_eq!(report["about"]["profiles"], "batch=1:1:4 height=8:64:512 width=8:96:512");
    b.fails(&["build", &onnx, "--maxShapes=image:4x1x512x512"], &["axis 1", "fixed to 3"]);
}

#[test]
fn the_engine_cache_is_filled_and_used() {
    let b = Bench::new();
    let cache = b.path("cache");
    let args = ["run", &example("digits/model.pt2"), "--in", &example("digits/held-out.npz"), "--engine-cache", &cache];
    let first = b.ok(&args);
    let entries: Vec<_> = std::fs::read_dir(&cache).unwrap().flatten().collect();
    assert_eq!(entries.len(), 1);
    let made = entries[0].metadata().unwrap().modified().unwrap();
    assert_eq!(b.ok(&args), first);
    assert_eq!(entries[0].metadata().unwrap().modified().unwrap(), made, "the engine was built again");
    // Other options are another engine; a damaged one is replaced.
    b.ok(&[&args[..], &["--dim", "batch=1..512"]].concat());
    assert_eq!(std::fs::read_dir(&cache).unwrap().count(), 2);
    std::fs::write(entries[0].path(), b"OXRTENG\0garbage").unwrap();
    assert_eq!(b.ok(&args), first);
}

#[test]
fn pb_folders_work_and_unsupported_models_are_declined() {
    let b = Bench::new();
    std::fs::create_dir(b.path("in")).unwrap();
    let x = Tensor::from_slice(&[1, 1, 8, 8], &[0.25f32; 64]);
    std::fs::write(b.path("in/input_0.pb"), oxrt::onnx::datum_to_pb("pixels", &x.into())).unwrap();
    b.ok(&["run", &example("digits/model.pt2"), "--in-dir", &b.path("in"), "--out-dir", &b.path("out")]);
    let y = oxrt::onnx::load_datum(Path::new(&b.path("out/output_0.pb")), oxrt::onnx::PbKind::Tensor).unwrap();
    assert_eq!(y.into_tensor().unwrap().shape(), [1, 10]);
    // Opset 9999 and unknown operators are declined with status 2.
    std::fs::write(b.path("future.onnx"), [0x08, 8, 0x3a, 0, 0x42, 3, 0x10, 0x8f, 0x4e]).unwrap();
    let r = b.run(&["run", &b.path("future.onnx"), "--in-dir", &b.path("in"), "--out-dir", &b.path("out")]);
    assert_eq!(r.code, Some(2), "{}", r.err);
}

#[test]
fn reports_are_json_where_machines_read_them() {
    let b = Bench::new();
    let json = |args: &[&str]| -> serde_json::Value { serde_json::from_str(&b.ok(args)).unwrap() };
    let doctor = json(&["doctor", "--json"]);
    assert!(doctor["gflop_per_s"].as_f64().unwrap() > 1.0 && doctor["threads"].as_u64().unwrap() >= 1);
    let bench = json(&[
        "bench",
        &example("digits/model.pt2"),
        "--size",
        "batch=8",
        "--seconds",
        "0.1",
        "--profile-steps",
        "--json",
    ]);
    assert!(bench["report"]["p50_ms"].as_f64().unwrap() > 0.0);
    assert!(!bench["report"]["steps"].as_array().unwrap().is_empty());
    let convert = json(&["convert", &example("digits/model.pt2"), "-o", &b.path("d.engine"), "--json"]);
    assert!(convert["checks"].as_array().unwrap().len() >= 3, "several sizes are compared");
    assert_eq!(convert["host_nodes"].as_array().unwrap().len(), 0);
    assert!(b.ok(&["completions", "bash"]).contains("oxrt"));
}

#[test]
fn diff_finds_a_changed_weight_and_cuts_it_out() {
    let b = Bench::new();
    let (a, wrong) = (b.path("a.onnx"), b.path("wrong.onnx"));
    b.ok(&["export", &example("digits/model.pt2"), "-o", &a, "--external-data", "64"]);
    assert!(b.ok(&["diff", &a]).contains("no node is beyond its budget"));
    assert!(b.ok(&["diff", &example("digits/model.pt2"), &a, "--mem", "1K"]).contains("in a temporary file"));
    // Another weight in the second file.
    std::fs::copy(&a, &wrong).unwrap();
    let mut weights = std::fs::read(b.path("a.onnx.data")).unwrap();
    let clean = weights.clone();
    let at = weights.len() / 2 / 4 * 4;
    weights[at..at + 4].copy_from_slice(&1.5f32.to_le_bytes());
    std::fs::create_dir(b.path("other")).unwrap();
    std::fs::rename(&wrong, b.path("other/wrong.onnx")).unwrap();
    std::fs::write(b.path("other/a.onnx.data"), &weights).unwrap();
    assert_ne!(clean, weights);
    let r = b.run(&["diff", &a, &b.path("other/wrong.onnx"), "--minimise", &b.path("small"), "--json"]);
    assert_eq!(r.code, Some(1), "{}{}", r.out, r.err);
    let report: serde_json::Value = serde_json::from_str(&r.out).unwrap();
    let fault = &report["report"]["fault"];
    assert!(fault["differing"][0].as_str().unwrap().contains("constant input 1"), "{fault}");
    assert!(fault["reference_nodes"][0]["location"].as_str().unwrap().contains("train.py"), "{fault}");
    assert_eq!(report["reproducer"]["reproduces"], true);
    assert!(report["nodes"].as_array().unwrap().iter().all(|n| n["error"].is_number()));
    // The small model alone shows it.
    let r = b.run(&["diff", &b.path("small.npz"), &b.path("small.onnx")]);
    assert_eq!(r.code, Some(1), "{}{}", r.out, r.err);
    assert!(b.ok(&["diff", &a, "--bisect-pass"]).contains("give the same outputs"));
    assert!(b.ok(&["diff", &a, "--non-finite"]).contains("every value is finite"));
    b.fails(&["diff", &b.path("small.npz")], &["nothing to compare with"]);
}

#[test]
fn simplify_extracts_renames_and_names_its_rules() {
    let b = Bench::new();
    let (a, part) = (b.path("a.onnx"), b.path("part.onnx"));
    b.ok(&["export", &example("digits/model.pt2"), "-o", &a]);
    let out = b.ok(&[
        "simplify",
        &a,
        "-o",
        &part,
        "--extract",
        "relu_2..output",
        "--input-name",
        "hidden",
        "--output-name",
        "output=logits",
        "--json",
    ]);
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        report["steps"].as_array().unwrap().len(),
        report["rules"].as_array().unwrap().iter().map(|r| r[1].as_u64().unwrap() as usize).sum::<usize>()
    );
    let inspected: serde_json::Value = serde_json::from_str(&b.ok(&["inspect", &part, "--json"])).unwrap();
    let text = inspected.to_string();
    assert!(text.contains("hidden") && text.contains("logits") && !text.contains("pixels"), "{text}");
    b.fails(&["simplify", &a, "--extract", "nothing..output"], &["no value `nothing`"]);
    b.fails(&["simplify", &a, "--disable-rule", "fuse-everything"], &["no rule `fuse-everything`", "fuse-conv-bn"]);
    // A rule of the engine, or of simplification, stays off where an engine is built.
    b.fails(&["build", &a, "--disable-rule", "fuse-everything"], &["no rule `fuse-everything`", "fuse-conv-bn"]);
    let engine = b.path("less.engine");
    let rules = |extra: &[&str]| b.ok(&[&["build", &a, "-o", &engine, "--no-tune", "--json"], extra].concat());
    assert!(
        rules(&[]).contains("fuse-activation")
            && !rules(&["--disable-rule", "fuse-activation"]).contains("fuse-activation")
    );
    b.ok(&["simplify", &a, "-o", &part, "--dim", "batch=3", "--opset", "22"]);
    assert!(b.ok(&["inspect", &part, "--json"]).contains("pixels f32[3, 1, 8, 8]"));
    b.ok(&["check", &part, "--for", "onnxruntime", "--for", "openvino"]);
    let r = b.run(&["check", &part, "--for", "onnxruntime=1.15"]);
    assert_eq!(r.code, Some(1), "{}", r.out);
    assert!(r.out.contains("newer than 19") && r.out.contains("convert-opset"), "{}", r.out);
    b.fails(&["check", &example("digits/model.pt2"), "--for", "openvino"], &["oxrt export"]);
    b.fails(&["check", &part, "--for", "onnxruntime=2"], &["1.x"]);
}
