//! Speaks the command-peer protocol of the side-by-side benchmark through the public library alone.
//!
//! `bench_peer MODEL.onnx INPUTS_DIR THREADS [fp32|bf16]` (or an engine that was built before) prints `ready LOAD_S`, answers each line
//! `go K` with the median milliseconds of K runs, and on `out DIR` writes its outputs there as `outI.bin`.
//! `size D0 D1 …` runs once with zeros of another shape as the only input, and is answered with the milliseconds.
//! `INPUTS_DIR` holds `inI.bin` (raw, C order) and `inI.txt` (`dtype dim dim …`, numpy's names).

use oxrt::{BuildOptions, DType, Engine, Error, Model, Precision, Result, SimplifyOptions, Tensor, TensorView, Tuning};
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

fn read_inputs(dir: &Path) -> Result<Vec<Tensor>> {
    let mut inputs = Vec::new();
    for i in 0.. {
        let Ok(head) = std::fs::read_to_string(dir.join(format!("in{i}.txt"))) else { break };
        let mut words = head.split_whitespace();
        let dtype = match words.next() {
            Some("float32") => DType::F32,
            Some("int64") => DType::I64,
            Some("int32") => DType::I32,
            Some("bool") => DType::Bool,
            Some("float64") => DType::F64,
            Some("float16") => DType::F16,
            Some("uint8") => DType::U8,
            Some("int8") => DType::I8,
            other => return Err(Error::unsupported(format!("input type {other:?}"))),
        };
        let shape: Vec<usize> = words.filter_map(|w| w.parse().ok()).collect();
        inputs.push(Tensor::from_bytes(dtype, &shape, &std::fs::read(dir.join(format!("in{i}.bin")))?)?);
    }
    Ok(inputs)
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let [_, model, dir, threads, rest @ ..] = &args[..] else {
        return Err(Error::invalid("usage: bench_peer MODEL.onnx INPUTS_DIR THREADS [fp32|bf16]"));
    };
    let precision = rest.first().map_or(Ok(Precision::F32), |p| p.parse())?;
    let inputs = read_inputs(Path::new(dir))?;
    let views = inputs.iter().map(Tensor::view).collect::<Result<Vec<TensorView>>>()?;

    let start = Instant::now();
    let threads = threads.parse().map_err(|_| Error::invalid("THREADS is a number"))?;
    let engine = if model.ends_with(".engine") {
        Engine::open_with(model, threads)?
    } else {
        let options = SimplifyOptions { no_check: true, ..Default::default() };
        let (model, _) = Model::open(model)?.simplify(&options)?;
        model.build(&BuildOptions { threads, precision, tuning: Tuning::Measure, ..Default::default() })?
    };
    let mut session = engine.session();
    session.run_ordered(&views)?;
    println!("ready {:.3}", start.elapsed().as_secs_f64());

    for line in std::io::stdin().lock().lines() {
        let line = line?;
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["go", k] => {
                let k: usize = k.parse().map_err(|_| Error::invalid("go takes a number"))?;
                let mut times = Vec::with_capacity(k);
                for _ in 0..k.max(1) {
                    let t = Instant::now();
                    session.run_ordered(&views)?;
                    times.push(t.elapsed().as_secs_f64() * 1e3);
                }
                times.sort_by(f64::total_cmp);
                println!("{:.4}", times[times.len() / 2]);
            }
            ["size", ref shape @ ..] => {
                let shape = shape.iter().map(|d| d.parse::<usize>());
                let shape: Vec<usize> =
                    shape.collect::<std::result::Result<_, _>>().map_err(|e| Error::invalid(e.to_string()))?;
                let dtype = inputs[0].dtype();
                let bytes = vec![0; dtype.bytes_for(shape.iter().product())];
                let input = Tensor::from_bytes(dtype, &shape, &bytes)?;
                let view = input.view()?;
                let t = Instant::now();
                session.run_ordered(&[view])?;
                println!("{:.4}", t.elapsed().as_secs_f64() * 1e3);
            }
            ["out", to] => {
                for (i, out) in session.run_ordered(&views)?.iter().enumerate() {
                    std::fs::write(Path::new(to).join(format!("out{i}.bin")), out.bytes())?;
                }
                println!("ok");
            }
            _ => break,
        }
        std::io::stdout().flush()?;
    }
    Ok(())
}
