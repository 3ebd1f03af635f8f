//! Runs an ONNX model by the reference evaluator: `reference MODEL INPUTS OUTPUTS`, where the folders hold
//! `input_<i>.pb` and receive `output_<i>.pb`. Also checks that what inference says of a result holds.
//! Exit code 2: the model holds something unsupported.

use oxrt_ir::{Graph, NodeId, ValueType};
use oxrt_onnx::{PbKind, datum_to_pb, load_datum, read_file};
use oxrt_ops::infer::infer_model;
use oxrt_ops::{Datum, Interpreter};
use oxrt_tensor::{Context, Error, Kind, Result};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let [_, model, inputs, outputs] = &args[..] else {
        eprintln!("usage: reference MODEL INPUTS OUTPUTS");
        return ExitCode::FAILURE;
    };
    match run(Path::new(model), Path::new(inputs), Path::new(outputs)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{}", e.to_string().replace('\n', "; "));
            if e.kind() == Kind::Unsupported { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

fn run(model: &Path, inputs: &Path, outputs: &Path) -> Result<()> {
    let mut model = read_file(model)?;
    infer_model(&mut model)?;
    let g = &model.graph;
    let data: Vec<Datum> = g
        .inputs
        .iter()
        .enumerate()
        .map(|(i, &v)| load_datum(&inputs.join(format!("input_{i}.pb")), PbKind::of(&g[v].ty)))
        .collect::<Result<_>>()?;
    let results = Interpreter::new(g).run_observed(data, &mut |id, outputs| check(g, id, outputs))?;
    for (i, (&v, datum)) in g.outputs.iter().zip(&results).enumerate() {
        let path = outputs.join(format!("output_{i}.pb"));
        std::fs::write(&path, datum_to_pb(&g[v].name, datum)).at(|| path.display())?;
    }
    Ok(())
}

/// Whether the inferred types and contents agree with the results.
fn check(g: &Graph, id: NodeId, outputs: &[Datum]) -> Result<()> {
    for (v, datum) in g[id].outputs().iter().zip(outputs) {
        let (Some(v), Datum::Tensor(t)) = (v, datum) else { continue };
        let problem = match &g[*v].ty {
            ValueType::Tensor(told) => {
                let dims = told.dims.as_ref().is_none_or(|d| {
                    d.len() == t.rank()
                        && d.iter().zip(t.shape()).all(|(d, &s)| d.as_const().is_none_or(|d| d == s as i64))
                });
                let known = g[*v].contents.as_ref().and_then(|c| c.to_tensor(t.dtype()));
                (told.dtype != t.dtype() || !dims || known.is_some_and(|k| k != *t)).then(|| told.to_string())
            }
            ValueType::Unknown => None,
            other => Some(other.to_string()),
        };
        if let Some(told) = problem {
            return Err(Error::bug(format!("inferred {told}, evaluated {t:?}")).at(g[id].describe()));
        }
    }
    Ok(())
}
