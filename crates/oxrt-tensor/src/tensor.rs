//! Contiguous, row-major host tensors with shared storage.

use crate::storage::Storage;
use crate::{DType, Element, Error, Result, bail, bf16, bf16_from_f64, f16, f16_from_f64, minifloat};
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// A contiguous row-major tensor. Cloning shares the data; writing copies it first when shared.
#[derive(Clone)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    data: Arc<Storage>,
}

/// Product of the dimensions, or an error when it does not fit.
pub fn num_elements(shape: &[usize]) -> Result<usize> {
    // A zero anywhere makes the product zero, whatever the other factors are.
    if shape.contains(&0) {
        return Ok(0);
    }
    shape
        .iter()
        .try_fold(1usize, |n, &d| n.checked_mul(d))
        .filter(|&n| n <= isize::MAX as usize / 16)
        .ok_or_else(|| Error::invalid(format!("a tensor of shape {shape:?} is too large to address")))
}

/// Row-major strides in elements.
pub fn strides_of(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for i in (1..shape.len()).rev() {
        // Shapes that overflow hold no elements: they have a zero somewhere.
        strides[i - 1] = strides[i].saturating_mul(shape[i].max(1));
    }
    strides
}

impl Tensor {
    /// All elements zero (empty strings for string tensors).
    ///
    /// # Panics
    /// When the shape overflows the address space; check untrusted shapes with [`num_elements`].
    pub fn zeros(dtype: DType, shape: &[usize]) -> Tensor {
        let n = num_elements(shape).expect("shape fits the address space");
        let data = match dtype {
            DType::String => Storage::Strings(vec![String::new(); n]),
            _ => Storage::zeroed(dtype.bytes_for(n)),
        };
        Tensor { dtype, shape: shape.to_vec(), data: Arc::new(data) }
    }

    /// [`Tensor::zeros`] for shapes that nobody has checked.
    ///
    /// # Errors
    /// When the shape is too large to address, or for the memory of this machine.
    pub fn try_zeros(dtype: DType, shape: &[usize]) -> Result<Tensor> {
        let n = num_elements(shape)?;
        if dtype == DType::String {
            return Ok(Tensor::zeros(dtype, shape));
        }
        let data = Storage::try_zeroed(dtype.bytes_for(n))
            .ok_or_else(|| Error::invalid(format!("no memory for {dtype} of shape {shape:?}")))?;
        Ok(Tensor { dtype, shape: shape.to_vec(), data: Arc::new(data) })
    }

    /// From a slice of elements in row-major order.
    ///
    /// # Panics
    /// When the lengths disagree.
    pub fn from_slice<T: Element>(shape: &[usize], values: &[T]) -> Tensor {
        assert_eq!(num_elements(shape).ok(), Some(values.len()), "shape {shape:?} and number of values");
        let mut t = Tensor::zeros(T::DTYPE, shape);
        t.as_mut_slice::<T>().copy_from_slice(values);
        t
    }

    /// A scalar of rank 0.
    pub fn scalar<T: Element>(value: T) -> Tensor {
        Tensor::from_slice(&[], &[value])
    }

    pub fn from_strings(shape: &[usize], values: Vec<String>) -> Result<Tensor> {
        if num_elements(shape)? != values.len() {
            bail!(invalid, "shape {shape:?} needs {} strings, not {}", num_elements(shape)?, values.len());
        }
        Ok(Tensor { dtype: DType::String, shape: shape.to_vec(), data: Arc::new(Storage::Strings(values)) })
    }

    /// From little-endian bytes as they lie in files; the bytes are copied.
    pub fn from_bytes(dtype: DType, shape: &[usize], bytes: &[u8]) -> Result<Tensor> {
        Self::check_length(dtype, shape, bytes.len())?;
        let mut storage = Storage::copied(bytes);
        if dtype == DType::Bool {
            storage.bytes_mut().expect("owned").iter_mut().for_each(|b| *b = (*b != 0) as u8);
        }
        Ok(Tensor { dtype, shape: shape.to_vec(), data: Arc::new(storage) })
    }

    /// Borrows bytes of a shared owner (a mapped file). Copies only when the bytes are not aligned to
    /// the element, or hold booleans other than 0 and 1.
    pub fn from_shared(
        dtype: DType,
        shape: &[usize],
        owner: impl AsRef<[u8]> + Send + Sync + 'static,
        start: usize,
    ) -> Result<Tensor> {
        let n = num_elements(shape)?;
        let len = dtype.bytes_for(n);
        let all = owner.as_ref();
        let Some(bytes) = start.checked_add(len).and_then(|end| all.get(start..end)) else {
            bail!(invalid, "{dtype} tensor of shape {shape:?} needs {len} bytes at {start}, file has {}", all.len());
        };
        let aligned = (bytes.as_ptr() as usize).is_multiple_of(dtype.size().unwrap_or(1).min(8));
        if dtype == DType::String || !aligned || dtype == DType::Bool && bytes.iter().any(|&b| b > 1) {
            return Self::from_bytes(dtype, shape, bytes);
        }
        let data = Storage::Shared { owner: Box::new(owner), start, len };
        Ok(Tensor { dtype, shape: shape.to_vec(), data: Arc::new(data) })
    }

    fn check_length(dtype: DType, shape: &[usize], len: usize) -> Result<()> {
        if dtype == DType::String {
            bail!(invalid, "a string tensor has no raw bytes");
        }
        let want = dtype.bytes_for(num_elements(shape)?);
        if len != want {
            bail!(invalid, "{dtype} tensor of shape {shape:?} needs {want} bytes, found {len}");
        }
        Ok(())
    }

    pub fn dtype(&self) -> DType {
        self.dtype
    }

    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    pub fn is_empty(&self) -> bool {
        self.shape.contains(&0)
    }

    /// The bytes, little-endian, as in files. Empty for strings.
    pub fn bytes(&self) -> &[u8] {
        self.data.bytes()
    }

    /// Whether two tensors share one buffer (tied weights).
    pub fn same_storage(&self, other: &Tensor) -> bool {
        Arc::ptr_eq(&self.data, &other.data)
            || !self.bytes().is_empty()
                && std::ptr::eq(self.bytes().as_ptr(), other.bytes().as_ptr())
                && self.bytes().len() == other.bytes().len()
    }

    /// Mutable bytes; copies first when shared.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let unique = Arc::get_mut(&mut self.data).is_some_and(|s| s.bytes_mut().is_some());
        if !unique {
            self.data = Arc::new(Storage::copied(self.data.bytes()));
        }
        Arc::get_mut(&mut self.data).and_then(Storage::bytes_mut).expect("just made unique")
    }

    /// The elements, when `T` is the element type.
    ///
    /// # Panics
    /// When it is not; use [`Tensor::get_slice`] on untrusted data.
    pub fn as_slice<T: Element>(&self) -> &[T] {
        self.get_slice().unwrap_or_else(|| panic!("tensor holds {}, not {}", self.dtype, T::DTYPE))
    }

    /// The elements, or `None` when `T` is not the element type.
    pub fn get_slice<T: Element>(&self) -> Option<&[T]> {
        if T::DTYPE != self.dtype {
            return None;
        }
        let n = self.len();
        if n == 0 {
            return Some(&[]);
        }
        let bytes = self.bytes();
        debug_assert!(bytes.len() == n * size_of::<T>() && (bytes.as_ptr() as usize).is_multiple_of(align_of::<T>()));
        // SAFETY: length and alignment hold by construction (`from_shared` copies misaligned bytes), and
        // `Element` promises that the stored bits are valid.
        Some(unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), n) })
    }

    /// Mutable elements; copies first when shared.
    ///
    /// # Panics
    /// When `T` is not the element type.
    pub fn as_mut_slice<T: Element>(&mut self) -> &mut [T] {
        assert_eq!(T::DTYPE, self.dtype, "element type");
        let n = self.len();
        if n == 0 {
            return &mut [];
        }
        let bytes = self.bytes_mut();
        // SAFETY: owned storage is 64-byte aligned and holds `n` elements; the borrow is unique.
        unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), n) }
    }

    /// Strings, or `None` when the tensor holds something else.
    pub fn strings(&self) -> Option<&[String]> {
        match &*self.data {
            Storage::Strings(s) => Some(s),
            _ => None,
        }
    }

    /// The same data under another shape of equal size.
    pub fn reshaped(&self, shape: &[usize]) -> Result<Tensor> {
        if num_elements(shape)? != self.len() {
            bail!(invalid, "cannot view shape {:?} ({} elements) as {shape:?}", self.shape, self.len());
        }
        Ok(Tensor { dtype: self.dtype, shape: shape.to_vec(), data: self.data.clone() })
    }

    /// Every element as f64. Integers beyond 2^53 round; complex and string tensors are refused.
    pub fn to_f64_vec(&self) -> Result<Vec<f64>> {
        macro_rules! cast {
            ($t:ty, $f:expr) => {
                self.as_slice::<$t>().iter().map($f).collect()
            };
        }
        Ok(match self.dtype {
            DType::F64 => self.as_slice::<f64>().to_vec(),
            DType::F32 => cast!(f32, |&x| x as f64),
            DType::F16 => cast!(f16, |x| x.to_f64()),
            DType::BF16 => cast!(bf16, |x| x.to_f64()),
            DType::U64 => cast!(u64, |&x| x as f64),
            d if d.is_int() || d == DType::Bool => self.to_i64_vec()?.into_iter().map(|x| x as f64).collect(),
            DType::String | DType::C64 | DType::C128 => bail!(unsupported, "{} elements as numbers", self.dtype),
            d if d.bits() == 4 => self.nibbles().map(|c| minifloat::decode(d, c)).collect(),
            d => self.bytes().iter().map(|&c| minifloat::decode(d, c)).collect(),
        })
    }

    /// Every element as i64: floats truncate, u64 wraps.
    pub fn to_i64_vec(&self) -> Result<Vec<i64>> {
        macro_rules! cast {
            ($t:ty) => {
                self.as_slice::<$t>().iter().map(|&x| x as i64).collect()
            };
        }
        Ok(match self.dtype {
            DType::I64 => self.as_slice::<i64>().to_vec(),
            DType::I32 => cast!(i32),
            DType::I16 => cast!(i16),
            DType::I8 => cast!(i8),
            DType::U64 => cast!(u64),
            DType::U32 => cast!(u32),
            DType::U16 => cast!(u16),
            DType::U8 => cast!(u8),
            DType::Bool => cast!(bool),
            DType::U4 => self.nibbles().map(i64::from).collect(),
            DType::I4 => self.nibbles().map(|c| ((c << 4) as i8 >> 4) as i64).collect(),
            DType::U2 => self.crumbs().map(i64::from).collect(),
            DType::I2 => self.crumbs().map(|c| ((c << 6) as i8 >> 6) as i64).collect(),
            _ => self.to_f64_vec()?.into_iter().map(|x| x as i64).collect(),
        })
    }

    /// Elements of `dtype` from f64, each rounded to nearest even (integers: truncated, saturating).
    pub fn from_f64(dtype: DType, shape: &[usize], values: &[f64]) -> Result<Tensor> {
        macro_rules! cast {
            ($t:ty, $f:expr) => {
                Tensor::from_slice::<$t>(shape, &values.iter().map($f).collect::<Vec<$t>>())
            };
        }
        if num_elements(shape)? != values.len() {
            bail!(invalid, "shape {shape:?} does not hold {} values", values.len());
        }
        Ok(match dtype {
            DType::F64 => Tensor::from_slice(shape, values),
            DType::F32 => cast!(f32, |&x| x as f32),
            DType::F16 => cast!(f16, |&x| f16_from_f64(x)),
            DType::BF16 => cast!(bf16, |&x| bf16_from_f64(x)),
            DType::I64 => cast!(i64, |&x| x as i64),
            DType::I32 => cast!(i32, |&x| x as i32),
            DType::I16 => cast!(i16, |&x| x as i16),
            DType::I8 => cast!(i8, |&x| x as i8),
            DType::U64 => cast!(u64, |&x| x as u64),
            DType::U32 => cast!(u32, |&x| x as u32),
            DType::U16 => cast!(u16, |&x| x as u16),
            DType::U8 => cast!(u8, |&x| x as u8),
            DType::Bool => cast!(bool, |&x| x != 0.0),
            DType::U4 | DType::I4 | DType::U2 | DType::I2 => {
                let ints: Vec<i64> = values.iter().map(|&x| x as i64).collect();
                return Tensor::from_i64(dtype, shape, &ints);
            }
            DType::F4E2M1 => {
                let codes: Vec<u8> = values.iter().map(|&x| minifloat::encode(dtype, x)).collect();
                Tensor::from_bytes(dtype, shape, &pack(&codes, 4))?
            }
            d if d.is_float() => {
                let codes: Vec<u8> = values.iter().map(|&x| minifloat::encode(d, x)).collect();
                Tensor::from_bytes(d, shape, &codes)?
            }
            d => bail!(unsupported, "making {d} elements from numbers"),
        })
    }

    /// Elements of `dtype` from i64; narrower integers wrap, as a C cast does.
    pub fn from_i64(dtype: DType, shape: &[usize], values: &[i64]) -> Result<Tensor> {
        macro_rules! cast {
            ($t:ty) => {
                Tensor::from_slice::<$t>(shape, &values.iter().map(|&x| x as $t).collect::<Vec<$t>>())
            };
        }
        if num_elements(shape)? != values.len() {
            bail!(invalid, "shape {shape:?} does not hold {} values", values.len());
        }
        Ok(match dtype {
            DType::I64 => Tensor::from_slice(shape, values),
            DType::I32 => cast!(i32),
            DType::I16 => cast!(i16),
            DType::I8 => cast!(i8),
            DType::U64 => cast!(u64),
            DType::U32 => cast!(u32),
            DType::U16 => cast!(u16),
            DType::U8 => cast!(u8),
            DType::U4 | DType::I4 | DType::U2 | DType::I2 => {
                let codes: Vec<u8> = values.iter().map(|&x| x as u8).collect();
                Tensor::from_bytes(dtype, shape, &pack(&codes, dtype.bits()))?
            }
            _ => Tensor::from_f64(dtype, shape, &values.iter().map(|&x| x as f64).collect::<Vec<_>>())?,
        })
    }

    fn nibbles(&self) -> impl Iterator<Item = u8> + '_ {
        self.bytes().iter().flat_map(|b| [b & 15, b >> 4]).take(self.len())
    }

    fn crumbs(&self) -> impl Iterator<Item = u8> + '_ {
        self.bytes().iter().flat_map(|b| [b & 3, b >> 2 & 3, b >> 4 & 3, b >> 6]).take(self.len())
    }

    /// Typed elements when the type fits, else a converted copy through f64 (f32 callers of any float).
    pub fn to_f32_cow(&self) -> Result<Cow<'_, [f32]>> {
        match self.get_slice::<f32>() {
            Some(s) => Ok(Cow::Borrowed(s)),
            None => Ok(Cow::Owned(self.to_f64_vec()?.into_iter().map(|x| x as f32).collect())),
        }
    }
}

/// Packs codes of `bits` (4 or 2) into bytes, first code in the low bits.
fn pack(codes: &[u8], bits: usize) -> Vec<u8> {
    let per_byte = 8 / bits;
    let mask = (1u8 << bits) - 1;
    codes
        .chunks(per_byte)
        .map(|chunk| chunk.iter().enumerate().fold(0, |byte, (i, &c)| byte | (c & mask) << (i * bits)))
        .collect()
}

/// Bit-for-bit equality (so NaN equals the same NaN).
impl PartialEq for Tensor {
    fn eq(&self, other: &Tensor) -> bool {
        self.dtype == other.dtype
            && self.shape == other.shape
            && self.strings() == other.strings()
            && self.bytes() == other.bytes()
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?}", self.dtype, self.shape)?;
        if let Some(strings) = self.strings() {
            return write!(f, " {:?}", &strings[..strings.len().min(8)]);
        }
        if self.len() <= 16
            && let Ok(values) = self.to_f64_vec()
        {
            return write!(f, " {values:?}");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_numeric_type_round_trips_small_integers() {
        for &d in DType::ALL {
            if d == DType::String || d.is_complex() || d == DType::F8E8M0 {
                continue;
            }
            let values: Vec<f64> =
                if d == DType::I2 || d == DType::Bool { vec![0.0, 1.0, 1.0] } else { vec![0.0, 1.0, 2.0] };
            let t = Tensor::from_f64(d, &[3], &values).unwrap();
            assert_eq!(t.to_f64_vec().unwrap(), values, "{d}");
        }
    }

    #[test]
    fn packed_ints_keep_their_sign() {
        let t = Tensor::from_i64(DType::I4, &[3], &[-8, 7, -1]).unwrap();
        assert_eq!(t.bytes().len(), 2);
        assert_eq!(t.to_i64_vec().unwrap(), [-8, 7, -1]);
        let t = Tensor::from_i64(DType::I2, &[5], &[-2, -1, 0, 1, -2]).unwrap();
        assert_eq!(t.to_i64_vec().unwrap(), [-2, -1, 0, 1, -2]);
    }

    #[test]
    fn writing_a_shared_tensor_leaves_the_other_alone() {
        let a = Tensor::from_slice(&[2], &[1f32, 2.0]);
        let mut b = a.clone();
        b.as_mut_slice::<f32>()[0] = 9.0;
        assert_eq!(a.as_slice::<f32>(), [1.0, 2.0]);
        assert_eq!(b.as_slice::<f32>(), [9.0, 2.0]);
    }

    #[test]
    fn shared_bytes_are_checked_and_realigned() {
        let bytes: Vec<u8> = (0..17).collect();
        let t = Tensor::from_shared(DType::F32, &[4], bytes.clone(), 1).unwrap();
        assert_eq!(t.bytes(), &bytes[1..17]);
        assert!(Tensor::from_shared(DType::F32, &[5], bytes.clone(), 0).is_err());
        assert!(Tensor::from_shared(DType::U8, &[2], bytes, usize::MAX).is_err());
    }

    #[test]
    fn hostile_shapes_are_errors() {
        assert!(num_elements(&[usize::MAX, 2]).is_err());
        assert_eq!(num_elements(&[usize::MAX, usize::MAX, 0]).unwrap(), 0);
    }
}
