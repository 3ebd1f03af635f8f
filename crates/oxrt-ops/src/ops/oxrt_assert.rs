//! `oxrt.Assert(condition)`: an error with the attribute `message` unless every element of the bool tensor is true. It
//! has no result, so no pass takes it for dead. In ONNX files it is a call of a function that passes a value through
//! (`docs/decisions/0013-assertions.md`).

use crate::def::OpDef;
use crate::eval::Eval;
use crate::infer::Infer;
use oxrt_tensor::{DType, Error, Result, bail};

pub const OP: OpDef = OpDef::new("oxrt.Assert", &[1], 1..=1, infer, eval).examples(&[(
    "(bool c, f32 x) { oxrt.Assert<message=\"x must be small\">(c); y = Neg(x) } => y",
    &["c = 1", "x = 2"],
    "-2",
)]);

fn infer(ctx: &mut Infer) -> Result<()> {
    match ctx.dtype(0)? {
        DType::Bool => Ok(()),
        other => bail!(invalid, "a condition of {other} elements; bool is needed"),
    }
}

fn eval(ctx: &Eval) -> Result<Vec<crate::eval::Datum>> {
    let holds = ctx.tensor(0)?.bytes().iter().all(|&b| b != 0);
    if holds {
        return Ok(Vec::new());
    }
    let message = ctx.node.attrs.string_or("message", "")?;
    let message = if message.is_empty() { String::new() } else { format!(": {message}") };
    Err(Error::invalid(format!("a check of the model failed{message}"))
        .help("the input breaks an assertion in the model's code; `--no-checks` leaves such checks out"))
}

#[cfg(test)]
mod tests {
    use crate::{DType, Interpreter, Tensor};
    use oxrt_ir::parse_graph;

    fn run(condition: &[bool]) -> crate::Result<Vec<crate::Datum>> {
        let text = r#"(bool[n] c, f32 x) { oxrt.Assert<message="k is too large">(c); y = Neg(x) } => y"#;
        let mut graph = parse_graph(text)?;
        crate::infer::infer_graph(&mut graph, &mut Default::default())?;
        // The check has no result and is not dead all the same.
        assert_eq!(graph.remove_dead_nodes(), 0);
        let c: Vec<u8> = condition.iter().map(|&b| b as u8).collect();
        let c = Tensor::from_bytes(DType::Bool, &[c.len()], &c)?;
        Interpreter::new(&graph).run(vec![c.into(), Tensor::scalar(1f32).into()])
    }

    #[test]
    fn every_element_must_hold() {
        assert_eq!(run(&[true, true]).unwrap().len(), 1);
        assert_eq!(run(&[]).unwrap().len(), 1);
        let e = run(&[true, false]).unwrap_err().to_string();
        assert!(e.contains("k is too large"), "{e}");
    }
}
