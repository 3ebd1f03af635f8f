//! Whole operations on raw memory: the microkernels of [`crate::kernels`] cut into tasks for the thread pool.
//!
//! Nothing here allocates while it runs; what an operation needs beside its operands, the caller passes as workspace.

/// Calls a macro with the Rust type of a number as it is stored; `$other` where there is none (half precision, strings).
macro_rules! with_number {
    ($dtype:expr, $run:ident, $other:expr) => {
        match $dtype {
            oxrt_tensor::DType::F64 => $run!(f64),
            oxrt_tensor::DType::F32 => $run!(f32),
            oxrt_tensor::DType::I64 => $run!(i64),
            oxrt_tensor::DType::I32 => $run!(i32),
            oxrt_tensor::DType::I16 => $run!(i16),
            oxrt_tensor::DType::I8 => $run!(i8),
            oxrt_tensor::DType::U64 => $run!(u64),
            oxrt_tensor::DType::U32 => $run!(u32),
            oxrt_tensor::DType::U16 => $run!(u16),
            oxrt_tensor::DType::U8 | oxrt_tensor::DType::Bool => $run!(u8),
            _ => $other,
        }
    };
}
pub(crate) use with_number;

pub mod attention;
pub mod block_gemm;
pub mod broadcast;
pub mod conv;
pub mod conv_bf16;
pub mod conv_i8;
pub mod copy;
pub mod element;
pub mod elementwise;
pub mod fft;
pub mod fold;
pub mod gemm;
pub mod gemm_bf16;
pub mod gemm_i8;
pub mod norm;
pub mod phases;
pub mod pooling;
pub mod product;
pub mod recurrent;
pub mod reduce;
pub mod resample;
pub mod select;
pub mod taps_bf16;
pub mod transposed;
pub mod wide;
pub mod window;
pub mod winograd;

/// A raw pointer that may cross to the pool's threads.
///
/// Tasks write disjoint parts of what it points to; each use says which.
#[derive(Clone, Copy, Debug)]
pub struct Shared<T>(pub *mut T);

// SAFETY: dereferencing is unsafe and argued for where it happens.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// The pointer (a method, so that closures capture the wrapper and not its field).
    #[inline(always)]
    pub fn get(self) -> *mut T {
        self.0
    }

    /// The pointer to element `i`.
    ///
    /// # Safety
    /// As `pointer::add`.
    #[inline(always)]
    pub unsafe fn at(self, i: usize) -> *mut T {
        // SAFETY: as the caller promises.
        unsafe { self.0.add(i) }
    }
}

/// Pointers that tasks only read behind.
#[derive(Clone, Copy, Debug)]
pub struct Reads<'a>(pub &'a [*const u8]);

// SAFETY: dereferencing is unsafe and argued for where it happens; nothing is written through these pointers.
unsafe impl Sync for Reads<'_> {}

impl<'a> Reads<'a> {
    /// The pointers (a method, so that closures capture the wrapper and not its field).
    #[inline(always)]
    pub fn get(&self) -> &'a [*const u8] {
        self.0
    }
}

/// The start and length of part `i` of `parts` parts of `n`, as equal as possible. The first half of the parts is the
/// first half of `n`, whatever their number, and so on: threads meet the same part of a tensor in every step.
#[inline]
pub fn cut(n: usize, parts: usize, i: usize) -> (usize, usize) {
    let start = n * i / parts;
    (start, n * (i + 1) / parts - start)
}
