//! Borrowed tensors, for inputs and outputs of a run.

use crate::{DType, Element, Result, Tensor, bail, num_elements};
use std::fmt;

/// Contiguous row-major elements that somebody else owns.
#[derive(Clone, Copy)]
pub struct TensorView<'a> {
    dtype: DType,
    shape: &'a [usize],
    bytes: &'a [u8],
}

impl<'a> TensorView<'a> {
    /// # Errors
    /// When `bytes` is not what `shape` needs, or is not aligned to the element.
    pub fn new(dtype: DType, shape: &'a [usize], bytes: &'a [u8]) -> Result<TensorView<'a>> {
        let want = dtype.bytes_for(num_elements(shape)?);
        if bytes.len() != want {
            bail!(invalid, "{dtype} of shape {shape:?} needs {want} bytes, given {}", bytes.len());
        }
        if want > 0 && !(bytes.as_ptr() as usize).is_multiple_of(dtype.size().unwrap_or(1).min(8)) {
            bail!(invalid, "the {dtype} data is not aligned to its elements");
        }
        Ok(TensorView { dtype, shape, bytes })
    }

    /// A view of a slice of elements.
    pub fn of<T: Element>(shape: &'a [usize], values: &'a [T]) -> Result<TensorView<'a>> {
        // SAFETY: elements are plain data, so their bytes may be read.
        let bytes = unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) };
        TensorView::new(T::DTYPE, shape, bytes)
    }

    pub fn dtype(&self) -> DType {
        self.dtype
    }

    pub fn shape(&self) -> &'a [usize] {
        self.shape
    }

    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The elements, or `None` when `T` is not the element type.
    pub fn as_slice<T: Element>(&self) -> Option<&'a [T]> {
        if T::DTYPE != self.dtype {
            return None;
        }
        if self.bytes.is_empty() {
            return Some(&[]);
        }
        // SAFETY: `new` checked length and alignment; engines write only valid elements.
        Some(unsafe { std::slice::from_raw_parts(self.bytes.as_ptr().cast(), self.bytes.len() / size_of::<T>()) })
    }

    /// A copy that owns its data.
    pub fn to_tensor(&self) -> Result<Tensor> {
        Tensor::from_bytes(self.dtype, self.shape, self.bytes)
    }
}

impl Tensor {
    /// A view of the whole tensor. String tensors have no bytes to view and are refused.
    pub fn view(&self) -> Result<TensorView<'_>> {
        TensorView::new(self.dtype(), self.shape(), self.bytes())
    }
}

impl fmt::Debug for TensorView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?}", self.dtype, self.shape)
    }
}
