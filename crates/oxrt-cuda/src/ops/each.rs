//! Kernels with a thread per element, whose parameters are pointers, a count, and what a family adds.

use super::{Entry, NodeView};
use crate::backend::{Ctx, Launcher};
use crate::gpu::Params;
use oxrt_backend::{Bound, FnBound, Io, Kernel, Packing, bound};
use oxrt_tensor::{Result, Tensor};

/// An entry whose operands keep their types: its text was written for those alone.
pub(super) const fn strict(
    name: &'static str,
    ops: &'static [&'static str],
    supports: fn(&Ctx, &NodeView) -> Option<()>,
    pack: fn(&Ctx, &NodeView) -> Result<Packing>,
    load: fn(&Ctx, &NodeView, &[Tensor]) -> Result<Box<dyn Kernel>>,
) -> Entry {
    Entry { name, ops, supports, pack, load, mixes: false, narrow: false, timed: false, counts: false }
}

/// An entry for nodes whose data decides the size of their results.
pub(super) const fn counted(entry: Entry) -> Entry {
    Entry { counts: true, ..entry }
}

/// One compiled text, and nothing packed.
pub(super) fn only(ctx: &Ctx, text: &str) -> Result<Packing> {
    Ok(Packing { tensors: vec![ctx.code(text)?], consumed: Vec::new() })
}

/// Lists of eight, as texts declare them; what is missing is `fill`.
pub(super) fn eight<T: Copy>(list: &[T], fill: T) -> [T; 8] {
    std::array::from_fn(|d| list.get(d).copied().unwrap_or(fill))
}

/// Pointers to the first inputs and outputs, in order; null where one is absent.
pub(super) fn pointers(io: &Io, inputs: usize, outputs: usize) -> Params {
    let p = (0..inputs).fold(Params::new(), |p, i| p.ptr(io.input::<u8>(i)));
    (0..outputs).fold(p, |p, i| p.ptr(io.output::<u8>(i).cast_const()))
}

/// A launch with a thread per element in blocks of 256: the struct holds pointers to so many inputs and outputs, the count,
/// `fields`, and a status.
pub(super) struct Each {
    pub launcher: Launcher,
    pub inputs: usize,
    pub outputs: usize,
    pub count: usize,
    pub fields: Params,
}

impl Each {
    /// # Safety
    /// Buffers have the sizes that the fields speak of.
    pub unsafe fn run(&self, io: &Io) -> Result<()> {
        let p = pointers(io, self.inputs, self.outputs).u32(self.count).join(&self.fields).status(&io.device).finish();
        // SAFETY: the caller's promise.
        unsafe { self.launcher.run(io, [self.count.div_ceil(256), 1, 1], 256, 0, &p) }
    }

    /// The launch as all there is to do.
    pub fn bound(self) -> FnBound<impl Fn(&Io) -> Result<()> + Send + Sync + 'static> {
        // SAFETY: buffers have the bound sizes, which the fields were made from.
        bound(move |io| unsafe { self.run(io) })
    }

    /// [`Each::bound`], boxed.
    pub fn boxed(self) -> Result<Box<dyn Bound>> {
        self.bound().boxed()
    }
}
