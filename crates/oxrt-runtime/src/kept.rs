//! What runs step by step keep from one to the next.

use oxrt_backend::{ALIGN, Bound};
use oxrt_tensor::{DType, Result, Tensor, TensorView, num_elements};
use std::collections::HashMap;
use std::sync::Arc;

/// What one run leaves to the next: kernels bound to sizes that come again, and memory.
#[derive(Default)]
pub(crate) struct Kept {
    /// By step: the kernel as it was bound last.
    pub bound: HashMap<usize, BoundStep>,
    pub free: Free,
    pub workspace: Option<Tensor>,
    /// What runs on a device keep there.
    pub side: Option<crate::loose::Side>,
}

/// A kernel, and what it was bound to.
pub(crate) struct BoundStep {
    pub inputs: Vec<Option<Vec<usize>>>,
    pub outputs: Vec<Option<Vec<usize>>>,
    pub known: Vec<Option<Tensor>>,
    pub bound: Arc<dyn Bound>,
    /// Index of the kernel among those of the step.
    pub kernel: usize,
}

/// Elements up to which values are compared with those that a kernel was bound to.
const COMPARED: usize = 64;

impl BoundStep {
    /// Whether binding again would make the same.
    pub fn fits(&self, inputs: &[Option<Vec<usize>>], outputs: &[Option<&[usize]>], known: &[Option<Tensor>]) -> bool {
        let same = |(a, b): (&Option<Tensor>, &Option<Tensor>)| match (a, b) {
            (None, None) => true,
            (Some(a), Some(b)) => {
                a.same_storage(b) || (a.len() <= COMPARED && a.dtype() == b.dtype() && a.bytes() == b.bytes())
            }
            _ => false,
        };
        self.inputs == inputs
            && self.outputs.iter().map(Option::as_deref).eq(outputs.iter().copied())
            && self.known.iter().zip(known).all(same)
    }
}

/// Memory of tensors that nobody reads any more.
#[derive(Default)]
pub(crate) struct Free {
    /// With the run that put it here.
    blocks: Vec<(u64, Tensor)>,
    run: u64,
}

impl Free {
    /// Takes back what was a tensor, unless somebody else holds it.
    pub fn put(&mut self, mut t: Tensor) {
        if t.own_bytes() > 0 {
            self.blocks.push((self.run, t));
        }
    }

    /// A tensor of any contents: in the tightest memory that is free and not more than twice as large, else in new one.
    pub fn take(&mut self, dtype: DType, shape: &[usize]) -> Result<Tensor> {
        let need = dtype.bytes_for(num_elements(shape)?);
        let fitting = |t: &mut Tensor| Some(t.own_bytes()).filter(|&own| own >= need && own / 2 <= need.max(ALIGN));
        let best = self.blocks.iter_mut().enumerate().filter_map(|(i, (_, t))| Some((fitting(t)?, i))).min();
        let reused = best.and_then(|(_, i)| self.blocks.swap_remove(i).1.recycled(dtype, shape));
        reused.map_or_else(|| Tensor::try_zeros(dtype, shape), Ok)
    }

    /// A copy.
    pub fn copied(&mut self, t: &TensorView) -> Result<Tensor> {
        if matches!(t.dtype(), DType::Bool | DType::String) {
            return t.to_tensor();
        }
        let mut copy = self.take(t.dtype(), t.shape())?;
        copy.bytes_mut().copy_from_slice(t.bytes());
        Ok(copy)
    }

    /// Ends a run: what it had no use for goes.
    pub fn end(&mut self) {
        self.blocks.retain(|(run, _)| *run == self.run);
        self.run += 1;
    }
}

impl Kept {
    /// Takes back outputs of an earlier run.
    pub fn put(&mut self, outputs: impl IntoIterator<Item = Tensor>) {
        outputs.into_iter().for_each(|t| self.free.put(t));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back_and_goes_when_it_is_not_wanted() {
        let mut free = Free::default();
        let a = free.take(DType::F32, &[100]).unwrap();
        let (place, shared) = (a.bytes().as_ptr(), a.clone());
        free.put(a);
        assert!(free.blocks.is_empty(), "somebody still reads it");
        free.put(shared);
        free.end();
        assert!(free.take(DType::F32, &[10]).unwrap().bytes().as_ptr() != place, "much too large");
        let b = free.take(DType::I64, &[5, 10]).unwrap();
        assert_eq!((b.bytes().as_ptr(), b.shape(), b.dtype()), (place, &[5, 10][..], DType::I64));
        free.put(b);
        free.end();
        let mut flags = free.take(DType::Bool, &[400]).unwrap();
        assert!(flags.bytes_mut().iter().all(|&b| b == 0));
        free.put(flags);
        free.end();
        free.end();
        assert!(free.blocks.is_empty(), "a run had no use for it");
    }
}
