//! The microkernels and their one table.
//!
//! A kernel is a generic `#[inline(always)]` function in its family's file; a row in [`kernels!`] below instantiates it
//! for every tier and puts it in [`Kernels`]. Kernels are pure: pointers, strides and sizes come in; they allocate
//! nothing, start no threads and ask the CPU nothing.

pub mod activation;
pub mod attention;
pub mod bf16;
pub mod block_gemm;
pub mod ceiling;
pub mod dot_i8;
pub mod dot_tables;
pub mod elementwise;
pub mod fft;
pub mod gemm;
pub mod math;
pub mod product;
pub mod recurrent;
pub mod reduce;
pub mod rows;
pub mod taps;
pub mod winograd;

use crate::simd::{Isa, Simd};
use activation::Act;
use attention::ScoreRow;
use block_gemm::{BlockPanel, BlockRows};
use elementwise::{ChainStep, Format, Operand};
use fft::Pass;
use gemm::GemmTile;
use oxrt_ops::scalar::{Binary, Unary};
use product::ProductTile;
use recurrent::LstmExtras;
use reduce::Reduction;
use rows::Norm;
use taps::TapRun;
use winograd::OutputTile;

/// The matrix microkernel for a fixed number of rows and panel width.
pub type GemmFn = unsafe fn(&GemmTile);

/// The tiers' tables, one function pointer per kernel.
macro_rules! kernels {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)? = $path:path;)+) => {
        /// Every microkernel of one tier.
        pub struct Kernels {
            /// The tier.
            pub isa: Isa,
            /// Floats per vector.
            pub lanes: usize,
            /// Rows of the matrix microkernel.
            pub mr: usize,
            /// Columns of the matrix microkernel.
            pub nr: usize,
            /// The matrix microkernel: `gemm[rows - 1][vectors - 1]`.
            pub gemm: &'static [[GemmFn; 2]],
            $($(#[$doc])* pub $name: unsafe fn($($ty),*) $(-> $ret)?,)+
        }

        kernels!(@tier portable, Portable, [4, 3, 2, 1], cfg(all()), $($name($($arg: $ty),*) $(-> $ret)? = $path;)+);
        #[cfg(target_arch = "x86_64")]
        kernels!(@tier avx2, Avx2, [6, 5, 4, 3, 2, 1], target_feature(enable = "avx2,fma,f16c"), $($name($($arg: $ty),*) $(-> $ret)? = $path;)+);
        #[cfg(target_arch = "x86_64")]
        kernels!(@tier avx512, Avx512, [14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1],
            target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"), $($name($($arg: $ty),*) $(-> $ret)? = $path;)+);
    };
    (@tier $tier:ident, $simd:ident, [$($rows:literal),+], $features:meta,
        $($name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)? = $path:path;)+) => {
        mod $tier {
            use super::*;
            use crate::simd::$simd as Tier;

            #[$features]
            unsafe fn gemm_tile<const MR: usize, const NV: usize, const U: usize>(t: &GemmTile) {
                // SAFETY: the caller chose this tier's table, so the CPU has its features; the rest is the kernel's
                // contract.
                unsafe { gemm::gemm_tile::<Tier, MR, NV, U>(Tier::assume(), t) }
            }

            const GEMM: [[GemmFn; 2]; Tier::MR] = {
                let mut table: [[GemmFn; 2]; Tier::MR] = [[gemm_tile::<1, 1, 4>, gemm_tile::<1, 1, 4>]; Tier::MR];
                $(table[$rows - 1] = [
                    gemm_tile::<$rows, 1, { gemm::sums($rows) }>,
                    gemm_tile::<$rows, { Tier::NV }, { gemm::sums($rows) }>,
                ];)+
                table
            };

            $(#[$features]
            unsafe fn $name($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: as above.
                unsafe { $path(Tier::assume(), $($arg),*) }
            })+

            pub static TABLE: Kernels = Kernels {
                isa: Isa::$simd,
                lanes: Tier::LANES,
                mr: Tier::MR,
                nr: Tier::NV * Tier::LANES,
                gemm: &GEMM,
                $($name,)+
            };
        }
    };
}

kernels! {
    /// Nothing but fused multiply-adds.
    fma_loop(rounds: usize, out: *mut f32) = ceiling::fma_loop;
    /// Nothing but reading.
    read_loop(p: *const f32, n: usize, out: *mut f32) = ceiling::read_loop;
    /// The activations the matrix microkernel leaves to a second pass, over a tile.
    finish_tile(p: *mut f32, rows: usize, cols: usize, stride: usize, act: Act) = gemm::finish_tile;
    /// Any activation over a rectangle, in place.
    activate(p: *mut f32, rows: usize, cols: usize, stride: usize, act: Act) = activation::activate;
    /// Depthwise convolution over a run of pixels.
    depthwise(run: &TapRun) = taps::depthwise;
    /// Maximum pooling over a run of pixels.
    max_pool(run: &TapRun) = taps::max_pool;
    /// Depthwise convolution of bfloat16 over a run of pixels.
    depthwise_bf16(run: &TapRun<u16>) = taps::depthwise;
    /// Maximum pooling of bfloat16 over a run of pixels.
    max_pool_bf16(run: &TapRun<u16>) = taps::max_pool;
    /// Average pooling over a run of pixels.
    average_pool(run: &TapRun) = taps::average_pool;
    /// One instruction of one operand over a tile.
    unary(op: Unary, a: *const f32, out: *mut f32, n: usize) = elementwise::unary;
    /// One instruction of two operands over a tile.
    binary(op: Binary, a: Operand, b: Operand, out: *mut f32, n: usize) = elementwise::binary;
    /// Choice between two operands over a tile.
    select(c: Operand, a: Operand, b: Operand, out: *mut f32, n: usize) = elementwise::select;
    /// Several short instructions, one after the other, over a tile.
    chain(steps: &[ChainStep], a: Operand, out: *mut f32, n: usize) = elementwise::chain;
    /// Elements of any format as floats.
    widen(format: Format, p: *const u8, out: *mut f32, n: usize) = elementwise::widen;
    /// Floats as elements of any format.
    narrow(format: Format, p: *const f32, out: *mut u8, n: usize) = elementwise::narrow;
    /// A tile of a product of doubles.
    product_f64(t: &ProductTile<f64>) = product::product_tile;
    /// A tile of a product of floats, for operands that no packed form is made of.
    product_f32(t: &ProductTile<f32>) = product::product_tile;
    /// A tile of a product of integers.
    product_i32(t: &ProductTile<i32>) = product::product_tile;
    /// The same in 64 bits.
    product_i64(t: &ProductTile<i64>) = product::product_tile;
    /// A few rows by strips of weights of few bits.
    block_rows(t: &BlockRows) = block_gemm::block_rows;
    /// Strips of weights of few bits as reals.
    block_panel(t: &BlockPanel) = block_gemm::block_panel;
    /// A pass of a Fourier transform.
    fft_pass_f32(p: &Pass<f32>) = fft::fft_pass;
    /// The same in double precision.
    fft_pass_f64(p: &Pass<f64>) = fft::fft_pass;
    /// Softmax of rows.
    softmax(x: *const f32, y: *mut f32, rows: usize, n: usize) = rows::softmax;
    /// Softmax of rows of half floats, step by step.
    softmax_f16(x: *const u16, y: *mut u16, rows: usize, n: usize) = rows::softmax_f16;
    /// Logarithm of the softmax of rows.
    log_softmax(x: *const f32, y: *mut f32, rows: usize, n: usize) = rows::log_softmax;
    /// Layer and root-mean-square normalisation of rows.
    normalize(x: *const f32, y: *mut f32, rows: usize, n: usize, norm: &Norm) = rows::normalize;
    /// Mean and variance of contiguous floats.
    moments(x: *const f32, n: usize, out: *mut f32) = rows::moments;
    /// One factor and addend for contiguous floats.
    affine(x: *const f32, y: *mut f32, n: usize, scale: f32, shift: f32) = rows::affine;
    /// A factor and an addend per column.
    affine_columns(x: *const f32, y: *mut f32, rows: usize, n: usize, scale: *const f32, shift: *const f32)
        = rows::affine_columns;
    /// Sums of values and squares per column.
    column_moments(x: *const f32, rows: usize, n: usize, center: *const f32, sum: *mut f32, squares: *mut f32)
        = rows::column_moments;
    /// One row of a block of attention scores.
    score_row(row: &ScoreRow, state: *mut f32) -> f32 = attention::score_row;
    /// Rows to one float each.
    reduce_rows(kind: Reduction, x: *const f32, rows: usize, n: usize, out: *mut f32) = reduce::reduce_rows;
    /// Columns to one float each.
    reduce_columns(kind: Reduction, x: *const f32, rows: usize, step: usize, cols: usize, out: *mut f32)
        = reduce::reduce_columns;
    /// Columns of bfloat16 to one float each.
    reduce_columns_bf16(kind: Reduction, x: *const u16, rows: usize, step: usize, cols: usize, out: *mut f32)
        = reduce::reduce_columns;
    /// Logarithms of rows' sums of exponentials.
    log_sum_exp(x: *const f32, rows: usize, n: usize, out: *mut f32) = reduce::log_sum_exp;
    /// A weighted sum of rows.
    weighted_rows(rows: *const *const f32, weights: *const f32, count: usize, n: usize, out: *mut f32)
        = reduce::weighted_rows;
    /// The elementwise end of an LSTM step.
    lstm_cell(gates: *const f32, step: usize, c: *mut f32, h: *mut f32, n: usize) = recurrent::lstm_cell;
    /// The same with peepholes, limits or one gate less.
    lstm_cell_with(gates: *const f32, step: usize, c: *mut f32, h: *mut f32, n: usize, extras: &LstmExtras)
        = recurrent::lstm_cell_with;
    /// The elementwise end of a GRU step.
    gru_cell(x: *const f32, x_step: usize, r: *const f32, r_step: usize, h: *const f32, out: *mut f32, n: usize, linear: bool)
        = recurrent::gru_cell;
    /// A GRU's state behind its reset gate.
    gru_reset(x: *const f32, r: *const f32, h: *const f32, out: *mut f32, n: usize) = recurrent::gru_reset;
    /// One tile of inputs of a Winograd convolution.
    winograd_input(m: usize, pixels: *const *const f32, channels: usize, out: *mut f32, step: usize)
        = winograd::winograd_input;
    /// One tile of outputs of a Winograd convolution.
    winograd_output(m: usize, tile: &OutputTile) = winograd::winograd_output;
}

impl std::fmt::Debug for Kernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kernels({})", self.isa.name())
    }
}

impl Kernels {
    /// The table of a tier, or `None` where the CPU lacks it.
    pub fn of(isa: Isa) -> Option<&'static Kernels> {
        if !isa.available() {
            return None;
        }
        match isa {
            Isa::Portable => Some(&portable::TABLE),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Some(&avx2::TABLE),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => Some(&avx512::TABLE),
            #[cfg(not(target_arch = "x86_64"))]
            _ => None,
        }
    }

    /// The table of [`Isa::detect`]'s tier.
    pub fn best() -> &'static Kernels {
        Kernels::of(Isa::detect()).unwrap_or(&portable::TABLE)
    }

    /// The tables of every tier of this CPU.
    pub fn all() -> Vec<&'static Kernels> {
        Isa::ALL.into_iter().filter_map(Kernels::of).collect()
    }
}
