//! Runs an ONNX model by the reference evaluator: `reference MODEL INPUTS OUTPUTS`, where the folders hold
//! `input_<i>.pb` and receive `output_<i>.pb`. Also checks that what inference says of a result holds.
//! Exit code 2: the model holds something unsupported.

use oxrt_onnx::{PbKind, datum_to_pb, load_datum, read_file};
use oxrt_ops::infer::{contradiction, infer_model};
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
    let results = Interpreter::new(g).run_observed(data, &|g, id, outputs| {
        contradiction(g, id, outputs, false).map_or(Ok(()), |p| Err(Error::bug(p)))
    })?;
    for (i, (&v, datum)) in g.outputs.iter().zip(&results).enumerate() {
        let path = outputs.join(format!("output_{i}.pb"));
        std::fs::write(&path, datum_to_pb(&g[v].name, datum)).at(|| path.display())?;
    }
    Ok(())
}
