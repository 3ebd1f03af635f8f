//! Threads of engines in one process.

#![cfg(target_os = "linux")]

use oxrt::{BuildOptions, Model, TensorView};
use std::path::PathBuf;

/// Threads of this process that help engines.
fn helpers() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|t| t.unwrap().path().join("comm"));
    tasks.filter(|comm| std::fs::read_to_string(comm).is_ok_and(|name| name.starts_with("oxrt-"))).count()
}

#[test]
fn engines_of_one_process_share_their_threads() {
    let model = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples/digits/model.pt2");
    let options = BuildOptions { threads: 3, ..Default::default() };
    let engines: Vec<_> = (0..4).map(|_| Model::open(&model).unwrap().build(&options).unwrap()).collect();
    let x: Vec<f32> = (0..640).map(|i| (i % 23) as f32 / 23.0).collect();
    let run = |engine: &oxrt::Engine| {
        engine.run(&[("pixels", TensorView::of(&[10, 1, 8, 8], &x).unwrap())]).unwrap()[0].clone()
    };
    let alone = run(&engines[0]);
    std::thread::scope(|scope| {
        for engine in &engines {
            scope.spawn(|| (0..50).for_each(|_| assert_eq!(run(engine), alone)));
        }
        assert_eq!(helpers(), 2);
    });
    assert_eq!(helpers(), 2);
    drop(engines);
    assert_eq!(helpers(), 0);
}
