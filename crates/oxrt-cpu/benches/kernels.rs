//! Kernels under criterion: changes between two states of the tree, with their spread (`cargo bench -p oxrt-cpu -- gemm`). Shares of
//! the machine's ceilings are printed by the example `kernel_bench`.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use oxrt_cpu::compute::attention::{Attention, Strides};
use oxrt_cpu::compute::conv::{Conv, Filter, Operands};
use oxrt_cpu::compute::copy::StridedCopy;
use oxrt_cpu::compute::gemm::{self, Cut, Matrix, Out, Size};
use oxrt_cpu::compute::recurrent::{self, Cell, Columns, Layer, Weights};
use oxrt_cpu::compute::reduce;
use oxrt_cpu::compute::window::Window;
use oxrt_cpu::kernels::Kernels;
use oxrt_cpu::kernels::activation::Act;
use oxrt_cpu::kernels::reduce::Reduction;
use oxrt_cpu::pool::{ThreadPool, default_threads};
use std::ptr::null;

fn noise(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 2_654_435_761) >> 9 & 0xffff) as f32 / 65536.0 - 0.5).collect()
}

fn products(c: &mut Criterion) {
    let (kernels, pool) = (Kernels::best(), ThreadPool::shared(default_threads()));
    let mut group = c.benchmark_group("gemm");
    for (m, k, n) in [(1024, 1024, 1024), (128, 768, 3072), (3136, 64, 64), (1, 2048, 1000)] {
        let (a, b, mut out) = (noise(m * k), noise(k * n), vec![0.0; m * n]);
        let mut packed = vec![0.0; gemm::packed_len(kernels, k, n)];
        // SAFETY: the buffers have the sizes named.
        unsafe { gemm::pack(kernels, &pool, k, n, b.as_ptr(), n, 1, packed.as_mut_ptr()) };
        let size = Size::plain(m, n, k);
        let cut = Cut::choose(kernels, size, pool.threads());
        let rows = Matrix { data: a.as_ptr(), stride: k };
        let out = Out::plain(out.as_mut_ptr(), n);
        group.throughput(Throughput::Elements(2 * (m * k * n) as u64));
        group.bench_function(BenchmarkId::from_parameter(format!("{m}x{k}x{n}")), |b| {
            // SAFETY: as above.
            b.iter(|| unsafe { gemm::run(kernels, &pool, size, cut, &rows, packed.as_ptr(), out) })
        });
    }
}

fn convolutions(c: &mut Criterion) {
    let (kernels, pool) = (Kernels::best(), ThreadPool::shared(default_threads()));
    let mut group = c.benchmark_group("conv");
    for (side, cin, cout, k, groups) in
        [(56, 64, 64, 3, 1), (14, 256, 256, 3, 1), (56, 64, 256, 1, 1), (56, 144, 144, 3, 144)]
    {
        let window = Window::new(1, &[side; 2], &[k; 2], &[], &[], &[k / 2; 4], &[side; 2]).unwrap();
        let filter = Filter { cin, cout, groups, taps: k * k };
        let (x, w, bias) = (noise(side * side * cin), noise(cout * cin / groups * k * k), noise(cout));
        let mut packed = vec![0.0; filter.packed_len(kernels)];
        filter.pack(kernels, &w, &mut packed);
        let conv = Conv::new(kernels, filter, window, pool.threads());
        let (mut workspace, mut y) = (vec![0.0; conv.workspace_len()], vec![0.0; side * side * cout]);
        let op = Operands {
            x: x.as_ptr(),
            w: packed.as_ptr(),
            bias: bias.as_ptr(),
            residual: null(),
            y: y.as_mut_ptr(),
            y_step: cout,
            act: Act::Relu,
        };
        group.throughput(Throughput::Elements((2 * side * side * cout * cin / groups * k * k) as u64));
        group.bench_function(BenchmarkId::from_parameter(format!("{side}x{side} {cin}->{cout} k{k} g{groups}")), |b| {
            // SAFETY: the buffers have the layer's sizes.
            b.iter(|| unsafe { conv.run(&pool, &op, workspace.as_mut_ptr()) })
        });
    }
}

fn attention(c: &mut Criterion) {
    let (kernels, pool) = (Kernels::best(), ThreadPool::shared(default_threads()));
    let mut group = c.benchmark_group("attention");
    for rows in [128, 1024] {
        let (heads, dim) = (12, 64);
        let at = Strides { batch: rows * heads * dim, head: dim, row: heads * dim };
        let step = Attention {
            batch: 1,
            heads,
            kv_heads: heads,
            queries: rows,
            keys: rows,
            dim,
            value_dim: dim,
            scale: 0.125,
            softcap: 0.0,
            visible: rows,
            causal: None,
            q: at,
            k: at,
            v: at,
            out: at,
            mask: None,
        };
        let (q, mut out) = (noise(rows * heads * dim), vec![0.0; rows * heads * dim]);
        let mut workspace = vec![0.0; step.workspace_len(kernels)];
        group.throughput(Throughput::Elements(step.flops() as u64));
        group.bench_function(BenchmarkId::from_parameter(format!("12 heads, {rows} tokens")), |b| {
            let p = q.as_ptr();
            // SAFETY: the buffers have the sizes.
            b.iter(|| unsafe { step.run(kernels, &pool, p, p, p, null(), out.as_mut_ptr(), workspace.as_mut_ptr()) })
        });
    }
}

fn recurrences(c: &mut Criterion) {
    let (kernels, pool) = (Kernels::best(), ThreadPool::shared(default_threads()));
    let mut group = c.benchmark_group("lstm");
    for (steps, batch, hidden) in [(64, 4, 128), (100, 1, 256)] {
        let columns = Columns::of(kernels, None, Cell::Lstm, hidden);
        let n = columns.count();
        let pack = |seed: usize| {
            let ordered = columns.order(&noise(seed + 4 * hidden * hidden)[seed..], hidden);
            let mut packed = vec![0.0; gemm::packed_len(kernels, hidden, n)];
            // SAFETY: `n` rows of `hidden` floats, used transposed.
            unsafe { gemm::pack(kernels, &pool, hidden, n, ordered.as_ptr(), 1, hidden, packed.as_mut_ptr()) };
            packed
        };
        let (w, r, bias, x) = (pack(0), pack(1), vec![0.0f32; n], noise(steps * batch * hidden));
        let layer = Layer::new(kernels, None, Cell::Lstm, [steps, batch, hidden, hidden], pool.threads());
        let (mut y, mut workspace) =
            (vec![0.0f32; steps * batch * hidden], vec![0.0f32; layer.workspace_bytes().div_ceil(4)]);
        let op = recurrent::Operands {
            x: x.as_ptr(),
            w: Weights::F32(w.as_ptr()),
            r: Weights::F32(r.as_ptr()),
            bias: bias.as_ptr(),
            state_bias: null(),
            extras: None,
            h0: null(),
            c0: null(),
            lengths: null(),
            y: y.as_mut_ptr(),
            y_step: batch * hidden,
            y_h: std::ptr::null_mut(),
            y_c: std::ptr::null_mut(),
        };
        group.throughput(Throughput::Elements(layer.flops() as u64));
        group.bench_function(BenchmarkId::from_parameter(format!("{steps} steps of {batch} x {hidden}")), |b| {
            // SAFETY: the buffers have the layer's sizes.
            b.iter(|| unsafe { layer.run(kernels, &pool, &op, workspace.as_mut_ptr().cast()) })
        });
    }
}

fn memory(c: &mut Criterion) {
    let (kernels, pool) = (Kernels::best(), ThreadPool::shared(default_threads()));
    let side = 2048;
    let (x, mut y) = (noise(side * side), vec![0.0f32; side * side]);
    let (from, to) = (x.as_ptr(), y.as_mut_ptr());
    let mut group = c.benchmark_group("memory");
    group.throughput(Throughput::Bytes(8 * (side * side) as u64));
    let turn = StridedCopy::transpose(&[side, side], &[1, 0], 4);
    // SAFETY: both sides have the elements.
    group.bench_function("transpose", |b| b.iter(|| unsafe { turn.run(&pool, from.cast(), to.cast()) }));
    // SAFETY: as above.
    group.bench_function("softmax", |b| b.iter(|| unsafe { (kernels.softmax)(from, to, side, side) }));
    group.throughput(Throughput::Bytes(4 * (side * side) as u64));
    group.bench_function("sum of columns", |b| {
        // SAFETY: as above.
        b.iter(|| unsafe { reduce::reduce(kernels, &pool, Reduction::Sum, from, to, 1, side, side) })
    });
}

criterion_group!(benches, products, convolutions, attention, recurrences, memory);
criterion_main!(benches);
