//! What kernels need of a GPU, beside memory and queues: code to load and launch. The driver gives it, and the emulator.

use oxrt_backend::Device;
use oxrt_tensor::Result;
use std::ffi::c_void;

/// A kernel that can be launched; valid as long as its module's GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    pub handle: u64,
    /// Whether it waits itself for the kernels before it, and so may start while they end.
    pub waits: bool,
}

/// A tensor as Hopper's copy engine walks it, in units of 16 bits: rows of 64 units of the first axis go to shared memory
/// as 128 bytes whose eight chunks are turned by the row's number.
#[derive(Clone, Debug)]
pub struct TensorPath {
    pub base: *const u8,
    /// Units along the axis of neighbours, then elements along each other axis; two to four in all.
    pub dims: Vec<usize>,
    /// Bytes from one to the next along each axis but the first; multiples of 16.
    pub strides: Vec<usize>,
    pub walk: Walk,
}

/// What one copy takes.
#[derive(Clone, Debug)]
pub enum Walk {
    /// A box of so many rows along the axes behind the first.
    Box(Vec<usize>),
    /// Pixels (rows of channels) of an image [n][h][w][c], in the order of the corners of windows.
    Windows {
        pixels: usize,
        /// Of the first window's corner along (w, h).
        low: [i64; 2],
        /// Of the last window's corner along (w, h), counted from the last pixel.
        high: [i64; 2],
        /// Between windows along (w, h).
        steps: [usize; 2],
    },
}

/// A [`TensorPath`] as the GPU reads it.
pub type TensorMap = [u8; 128];

/// A GPU, real or emulated.
pub trait Gpu: Device {
    /// Compute capability: 90 for 9.0.
    fn arch(&self) -> u32;

    /// The product's name.
    fn name(&self) -> String;

    /// Multiprocessors.
    fn processors(&self) -> u32;

    /// Compiles a kernel text to what [`Gpu::load`] takes.
    ///
    /// # Errors
    /// The compiler is missing, or the text is wrong (its messages are in the error).
    fn compile(&self, text: &str) -> Result<Vec<u8>>;

    /// Loads code; the module stays loaded as long as the GPU.
    fn load(&self, code: &[u8]) -> Result<u64>;

    /// A kernel of a module, allowed that much dynamic shared memory.
    fn function(&self, module: u64, name: &str, shared: u32) -> Result<Function>;

    /// Queues a kernel.
    ///
    /// # Safety
    /// `params` are the bytes of the kernel's parameter struct, with pointers to memory of the device that stays until
    /// the queue has come past.
    unsafe fn launch(
        &self,
        queue: *mut c_void,
        function: Function,
        grid: [u32; 3],
        threads: u32,
        shared: u32,
        params: &[u8],
    ) -> Result<()>;

    /// Prepares a path for the copy engine.
    ///
    /// # Errors
    /// What the engine cannot walk.
    fn tensor_map(&self, path: &TensorPath) -> Result<TensorMap>;

    /// The real GPU behind it, for libraries; `None` for the emulator.
    fn as_cuda(&self) -> Option<&crate::driver::Cuda> {
        None
    }
}

/// Bytes of a kernel's parameter struct, laid out as C does.
#[derive(Clone, Debug, Default)]
pub struct Params {
    bytes: Vec<u8>,
    /// Of the struct.
    align: usize,
}

impl Params {
    pub fn new() -> Params {
        Params { bytes: Vec::with_capacity(256), align: 8 }
    }

    pub fn tensor_map(mut self, map: &TensorMap) -> Params {
        self.align = 128;
        self.put(map, 128)
    }

    fn put(mut self, data: &[u8], align: usize) -> Params {
        self.bytes.resize(self.bytes.len().next_multiple_of(align), 0);
        self.bytes.extend_from_slice(data);
        self
    }

    pub fn ptr<T>(self, p: *const T) -> Params {
        self.put(&(p as u64).to_le_bytes(), 8)
    }

    pub fn i64(self, x: i64) -> Params {
        self.put(&x.to_le_bytes(), 8)
    }

    pub fn f64(self, x: f64) -> Params {
        self.put(&x.to_le_bytes(), 8)
    }

    pub fn u32(self, x: usize) -> Params {
        self.put(&(x as u32).to_le_bytes(), 4)
    }

    pub fn i32(self, x: i64) -> Params {
        self.put(&(x as i32).to_le_bytes(), 4)
    }

    pub fn f32(self, x: f32) -> Params {
        self.put(&x.to_le_bytes(), 4)
    }

    /// A `Divider` (see the prelude of the kernel texts), for numerators below 2³¹.
    pub fn divider(self, divisor: usize) -> Params {
        let (factor, shift) = magic(divisor as u32);
        self.u32(divisor).u32(factor as usize).u32(shift as usize)
    }

    /// The fields of a struct of 4-byte numbers (and of what they make up), at the next place.
    pub fn join(mut self, fields: &Params) -> Params {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self.bytes.extend_from_slice(&fields.bytes);
        self
    }

    /// The end of a struct that holds pointers, where another follows.
    pub fn aligned(mut self) -> Params {
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        self
    }

    /// So many dividers.
    pub fn dividers(self, list: &[usize]) -> Params {
        list.iter().fold(self, |p, &d| p.divider(d.max(1)))
    }

    /// So many 32-bit integers.
    pub fn i32s(self, list: &[i64]) -> Params {
        list.iter().fold(self, |p, &x| p.i32(x))
    }

    /// A `Status`.
    pub fn status(self, io: &oxrt_backend::DeviceIo) -> Params {
        // The struct is as aligned as its pointer, also behind it.
        self.ptr(io.status).u32(io.step as usize).aligned()
    }

    /// The struct's size is a multiple of its alignment.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len().next_multiple_of(self.align.max(8)), 0);
        self.bytes
    }
}

/// Factor and shift that divide numbers below 2³¹ by `d`.
fn magic(d: u32) -> (u32, u32) {
    if d <= 1 {
        return (0, 0);
    }
    // With l = ⌈log₂ d⌉, m = ⌈2^(31+l) / d⌉ has 32 bits, and x·m >> (31+l) is ⌊x/d⌋ for x < 2³¹.
    let l = 32 - (d - 1).leading_zeros();
    let m = (1u64 << (31 + l)).div_ceil(u64::from(d));
    (m as u32, l - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn division_by_multiplication_is_exact() {
        for d in (1..2000).chain([4095, 4096, 4097, 65535, 65536, 1 << 30, (1 << 30) + 1, i32::MAX as u32]) {
            let (m, s) = magic(d);
            let divide = |x: u32| if d == 1 { x } else { ((u64::from(x) * u64::from(m)) >> 32) as u32 >> s };
            for k in [0u32, 1, 2, 3, 1000, i32::MAX as u32 / d] {
                for x in [k.wrapping_mul(d), k.wrapping_mul(d).wrapping_sub(1), k.wrapping_mul(d).wrapping_add(1)] {
                    if x <= i32::MAX as u32 {
                        assert_eq!(divide(x), x / d, "{x} / {d}");
                    }
                }
            }
            assert_eq!(divide(i32::MAX as u32), i32::MAX as u32 / d);
        }
    }

    #[test]
    fn parameters_lie_as_in_c() {
        let bytes = Params::new().u32(1).ptr(std::ptr::null::<u8>()).u32(2).f32(1.0).finish();
        assert_eq!(bytes.len(), 24);
        assert_eq!(bytes[16], 2);
    }
}
