use super::*;
use crate::testing::{close, every_tier, noise};
use oxrt_ops::scalar::{Binary, Unary, broadcast_each};

/// Runs the program on floats of the shapes, against its definition in f64.
fn check(program: &str, output: &[usize], shapes: &[&[usize]], special: bool) {
    let program: Program = program.parse().unwrap();
    let pool = ThreadPool::new(2);
    let data: Vec<Vec<f32>> = shapes
        .iter()
        .enumerate()
        .map(|(i, shape)| {
            let mut v = noise(shape.iter().product(), i as u32 + 1);
            v.iter_mut().for_each(|x| *x *= 3.0);
            if special {
                for (x, y) in
                    v.iter_mut().step_by(3 + i).zip([f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, 1e-40])
                {
                    *x = y;
                }
            }
            v
        })
        .collect();
    let mut want = Vec::new();
    let mut scratch = Vec::new();
    broadcast_each(output, shapes, |at| {
        let args: Vec<f64> = data.iter().zip(at).map(|(d, &i)| d[i].into()).collect();
        want.push(f64::from(program.eval_f64(&args, &mut scratch) as f32));
        Ok(())
    })
    .unwrap();
    every_tier(|kernels| {
        let operands: Vec<_> = shapes.iter().map(|s| (*s, Format::F32)).collect();
        let bound = Elementwise::new(kernels, &program, output, &operands, Format::F32, 2).unwrap();
        let mut got = vec![5.0f32; want.len() + 16];
        let inputs: Vec<*const u8> = data.iter().map(|d| d.as_ptr().cast()).collect();
        // SAFETY: the buffers have the shapes' sizes.
        unsafe { bound.run(&pool, &inputs, got.as_mut_ptr().cast()) };
        assert!(got[want.len()..].iter().all(|&v| v == 5.0), "stores behind the result");
        close(&got[..want.len()], &want, 2e-6, 2e-6, &format!("{program} {shapes:?} on {}", kernels.isa.name()));
    });
}

#[test]
fn every_instruction_of_one_operand() {
    for op in Unary::ALL {
        if *op == Unary::BitNot {
            continue;
        }
        for n in [0, 1, 7, 16, 17, 511, 512, 513, 1031] {
            check(
                &format!("in 0; {} 0", op.text()),
                &[n],
                &[&[n]],
                !matches!(op, Unary::Sin | Unary::Cos | Unary::Tan),
            );
        }
    }
}

#[test]
fn every_instruction_of_two_operands() {
    for op in Binary::ALL {
        use Binary::*;
        if matches!(op, BitAnd | BitOr | BitXor | Shl | Shr) {
            continue;
        }
        for shapes in [[&[37usize][..], &[37]], [&[37], &[]], [&[], &[37]], [&[1], &[1]]] {
            let n: usize = shapes.iter().map(|s| s.iter().product()).max().unwrap_or(1);
            check(&format!("in 0; in 1; {} 0 1", op.text()), &[n], &shapes, true);
        }
    }
}

#[test]
fn broadcasts_of_every_kind() {
    let fma = "in 0; in 1; in 2; mul 0 1; add 3 2";
    check(fma, &[2, 3, 5, 7], &[&[2, 3, 5, 7], &[3, 1, 1], &[7]], false);
    check(fma, &[2, 600, 16], &[&[2, 600, 16], &[2, 1, 16], &[16]], false);
    check(fma, &[2, 600, 16], &[&[2, 600, 1], &[1, 600, 16], &[2, 1, 1]], false);
    check(fma, &[1300], &[&[1300], &[1], &[]], false);
    check(fma, &[3, 1300], &[&[3, 1], &[1300], &[3, 1300]], false);
    check(fma, &[70_000], &[&[70_000], &[1], &[]], false);
    check(fma, &[300, 300], &[&[300, 300], &[300], &[300, 1]], false);
    check(fma, &[], &[&[], &[], &[]], false);
    check("in 0", &[4, 5], &[&[5]], false);
    check("const 2.5", &[4, 5], &[], false);
    check(
        "in 0; const 2.0; pow 0 1; const 3.0; pow 0 3; add 2 4; in 1; select 6 5 0",
        &[4, 50],
        &[&[4, 50], &[4, 1]],
        false,
    );
}

/// Chains of short instructions: of one operand and two on either side, from values, results that are read twice, and tiles
/// that are used again.
#[test]
fn chains_are_their_instructions() {
    let short = "neg abs sqrt recip floor ceil round add sub mul div min max";
    for op in short.split(' ') {
        let two = matches!(op, "add" | "sub" | "mul" | "div" | "min" | "max");
        let forms: &[&str] = if two { &["OP 3 1", "OP 1 3", "OP 3 0", "OP 2 3"] } else { &["OP 3"] };
        for form in forms {
            let last = form.replace("OP", op);
            let program = format!("in 0; in 1; const 0.75; add 0 1; {last}; sub 4 2");
            for n in [1, 15, 16, 127, 128, 129, 511, 512, 1031] {
                check(&program, &[n], &[&[n], &[n]], op != "sqrt");
            }
            check(&program, &[9, 33], &[&[9, 33], &[33]], false);
            check(&program, &[9, 33], &[&[9, 1], &[9, 33]], false);
            check(&program, &[700], &[&[], &[700]], false);
        }
    }
    // Read twice: not in the middle of a chain.
    check("in 0; const 1.5; mul 0 1; add 2 1; mul 3 3; sub 4 2; abs 5; max 6 3", &[1031], &[&[1031]], true);
    check("in 0; in 1; add 0 1; sub 0 1; mul 2 3; neg 4; tanh 5; add 6 0; min 7 1", &[1031], &[&[1031], &[1031]], true);
    let long: String = (2..150).map(|i| format!("; {} {i} 1", ["add", "mul", "sub"][i % 3])).collect();
    check(&format!("in 0; const 0.5; add 0 1{long}"), &[600], &[&[600]], false);
}

#[test]
fn other_formats_are_converted_on_the_way() {
    let pool = ThreadPool::new(1);
    let program: Program = "in 0; in 1; in 2; select 2 0 1".parse().unwrap();
    every_tier(|kernels| {
        let n = 37;
        let a: Vec<half::f16> = noise(n, 1).iter().map(|&v| half::f16::from_f32(v)).collect();
        let b: Vec<half::bf16> = noise(n, 2).iter().map(|&v| half::bf16::from_f32(v)).collect();
        let c: Vec<u8> = (0..n).map(|i| (i % 3 == 0) as u8).collect();
        let mut out = vec![half::f16::ZERO; n];
        let operands: [(&[usize], Format); 3] = [(&[n], Format::F16), (&[n], Format::Bf16), (&[n], Format::Bool)];
        let bound = Elementwise::new(kernels, &program, &[n], &operands, Format::F16, 1).unwrap();
        let inputs = [a.as_ptr().cast(), b.as_ptr().cast(), c.as_ptr()];
        // SAFETY: the buffers have the shapes' sizes.
        unsafe { bound.run(&pool, &inputs, out.as_mut_ptr().cast()) };
        for i in 0..n {
            let want = if c[i] != 0 { a[i] } else { half::f16::from_f32(b[i].to_f32()) };
            assert_eq!(out[i], want);
        }
    });
}
