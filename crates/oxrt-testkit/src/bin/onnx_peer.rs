//! Judges models that another process draws: reads requests from standard input, answers on standard output.
//!
//! A request is a list of blobs, each with its length before it (u32, little endian, as is the number of blobs):
//! a JSON header, the model, `inputs` messages (TensorProto, SequenceProto or OptionalProto, by the types of the
//! model), and the outputs to compare with, as many as there are. Without them the engine is compared with the
//! reference evaluator. The answer is one JSON object, its length before it: for each way of running the model
//! (`fixed`, `shared`, `free`, `reference`) null when all is well, else `[kind, text]` with the kind `differs`,
//! `declined`, `error` or `panic`.

use oxrt::onnx::{PbKind, datum_from_pb, read_bytes};
use oxrt::ops::Datum;
use oxrt::{Kind, Result};
use oxrt_testkit::compare::{Tolerance, difference};
use oxrt_testkit::guard::guarded;
use oxrt_testkit::run::{Sizes, read_with_sizes, run_engine, run_reference};
use serde::Deserialize;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Time for one model, one way.
const LIMIT: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
struct Header {
    inputs: usize,
    rtol: f64,
    atol: f64,
    /// Further tolerance, as a part of the largest element of an output: rounding of one element may show in another.
    largest: f64,
}

struct Request {
    header: Header,
    model: Vec<u8>,
    inputs: Vec<Vec<u8>>,
    outputs: Vec<Vec<u8>>,
}

fn main() -> ExitCode {
    let (mut input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    loop {
        let request = match read_request(&mut input) {
            Ok(Some(request)) => Arc::new(request),
            Ok(None) => return ExitCode::SUCCESS,
            Err(e) => {
                eprintln!("onnx_peer: {e}");
                return ExitCode::FAILURE;
            }
        };
        let answer = judge(&request).to_string();
        let written = output
            .write_all(&(answer.len() as u32).to_le_bytes())
            .and_then(|()| output.write_all(answer.as_bytes()))
            .and_then(|()| output.flush());
        if written.is_err() {
            return ExitCode::FAILURE;
        }
    }
}

fn read_request(from: &mut impl Read) -> std::io::Result<Option<Request>> {
    let number = |from: &mut dyn Read| -> std::io::Result<usize> {
        let mut bytes = [0; 4];
        from.read_exact(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes) as usize)
    };
    let count = match number(from) {
        Ok(count) => count,
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut blobs = std::collections::VecDeque::new();
    for _ in 0..count {
        let mut blob = vec![0; number(from)?];
        from.read_exact(&mut blob)?;
        blobs.push_back(blob);
    }
    let short = || std::io::Error::other("a request without header or model");
    let header: Header = serde_json::from_slice(&blobs.pop_front().ok_or_else(short)?)?;
    let model = blobs.pop_front().ok_or_else(short)?;
    let inputs: Vec<Vec<u8>> = blobs.drain(..header.inputs.min(blobs.len())).collect();
    Ok(Some(Request { header, model, inputs, outputs: blobs.into() }))
}

fn judge(request: &Arc<Request>) -> Value {
    let own = request.clone();
    let reference = guarded(LIMIT, move || reference(&own));
    // What the engine is held against when the other side has no answer.
    let fallback = match &reference {
        Ok(Ok(outputs)) => Some(outputs.clone()),
        _ => None,
    };
    let mut answer = json!({});
    for (name, sizes) in [("fixed", Sizes::Fixed), ("shared", Sizes::Shared), ("free", Sizes::Free)] {
        let (own, fallback) = (request.clone(), fallback.clone());
        let result = guarded(LIMIT, move || {
            let (declared, inputs) = read(&own)?;
            let model = if sizes == Sizes::Fixed { declared.clone() } else { read_with_sizes(&own.model, sizes)? };
            let threads = if sizes == Sizes::Shared { 2 } else { 1 };
            let (_, got) = run_engine(model, &inputs, threads, oxrt::Device::Cpu)?;
            match wanted(&own, &declared)?.or(fallback) {
                Some(want) => Ok(difference(&got, &want, tolerance(&own.header))),
                None => Ok(None),
            }
        });
        answer[name] = verdict(result);
    }
    let own = request.clone();
    answer["reference"] = verdict(match reference {
        Err(e) => Err(e),
        Ok(Err(e)) => Ok(Err(e)),
        Ok(Ok(got)) => guarded(LIMIT, move || {
            let (declared, _) = read(&own)?;
            Ok(wanted(&own, &declared)?.and_then(|want| difference(&got, &want, tolerance(&own.header))))
        }),
    });
    answer
}

fn tolerance(header: &Header) -> Tolerance {
    Tolerance { rtol: header.rtol, atol: header.atol, largest: header.largest, types_only: false }
}

fn verdict(result: std::result::Result<Result<Option<String>>, String>) -> Value {
    match result {
        Ok(Ok(None)) => Value::Null,
        Ok(Ok(Some(text))) => json!(["differs", text]),
        Ok(Err(e)) if e.kind() == Kind::Unsupported => json!(["declined", e.to_string()]),
        Ok(Err(e)) => json!(["error", e.to_string()]),
        Err(text) => json!(["panic", text]),
    }
}

/// The model as it is, and the values of its inputs.
fn read(request: &Request) -> Result<(oxrt::ir::Model, Vec<Datum>)> {
    let model = read_bytes(&request.model)?;
    let g = &model.graph;
    let inputs = g.inputs.iter().zip(&request.inputs).map(|(&v, bytes)| datum_from_pb(bytes, PbKind::of(&g[v].ty)));
    let inputs = inputs.collect::<Result<_>>()?;
    Ok((model, inputs))
}

fn wanted(request: &Request, model: &oxrt::ir::Model) -> Result<Option<Vec<Datum>>> {
    if request.outputs.is_empty() {
        return Ok(None);
    }
    let g = &model.graph;
    let outputs = g.outputs.iter().zip(&request.outputs).map(|(&v, bytes)| datum_from_pb(bytes, PbKind::of(&g[v].ty)));
    outputs.collect::<Result<_>>().map(Some)
}

fn reference(request: &Request) -> Result<Vec<Datum>> {
    let (model, inputs) = read(request)?;
    run_reference(&model, &inputs).map(|(outputs, _)| outputs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        let mut bytes = 4u32.to_le_bytes().to_vec();
        for blob in [&br#"{"inputs": 1, "rtol": 0, "atol": 0, "largest": 0}"#[..], b"model", b"in", b"out"] {
            bytes.extend((blob.len() as u32).to_le_bytes());
            bytes.extend(blob);
        }
        let mut from = &bytes[..];
        let r = read_request(&mut from).unwrap().unwrap();
        assert_eq!((r.model, r.inputs, r.outputs), (b"model".to_vec(), vec![b"in".to_vec()], vec![b"out".to_vec()]));
        assert!(read_request(&mut from).unwrap().is_none());
        assert!(read_request(&mut &bytes[..30]).is_err());
    }

    #[test]
    fn a_model_that_is_none_is_an_error() {
        let header = Header { inputs: 0, rtol: 0.0, atol: 0.0, largest: 0.0 };
        let answer = judge(&Arc::new(Request { header, model: b"no".to_vec(), inputs: vec![], outputs: vec![] }));
        assert!(answer["fixed"][0] == "error" && answer["reference"][0] == "error", "{answer}");
    }
}
