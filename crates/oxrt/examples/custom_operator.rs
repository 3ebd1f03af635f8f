//! An operator of one's own, registered with a shape rule and an evaluation, in a model that an engine runs.

use oxrt::ops::{Datum, Eval, Infer, OpDef, registry};
use oxrt::{BuildOptions, Model, Result, Tensor, TensorView, ir};

fn infer(ctx: &mut Infer) -> Result<()> {
    let (dtype, dims) = (ctx.dtype(0)?, ctx.dims(0).map(<[_]>::to_vec));
    ctx.set(0, dtype, dims);
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let alpha = ctx.attrs().float_or("alpha", 0.0)?;
    let y: Vec<f32> = ctx.tensor(0)?.as_slice::<f32>().iter().map(|x| x + alpha).collect();
    Ok(vec![Tensor::from_slice(ctx.tensor(0)?.shape(), &y).into()])
}

static SHIFT: OpDef = OpDef::new("my.shift", &[1], 1..=1, infer, eval);

pub fn main() -> Result<()> {
    registry::register(&SHIFT)?;
    // The graph that importing a program with `torch.ops.my.shift(x, alpha=0.5).relu()` gives.
    let graph = ir::parse_graph("(f32[n, 2] x) { s = my.shift<alpha=0.5>(x) y = Relu(s) } => y")?;
    let mut model = ir::Model { graph, ..ir::Model::default() };
    model.symbols.declare(ir::Symbol::new("n"), ir::Range { min: 1, max: None });
    oxrt::ops::infer::infer_model(&mut model)?;
    let engine = Model::from_ir(model).build(&BuildOptions::default())?;
    let x = [-1.0f32, 2.0, -0.25, 0.0];
    let outputs = engine.run(&[("x", TensorView::of(&[2, 2], &x)?)])?;
    assert_eq!(outputs["y"].as_slice::<f32>(), [0.0, 2.5, 0.25, 0.5]);
    println!("{:?}", outputs["y"].as_slice::<f32>());
    Ok(())
}
