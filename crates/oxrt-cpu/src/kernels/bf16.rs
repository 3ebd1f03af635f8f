//! Matrix products of bfloat16 with sums in single precision, on the units that CPUs have for them.
//!
//! Both units read one layout, so an engine moves between them: the left operand is a plain matrix of bfloat16 whose rows
//! are a multiple of the unit's step long; the right operand, of a multiple of [`KB`] rows, lies in panels of [`NR`] columns,
//! two steps of the inner product side by side (the order of `VDPBF16PS` and `TDPBF16PS`):
//!
//! ```text
//! panel:  k=0,1  [b00 b10][b01 b11] … NR pairs
//!         k=2,3  [b20 b30][b21 b31] …
//! ```
//!
//! Products are exact in single precision; the units sum pairs and treat subnormal numbers as zero (Intel SDM,
//! `VDPBF16PS`).

use super::activation::Act;

/// Columns of a panel.
pub const NR: usize = 32;
/// Steps of the inner product that a unit takes at once: rows are padded to a multiple of it.
pub const KB: usize = 32;

/// One call of a unit: `c[rows, NR] (+)= a[rows, k] b[k, NR]`.
#[derive(Clone, Copy, Debug)]
pub struct Bf16Tile {
    /// Rows of bfloat16.
    pub a: *const u16,
    /// Elements from one row to the next.
    pub a_stride: usize,
    /// Rows, at most the unit's.
    pub rows: usize,
    /// Length of the inner product, a multiple of the unit's step.
    pub k: usize,
    /// The panel, from the first step on.
    pub b: *const u16,
    /// The sums, [`NR`] floats per row.
    pub c: *mut f32,
    /// Adds to what `c` holds.
    pub accumulate: bool,
}

/// A tile of sums on its way to the result.
#[derive(Clone, Copy, Debug)]
pub struct Bf16Finish {
    /// The sums, [`NR`] floats per row; they are overwritten.
    pub sums: *mut f32,
    /// Rows.
    pub rows: usize,
    /// Columns to write, at most [`NR`].
    pub cols: usize,
    /// One float per column, or null.
    pub bias: *const f32,
    /// Added before the activation, or null.
    pub residual: *const u8,
    /// Whether the residual is bfloat16 and not single precision.
    pub residual_half: bool,
    /// Elements from one residual row to the next.
    pub residual_stride: usize,
    /// The activation.
    pub act: Act,
    /// The result.
    pub out: *mut u8,
    /// Whether the result is bfloat16 and not single precision.
    pub out_half: bool,
    /// Elements from one result row to the next.
    pub out_stride: usize,
}

/// A unit that multiplies bfloat16.
#[derive(Clone, Copy)]
pub struct Bf16Unit {
    /// `avx512_bf16`, `amx_bf16`.
    pub name: &'static str,
    /// Rows of its largest tile.
    pub mr: usize,
    /// Inner products are multiples of this long; a divisor of [`KB`].
    pub step: usize,
    /// The product.
    ///
    /// # Safety
    /// The pointers cover what [`Bf16Tile`] says.
    pub tile: unsafe fn(&Bf16Tile),
    /// Single precision to bfloat16, ties to even: `n` values.
    ///
    /// # Safety
    /// `n` values are readable and writable.
    pub narrow: unsafe fn(*const f32, usize, *mut u16),
    /// Bias, residual, activation, store.
    ///
    /// # Safety
    /// The pointers cover what [`Bf16Finish`] says.
    pub finish: unsafe fn(&Bf16Finish),
    /// To be called by a thread after its last tile, so that the state of the unit does not burden the system.
    pub release: fn(),
}

impl std::fmt::Debug for Bf16Unit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Bf16Unit {
    /// The units of this CPU, the best first. (`OXRT_BF16` names the only one to take, for tests and comparisons.)
    pub fn all() -> &'static [Bf16Unit] {
        #[cfg(target_arch = "x86_64")]
        {
            static UNITS: std::sync::OnceLock<Vec<Bf16Unit>> = std::sync::OnceLock::new();
            UNITS.get_or_init(|| {
                let only = std::env::var("OXRT_BF16").ok();
                let wanted = |unit: &Bf16Unit| only.as_deref().is_none_or(|name| name == unit.name);
                [amx::unit(), avx512::unit()].into_iter().flatten().filter(wanted).collect()
            })
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            &[]
        }
    }

    /// The best unit, or `None` where the CPU has none.
    pub fn best() -> Option<&'static Bf16Unit> {
        Bf16Unit::all().first()
    }
}

/// `VDPBF16PS`: a pair of products per lane and instruction.
#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::*;
    use crate::kernels::activation::{ClipMap, HardSwishMap, LeakyMap, Map, activate};
    use crate::kernels::gemm::sums;
    use crate::simd::{Avx512, Isa, Simd};
    use core::arch::x86_64::*;

    /// Rows of a tile: 28 sums, two vectors of the panel, and the left operand from memory.
    const MR: usize = 14;

    pub(super) fn unit() -> Option<Bf16Unit> {
        (Isa::detect() == Isa::Avx512 && is_x86_feature_detected!("avx512bf16")).then_some(Bf16Unit {
            name: "avx512_bf16",
            mr: MR,
            step: 8,
            tile,
            narrow,
            finish,
            release: || (),
        })
    }

    macro_rules! features {
        ($($item:item)+) => {$(
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")]
            $item
        )+};
    }

    features! {
        unsafe fn rows<const R: usize, const U: usize>(t: &Bf16Tile) {
            // SAFETY: the caller's promise covers the operands; the unit exists only where the CPU has the instructions.
            unsafe {
                let mut acc = [[[_mm512_setzero_ps(); 2]; R]; U];
                if t.accumulate {
                    for (i, row) in acc[0].iter_mut().enumerate() {
                        for (j, v) in row.iter_mut().enumerate() {
                            *v = _mm512_loadu_ps(t.c.add(i * NR + j * 16));
                        }
                    }
                }
                let mut b = t.b;
                let mut a = t.a;
                macro_rules! step {
                    ($u:literal) => {{
                        let b0: __m512bh = core::mem::transmute(_mm512_loadu_si512(b.add($u * 2 * NR).cast()));
                        let b1: __m512bh = core::mem::transmute(_mm512_loadu_si512(b.add($u * 2 * NR + NR).cast()));
                        for i in 0..R {
                            let pair = a.add(i * t.a_stride + 2 * $u).cast::<i32>().read_unaligned();
                            let pair: __m512bh = core::mem::transmute(_mm512_set1_epi32(pair));
                            acc[$u % U][i][0] = _mm512_dpbf16_ps(acc[$u % U][i][0], pair, b0);
                            acc[$u % U][i][1] = _mm512_dpbf16_ps(acc[$u % U][i][1], pair, b1);
                        }
                    }};
                }
                if U > 1 {
                    for _ in 0..t.k / 8 {
                        step!(0);
                        step!(1);
                        step!(2);
                        step!(3);
                        a = a.add(8);
                        b = b.add(8 * NR);
                    }
                    for u in 1..U {
                        for i in 0..R {
                            for j in 0..2 {
                                acc[0][i][j] = _mm512_add_ps(acc[0][i][j], acc[u][i][j]);
                            }
                        }
                    }
                } else {
                    // Not unrolled by hand: the compiler would hold four vectors of the panel, and spill sums for them.
                    for _ in 0..t.k / 2 {
                        step!(0);
                        a = a.add(2);
                        b = b.add(2 * NR);
                    }
                }
                for (i, row) in acc[0].iter().enumerate() {
                    for (j, v) in row.iter().enumerate() {
                        _mm512_storeu_ps(t.c.add(i * NR + j * 16), *v);
                    }
                }
            }
        }

        pub(super) unsafe fn narrow(src: *const f32, n: usize, dst: *mut u16) {
            // SAFETY: `n` values on both sides by contract; masks keep the tail inside.
            unsafe {
                let mut i = 0;
                while i + 32 <= n {
                    let (lo, hi) = (_mm512_loadu_ps(src.add(i)), _mm512_loadu_ps(src.add(i + 16)));
                    let both: __m512i = core::mem::transmute(_mm512_cvtne2ps_pbh(hi, lo));
                    _mm512_storeu_si512(dst.add(i).cast(), both);
                    i += 32;
                }
                while i < n {
                    let m = Avx512::assume().first(n - i);
                    let half: __m256i = core::mem::transmute(_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(m, src.add(i))));
                    _mm256_mask_storeu_epi16(dst.add(i).cast(), m, half);
                    i += 16;
                }
            }
        }

        pub(super) unsafe fn finish(t: &Bf16Finish) {
            // SAFETY: as the caller promises.
            unsafe {
                match t.act {
                    Act::None => pass(t, Keep),
                    Act::Relu => pass(t, ClipMap(0.0, f32::INFINITY)),
                    Act::Clip(lo, hi) => pass(t, ClipMap(lo, hi)),
                    Act::Leaky(alpha) => pass(t, LeakyMap(alpha)),
                    Act::HardSwish => pass(t, HardSwishMap),
                    act => {
                        let sums = Bf16Finish { out: t.sums.cast(), out_half: false, out_stride: NR, ..*t };
                        pass(&sums, Keep);
                        activate(Avx512::assume(), t.sums, t.rows, t.cols, NR, act);
                        let rest = Bf16Finish { bias: core::ptr::null(), residual: core::ptr::null(), ..*t };
                        pass(&rest, Keep);
                    }
                }
            }
        }
    }

    /// Nothing more to do.
    #[derive(Clone, Copy)]
    struct Keep;

    impl Map for Keep {
        #[inline(always)]
        fn at<S: Simd>(self, _: S, x: S::F) -> S::F {
            x
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")]
    unsafe fn pass<M: Map>(t: &Bf16Finish, f: M) {
        // SAFETY: the caller's promise covers the operands; masks keep partial vectors inside.
        unsafe {
            let s = Avx512::assume();
            for j in 0..t.cols.div_ceil(16) {
                let col = 16 * j;
                let m = s.first(t.cols - col);
                let bias = if t.bias.is_null() { s.zero() } else { s.load_mask(t.bias.add(col), m) };
                for i in 0..t.rows {
                    let mut v = s.add(s.load(t.sums.add(i * NR + col)), bias);
                    if !t.residual.is_null() {
                        let at = i * t.residual_stride + col;
                        v = s.add(
                            v,
                            if t.residual_half {
                                widen(_mm256_maskz_loadu_epi16(m, t.residual.cast::<i16>().add(at)))
                            } else {
                                s.load_mask(t.residual.cast::<f32>().add(at), m)
                            },
                        );
                    }
                    v = f.at(s, v);
                    let at = i * t.out_stride + col;
                    if t.out_half {
                        let half: __m256i = core::mem::transmute(_mm512_cvtneps_pbh(v));
                        _mm256_mask_storeu_epi16(t.out.cast::<i16>().add(at), m, half);
                    } else {
                        s.store_mask(t.out.cast::<f32>().add(at), v, m);
                    }
                }
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn widen(half: __m256i) -> __m512 {
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(half)))
    }

    unsafe fn tile(t: &Bf16Tile) {
        macro_rules! of {
            ($($n:literal)+) => {
                match t.rows {
                    // SAFETY: as the caller promises.
                    $($n => unsafe { rows::<$n, { sums($n) }>(t) },)+
                    n => debug_assert_eq!(n, 0),
                }
            };
        }
        of!(1 2 3 4 5 6 7 8 9 10 11 12 13 14)
    }
}

/// `TDPBF16PS`: tiles of 16 x 16 sums (Intel SDM, volume 1, chapter 18).
#[cfg(target_arch = "x86_64")]
mod amx {
    use super::*;
    use core::arch::asm;
    use core::arch::x86_64::__cpuid_count;
    use core::cell::Cell;

    /// Two tiles of rows.
    const MR: usize = 32;

    pub(super) fn unit() -> Option<Bf16Unit> {
        let others = super::avx512::unit()?;
        (has_amx() && allowed()).then_some(Bf16Unit { name: "amx_bf16", mr: MR, step: KB, tile, release, ..others })
    }

    /// CPUID leaf 7: AMX-BF16 and AMX-TILE.
    fn has_amx() -> bool {
        let edx = __cpuid_count(7, 0).edx;
        edx & (1 << 22) != 0 && edx & (1 << 24) != 0
    }

    /// Asks the system for the tiles' state: Linux gives it to processes that ask (`ARCH_REQ_XCOMP_PERM`), and then to all
    /// threads made later or before.
    fn allowed() -> bool {
        #[cfg(target_os = "linux")]
        {
            const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
            const XFEATURE_XTILEDATA: libc::c_long = 18;
            // SAFETY: the call takes two numbers and touches no memory of ours.
            unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
        }
        #[cfg(not(target_os = "linux"))]
        {
            false
        }
    }

    /// `LDTILECFG`'s operand.
    #[repr(C, align(64))]
    struct Config {
        palette: u8,
        start_row: u8,
        reserved: [u8; 14],
        bytes: [u16; 16],
        rows: [u8; 16],
    }

    thread_local! {
        /// The rows this thread's tiles are set up for; 0 when they are not.
        static ROWS: Cell<usize> = const { Cell::new(0) };
    }

    /// Sets the tiles up for `rows` rows: sums in 0..4 (two by two), rows in 4 and 5, the panel in 6 and 7.
    fn configure(rows: usize) {
        if ROWS.get() == rows {
            return;
        }
        let (low, high) = (rows.min(16) as u8, rows.saturating_sub(16).max(1) as u8);
        let mut config = Config { palette: 1, start_row: 0, reserved: [0; 14], bytes: [0; 16], rows: [0; 16] };
        for (tile, rows) in [low, low, high, high, low, high, 16, 16].into_iter().enumerate() {
            config.bytes[tile] = 64;
            config.rows[tile] = rows;
        }
        // SAFETY: the operand is valid for palette 1, which the unit's existence promises.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &config, options(nostack, preserves_flags)) };
        ROWS.set(rows);
    }

    fn release() {
        if ROWS.replace(0) != 0 {
            // SAFETY: gives the state up; nothing of it is used before the next `configure`.
            unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) };
        }
    }

    unsafe fn tile(t: &Bf16Tile) {
        if t.rows == 0 || t.k == 0 {
            if !t.accumulate {
                // SAFETY: the sums are writable by contract.
                unsafe { core::ptr::write_bytes(t.c, 0, t.rows * NR) };
            }
            return;
        }
        configure(t.rows);
        let steps = t.k / KB;
        let accumulate = usize::from(t.accumulate);
        let a_stride = 2 * t.a_stride;
        // SAFETY: tiles read `rows` rows of 64 bytes of `a` per step and 16 rows of 128 bytes of the panel, and read and write
        // `rows` rows of 128 bytes of sums, all of which the caller promises. Tile registers are declared as clobbered.
        unsafe {
            if t.rows > 16 {
                asm!(
                    "test {acc}, {acc}",
                    "jz 2f",
                    "tileloadd tmm0, [{c} + {cs}*1]",
                    "tileloadd tmm1, [{c} + {cs}*1 + 64]",
                    "tileloadd tmm2, [{c2} + {cs}*1]",
                    "tileloadd tmm3, [{c2} + {cs}*1 + 64]",
                    "jmp 3f",
                    "2:",
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    "3:",
                    "tileloadd tmm6, [{b} + {cs}*1]",
                    "tileloadd tmm4, [{a} + {rs}*1]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tileloadd tmm7, [{b} + {cs}*1 + 64]",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tileloadd tmm5, [{a2} + {rs}*1]",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    "add {a}, 64",
                    "add {a2}, 64",
                    "add {b}, 2048",
                    "dec {n}",
                    "jnz 3b",
                    "tilestored [{c} + {cs}*1], tmm0",
                    "tilestored [{c} + {cs}*1 + 64], tmm1",
                    "tilestored [{c2} + {cs}*1], tmm2",
                    "tilestored [{c2} + {cs}*1 + 64], tmm3",
                    acc = in(reg) accumulate,
                    c = in(reg) t.c,
                    c2 = in(reg) t.c.add(16 * NR),
                    cs = in(reg) 4 * NR,
                    rs = in(reg) a_stride,
                    a = inout(reg) t.a => _,
                    a2 = inout(reg) t.a.add(16 * t.a_stride) => _,
                    b = inout(reg) t.b => _,
                    n = inout(reg) steps => _,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            } else {
                asm!(
                    "test {acc}, {acc}",
                    "jz 2f",
                    "tileloadd tmm0, [{c} + {cs}*1]",
                    "tileloadd tmm1, [{c} + {cs}*1 + 64]",
                    "jmp 3f",
                    "2:",
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "3:",
                    "tileloadd tmm4, [{a} + {rs}*1]",
                    "tileloadd tmm6, [{b} + {cs}*1]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tileloadd tmm7, [{b} + {cs}*1 + 64]",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "add {a}, 64",
                    "add {b}, 2048",
                    "dec {n}",
                    "jnz 3b",
                    "tilestored [{c} + {cs}*1], tmm0",
                    "tilestored [{c} + {cs}*1 + 64], tmm1",
                    acc = in(reg) accumulate,
                    c = in(reg) t.c,
                    cs = in(reg) 4 * NR,
                    rs = in(reg) a_stride,
                    a = inout(reg) t.a => _,
                    b = inout(reg) t.b => _,
                    n = inout(reg) steps => _,
                    out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }
    }
}

#[cfg(test)]
#[path = "bf16_tests.rs"]
mod tests;
