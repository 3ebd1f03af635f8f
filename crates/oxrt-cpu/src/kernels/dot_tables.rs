//! The table of the integer kernels: per tier, and per set of instructions that not every CPU of a tier has.

use super::dot_i8::{self, BinaryRow, DepthRun, DotTile, Finish, Rounding};
use crate::simd::bytes::{Plain, Vnni};
use crate::simd::{Isa, Simd};

/// The product's microkernel for a fixed number of rows and panel width.
pub type DotFn = unsafe fn(&DotTile);

macro_rules! kernels {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $ty:ty),*);)+) => {
        /// Every integer kernel of one tier.
        pub struct DotKernels {
            /// The tier.
            pub isa: Isa,
            /// The way: `plain`, or `vnni` where the CPU has such instructions.
            pub name: &'static str,
            /// 32-bit lanes per vector.
            pub lanes: usize,
            /// Rows of the microkernel.
            pub mr: usize,
            /// Columns of a panel; the same for all ways of a tier, so that packed weights serve them all.
            pub nr: usize,
            /// The microkernel: `tile[rows - 1][vectors - 1]`, for unsigned rows; two further for signed ones.
            pub tile: &'static [[DotFn; 4]],
            $($(#[$doc])* pub $name: unsafe fn($($ty),*),)+
        }
        kernels!(@tier portable, Portable, Plain, "plain", [4, 3, 2, 1], cfg(all()), $($name($($arg: $ty),*);)+);
        #[cfg(target_arch = "x86_64")]
        kernels!(@tier avx2, Avx2, Plain, "plain", [4, 3, 2, 1], target_feature(enable = "avx2,fma,f16c"),
            $($name($($arg: $ty),*);)+);
        #[cfg(target_arch = "x86_64")]
        kernels!(@tier avx2_vnni, Avx2, Vnni, "vnni", [6, 5, 4, 3, 2, 1],
            target_feature(enable = "avxvnni,avx2,fma,f16c"), $($name($($arg: $ty),*);)+);
        #[cfg(target_arch = "x86_64")]
        kernels!(@tier avx512, Avx512, Plain, "plain", [8, 7, 6, 5, 4, 3, 2, 1],
            target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"), $($name($($arg: $ty),*);)+);
        #[cfg(target_arch = "x86_64")]
        kernels!(@tier avx512_vnni, Avx512, Vnni, "vnni", [12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1],
            target_feature(enable = "avx512vnni,avx512vbmi,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"),
            $($name($($arg: $ty),*);)+);
    };
    (@tier $module:ident, $simd:ident, $dot:ident, $way:literal, [$most:literal $(, $rows:literal)*], $features:meta,
        $($name:ident($($arg:ident: $ty:ty),*);)+) => {
        mod $module {
            use super::*;
            use crate::simd::$simd as Tier;

            #[$features]
            unsafe fn tile<const MR: usize, const NV: usize, const FLIP: bool>(t: &DotTile) {
                // SAFETY: the table is handed out only where the CPU has its features; the rest is the kernel's contract.
                unsafe { dot_i8::dot_tile::<Tier, $dot, MR, NV, FLIP>(Tier::assume(), t) }
            }

            const fn row<const MR: usize>() -> [DotFn; 4] {
                [tile::<MR, 1, false>, tile::<MR, 2, false>, tile::<MR, 1, true>, tile::<MR, 2, true>]
            }

            const TILE: [[DotFn; 4]; $most] = {
                let mut table: [[DotFn; 4]; $most] = [row::<1>(); $most];
                table[$most - 1] = row::<$most>();
                $(table[$rows - 1] = row::<$rows>();)*
                table
            };

            $(#[$features]
            unsafe fn $name($($arg: $ty),*) {
                // SAFETY: as above.
                unsafe { dot_i8::$name::<Tier, $dot>(Tier::assume(), $($arg),*) }
            })+

            pub static TABLE: DotKernels = DotKernels {
                isa: Isa::$simd,
                name: $way,
                lanes: Tier::LANES,
                mr: $most,
                nr: 2 * Tier::LANES,
                tile: &TILE,
                $($name,)+
            };
        }
    };
}

kernels! {
    /// Sums of rows.
    row_sums(t: &DotTile, rows: usize, out: *mut i32);
    /// From sums to the result.
    finish(f: &Finish);
    /// A run of a depthwise convolution.
    depthwise(r: &DepthRun);
    /// Sums of columns.
    column_sums(x: *const u8, pixels: usize, channels: usize, stride: usize, flip: i32, out: *mut i32);
    /// The larger of two rows.
    max_bytes(x: *const u8, y: *mut u8, n: usize, flip: i32);
    /// A row of an operation of two quantised operands.
    binary(r: &BinaryRow);
    /// Bytes to floats.
    dequantise(x: *const u8, y: *mut f32, n: usize, flip: i32, zero: i32, scale: f32);
    /// Floats to bytes.
    quantise(x: *const f32, y: *mut u8, n: usize, scale: f32, r: &Rounding);
    /// A table over bytes.
    look_up(table: *const u8, x: *const u8, y: *mut u8, n: usize);
}

impl std::fmt::Debug for DotKernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DotKernels({}, {})", self.isa.name(), self.name)
    }
}

impl DotKernels {
    /// The ways of a tier that this CPU has, the best one last.
    pub fn ways(isa: Isa) -> Vec<&'static DotKernels> {
        if !isa.available() {
            return Vec::new();
        }
        match isa {
            Isa::Portable => vec![&portable::TABLE],
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 if is_x86_feature_detected!("avxvnni") => vec![&avx2::TABLE, &avx2_vnni::TABLE],
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => vec![&avx2::TABLE],
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 if is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512vbmi") => {
                vec![&avx512::TABLE, &avx512_vnni::TABLE]
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => vec![&avx512::TABLE],
            #[cfg(not(target_arch = "x86_64"))]
            _ => vec![&portable::TABLE],
        }
    }

    /// The best way of a tier whose CPU features are there.
    pub fn of(isa: Isa) -> &'static DotKernels {
        DotKernels::ways(isa).pop().unwrap_or(&portable::TABLE)
    }
}
