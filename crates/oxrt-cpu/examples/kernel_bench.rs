//! Speed of the kernels, and their share of the machine's ceiling.
//!
//! `cargo run --release -p oxrt-cpu --example kernel_bench [-- threads [filter]]`

use oxrt_cpu::ceiling;
use oxrt_cpu::compute::attention::{Attention, Strides};
use oxrt_cpu::compute::conv::{Conv, Filter, Operands};
use oxrt_cpu::compute::gemm::{self, Cut, Matrix, Out, Size};
use oxrt_cpu::compute::gemm_bf16;
use oxrt_cpu::compute::window::Window;
use oxrt_cpu::compute::winograd::{self, Winograd};
use oxrt_cpu::kernels::Kernels;
use oxrt_cpu::kernels::activation::Act;
use oxrt_cpu::kernels::bf16::{self, Bf16Tile, Bf16Unit};
use oxrt_cpu::pool::ThreadPool;
use std::time::Instant;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let threads = args.first().and_then(|a| a.parse().ok()).unwrap_or(1);
    let filter = args.get(1).cloned().unwrap_or_default();
    let pool = ThreadPool::new(threads);
    let kernels: &'static Kernels = Kernels::best();
    println!("{} on {} threads", kernels.isa.name(), pool.threads());
    let wanted = |name: &str| name.contains(&filter);
    if wanted("gemm") {
        for (m, k, n) in [
            (1024, 1024, 1024),
            (128, 768, 768),
            (128, 768, 3072),
            (128, 3072, 768),
            (197, 768, 3072),
            (3136, 64, 64),
            (3136, 64, 256),
            (3136, 256, 64),
            (784, 512, 128),
            (196, 256, 1024),
            (196, 1024, 256),
            (49, 512, 2048),
            (49, 2048, 512),
            (1, 2048, 1000),
            (12544, 16, 16),
            (12544, 16, 64),
            (12544, 16, 96),
            (3136, 24, 144),
            (12544, 64, 24),
            (196, 112, 672),
        ] {
            bench_gemm(kernels, &pool, m, k, n);
        }
    }
    if wanted("bf16") {
        for unit in Bf16Unit::all() {
            for rows in [unit.mr, unit.mr - 1, unit.mr - 2, unit.mr - 3, unit.mr / 2] {
                println!("{}, {rows} rows in the first cache: {:.0} GFLOP/s", unit.name, tile_gflops(unit, rows));
            }
            for (m, k, n) in [
                (2048, 2048, 2048),
                (128, 768, 768),
                (128, 768, 3072),
                (128, 3072, 768),
                (3136, 64, 64),
                (784, 1152, 128),
            ] {
                bench_bf16(unit, &pool, m, k, n, false);
                bench_bf16(unit, &pool, m, k, n, true);
            }
        }
    }
    if wanted("cold") {
        for (m, k, n) in [(128, 768, 768), (128, 768, 3072), (128, 3072, 768), (197, 768, 3072), (49, 2048, 512)] {
            bench_cold(kernels, &pool, m, k, n);
        }
    }
    if wanted("conv") {
        for layer in LAYERS {
            bench_conv(kernels, &pool, layer);
        }
    }
    if wanted("winograd") {
        for layer in LAYERS {
            bench_winograd(kernels, &pool, layer);
        }
    }
    if wanted("attention") {
        bench_attention(kernels, &pool, 12, 128, 64);
        bench_attention(kernels, &pool, 12, 197, 64);
        bench_attention(kernels, &pool, 12, 1024, 64);
        bench_attention(kernels, &pool, 12, 4096, 64);
    }
    if wanted("memory") {
        println!("{:?}", ceiling::measure(kernels, &pool));
    }
}

/// One tile over and over, operands in the first cache.
fn tile_gflops(unit: &Bf16Unit, rows: usize) -> f64 {
    let k = 256;
    let (a, b) = (vec![0x3f80u16; unit.mr * (k + 32)], vec![0x3f80u16; k * bf16::NR]);
    let mut c = vec![0f32; unit.mr * bf16::NR];
    let tile =
        Bf16Tile { a: a.as_ptr(), a_stride: k + 32, rows, k, b: b.as_ptr(), c: c.as_mut_ptr(), accumulate: true };
    // SAFETY: the operands have the sizes that the tile says.
    let seconds = best(|| (0..1000).for_each(|_| unsafe { (unit.tile)(&tile) })) / 1000.0;
    (unit.release)();
    (2 * rows * bf16::NR * k) as f64 / seconds / 1e9
}

/// A product in bfloat16, with a left operand of single precision or narrowed before.
fn bench_bf16(unit: &'static Bf16Unit, pool: &ThreadPool, m: usize, k: usize, n: usize, narrowed: bool) {
    let a = noise(m * k);
    let mut halves = vec![0u16; m * k];
    // SAFETY: both have `m * k` values.
    unsafe { (unit.narrow)(a.as_ptr(), m * k, halves.as_mut_ptr()) };
    let mut packed = vec![0u16; gemm_bf16::packed_len(k, n)];
    gemm_bf16::pack(k, n, &noise(k * n), n, 1, &mut packed);
    let mut c = vec![0.0f32; m * n];
    let plan = gemm_bf16::Plan::new(unit, Size::plain(m, n, k), pool.threads(), narrowed.then_some(k));
    let mut workspace = vec![0u8; plan.workspace_bytes()];
    let out = gemm_bf16::Out {
        c: c.as_mut_ptr().cast(),
        c_half: false,
        c_stride: n,
        bias: std::ptr::null(),
        residual: std::ptr::null(),
        residual_half: false,
        residual_stride: n,
        act: Act::None,
    };
    let to = workspace.as_mut_ptr();
    // SAFETY: operands have the sizes that the plan was made for.
    let seconds = best(|| unsafe {
        if narrowed {
            let rows = Matrix { data: halves.as_ptr(), stride: k };
            gemm_bf16::run(unit, pool, &plan, &rows, packed.as_ptr(), &out, to);
        } else {
            let rows = Matrix { data: a.as_ptr(), stride: k };
            gemm_bf16::run(unit, pool, &plan, &rows, packed.as_ptr(), &out, to);
        }
    });
    let operand = if narrowed { "bf16" } else { "f32" };
    println!(
        "bf16 {m}x{k}x{n} from {operand}: {:8.1} us  {:6.1} GFLOP/s",
        seconds * 1e6,
        (2 * m * k * n) as f64 / seconds / 1e9
    );
}

/// A product whose weights come from memory every time, as those of a large network do.
fn bench_cold(kernels: &'static Kernels, pool: &ThreadPool, m: usize, k: usize, n: usize) {
    let (a, mut c) = (noise(m * k), vec![0.0f32; m * n]);
    let len = gemm::packed_len(kernels, k, n);
    let copies = (32usize << 20).div_ceil(len);
    let packed = noise(len * copies);
    let size = Size::plain(m, n, k);
    let cut = Cut::choose(kernels, size, pool.threads());
    let rows = Matrix { data: a.as_ptr(), stride: k };
    let out = Out::plain(c.as_mut_ptr(), n);
    let mut at = 0;
    report(kernels, pool, &format!("gemm {m}x{k}x{n} cold"), 2.0 * (m * k * n) as f64, || {
        at = (at + 1) % copies;
        // SAFETY: the buffers have the sizes named.
        unsafe { gemm::run(kernels, pool, size, cut, &rows, packed[at * len..].as_ptr(), out) }
    });
}

/// Input side, input channels, output channels, kernel side, stride, groups.
type Layer = (usize, usize, usize, usize, usize, usize);

/// Convolutions of ResNet-50, YOLOv3, U-Net, ViT and MobileNetV3.
const LAYERS: &[Layer] = &[
    (224, 3, 64, 7, 2, 1),
    (56, 64, 64, 3, 1, 1),
    (28, 128, 128, 3, 1, 1),
    (56, 128, 128, 3, 2, 1),
    (14, 256, 256, 3, 1, 1),
    (7, 512, 512, 3, 1, 1),
    (14, 512, 512, 3, 2, 1),
    (56, 256, 512, 1, 2, 1),
    (14, 1024, 2048, 1, 2, 1),
    (416, 3, 32, 3, 1, 1),
    (416, 32, 64, 3, 2, 1),
    (208, 32, 64, 3, 1, 1),
    (52, 128, 256, 3, 1, 1),
    (26, 256, 512, 3, 1, 1),
    (13, 512, 1024, 3, 1, 1),
    (256, 64, 64, 3, 1, 1),
    (224, 3, 768, 16, 16, 1),
    (112, 16, 16, 3, 1, 16),
    (112, 64, 64, 3, 2, 64),
    (56, 72, 72, 3, 1, 72),
    (28, 120, 120, 5, 1, 120),
    (14, 480, 480, 3, 1, 480),
    (14, 672, 672, 5, 2, 672),
    (7, 960, 960, 5, 1, 960),
];

fn bench_conv(kernels: &'static Kernels, pool: &ThreadPool, &(side, cin, cout, k, stride, groups): &Layer) {
    let pad = if k == stride { 0 } else { k / 2 };
    let out = Window::output_len(side, k, stride, 1, 2 * pad);
    let pads = [pad; 4];
    let window = Window::new(1, &[side, side], &[k, k], &[stride, stride], &[1, 1], &pads, &[out, out]).unwrap();
    let filter = Filter { cin, cout, groups, taps: k * k };
    let (x, w, bias) = (noise(side * side * cin), noise(cout * cin / groups * k * k), noise(cout));
    let mut packed = vec![0.0; filter.packed_len(kernels)];
    filter.pack(kernels, &w, &mut packed);
    let conv = Conv::new(kernels, filter, window, pool.threads());
    let mut workspace = vec![0.0; conv.workspace_len()];
    let mut y = vec![0.0; out * out * cout];
    let op = Operands {
        x: x.as_ptr(),
        w: packed.as_ptr(),
        bias: bias.as_ptr(),
        residual: std::ptr::null(),
        y: y.as_mut_ptr(),
        y_step: cout,
        act: Act::Relu,
    };
    let flops = 2.0 * (out * out * cout * cin / groups * k * k) as f64;
    report(kernels, pool, &format!("conv {side}x{side} {cin}->{cout} k{k} s{stride} g{groups}"), flops, || {
        // SAFETY: the buffers have the layer's sizes.
        unsafe { conv.run(pool, &op, workspace.as_mut_ptr()) }
    });
}

fn bench_winograd(kernels: &'static Kernels, pool: &ThreadPool, &(side, cin, cout, k, stride, groups): &Layer) {
    if (k, stride, groups) != (3, 1, 1) {
        return;
    }
    let window = Window::new(1, &[side, side], &[3, 3], &[], &[], &[1; 4], &[side, side]).unwrap();
    let filter = Filter { cin, cout, groups, taps: 9 };
    let (x, w, bias) = (noise(side * side * cin), noise(cout * cin * 9), noise(cout));
    for m in [2, 4] {
        let mut packed = vec![0.0; winograd::packed_len(kernels, &filter, m)];
        winograd::pack(kernels, pool, &filter, m, &w, &mut packed);
        let step = Winograd::new(kernels, filter, window, m, pool.threads());
        let mut workspace = vec![0.0; step.workspace_len()];
        let mut y = vec![0.0; side * side * cout];
        let op = Operands {
            x: x.as_ptr(),
            w: packed.as_ptr(),
            bias: bias.as_ptr(),
            residual: std::ptr::null(),
            y: y.as_mut_ptr(),
            y_step: cout,
            act: Act::Relu,
        };
        let flops = 2.0 * (side * side * cout * cin * 9) as f64;
        report(kernels, pool, &format!("winograd F({m}) {side}x{side} {cin}->{cout}"), flops, || {
            // SAFETY: the buffers have the layer's sizes.
            unsafe { step.run(pool, &op, workspace.as_mut_ptr()) }
        });
    }
}

fn bench_attention(kernels: &'static Kernels, pool: &ThreadPool, heads: usize, rows: usize, dim: usize) {
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
    let q = noise(rows * heads * dim);
    let mut out = q.clone();
    let mut workspace = vec![0.0; step.workspace_len(kernels)];
    report(kernels, pool, &format!("attention {heads} heads {rows}x{rows}x{dim}"), step.flops() as f64, || {
        let p = q.as_ptr();
        // SAFETY: the buffers have the sizes.
        unsafe { step.run(kernels, pool, p, p, p, std::ptr::null(), out.as_mut_ptr(), workspace.as_mut_ptr()) }
    });
}

/// Seconds: of this process's processor time with one thread, which other load does not disturb, and else of the clock.
fn now(pool: &ThreadPool) -> f64 {
    if pool.threads() > 1 {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        return START.get_or_init(Instant::now).elapsed().as_secs_f64();
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes the structure it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Prints the best and the median of the timed calls, and the best's share of the arithmetic ceiling.
fn report(kernels: &Kernels, pool: &ThreadPool, name: &str, flops: f64, mut f: impl FnMut()) {
    f();
    let start = now(pool);
    f();
    let once = now(pool) - start;
    let calls = (0.1 / once).clamp(5.0, 2000.0) as usize;
    let mut times: Vec<f64> = (0..calls)
        .map(|_| {
            let start = now(pool);
            f();
            now(pool) - start
        })
        .collect();
    times.sort_by(f64::total_cmp);
    static CEILING: std::sync::OnceLock<f64> = std::sync::OnceLock::new();
    let ceiling = *CEILING.get_or_init(|| ceiling::fma_gflops(kernels, pool));
    let rate = flops / times[0] / 1e9;
    println!(
        "{name:40} best {:9.1} us  median {:9.1} us  {rate:7.1} GFLOP/s  {:5.1} % of {ceiling:.0}",
        times[0] * 1e6,
        times[calls / 2] * 1e6,
        rate / ceiling * 100.0
    );
}

fn noise(n: usize) -> Vec<f32> {
    let mut state = 1u32;
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(1664525).wrapping_add(1013904223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

fn bench_gemm(kernels: &Kernels, pool: &ThreadPool, m: usize, k: usize, n: usize) {
    let (a, b, mut c) = (noise(m * k), noise(k * n), vec![0.0f32; m * n]);
    let mut packed = vec![0.0f32; gemm::packed_len(kernels, k, n)];
    // SAFETY: the buffers have the sizes named.
    unsafe { gemm::pack(kernels, pool, k, n, b.as_ptr(), n, 1, packed.as_mut_ptr()) };
    let size = Size::plain(m, n, k);
    let cut = Cut::choose(kernels, size, pool.threads());
    let rows = Matrix { data: a.as_ptr(), stride: k };
    let out = Out::plain(c.as_mut_ptr(), n);
    report(kernels, pool, &format!("gemm {m}x{k}x{n}"), 2.0 * (m * k * n) as f64, || {
        // SAFETY: as above.
        unsafe { gemm::run(kernels, pool, size, cut, &rows, packed.as_ptr(), out) }
    });
}

/// The shortest of several timings, in seconds.
fn best(mut f: impl FnMut()) -> f64 {
    let mut shortest = f64::INFINITY;
    let start = Instant::now();
    while start.elapsed().as_secs_f64() < 0.4 {
        let t = Instant::now();
        f();
        shortest = shortest.min(t.elapsed().as_secs_f64());
    }
    shortest
}
