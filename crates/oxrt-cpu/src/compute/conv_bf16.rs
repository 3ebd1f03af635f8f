//! Convolution on the units for bfloat16, channels last.

use super::conv::{Filter, Lowered};
use super::gemm_bf16::{self, Element, Out, Plan};
use super::window::Window;
use crate::kernels::bf16::Bf16Unit;
use crate::pool::ThreadPool;

/// Values of one group's packed weights.
fn group_len(filter: &Filter) -> usize {
    gemm_bf16::packed_len(filter.k(), filter.cout / filter.groups)
}

/// Values of the packed weights.
pub fn packed_len(filter: &Filter) -> usize {
    filter.groups * group_len(filter)
}

/// Packs weights in ONNX's order, `[cout][cin / groups][taps]`.
///
/// # Panics
/// When the slices do not have the lengths of the filter.
pub fn pack(filter: &Filter, w: &[f32], out: &mut [u16]) {
    assert_eq!(out.len(), packed_len(filter));
    let (n, len) = (filter.cout / filter.groups, group_len(filter));
    for g in 0..filter.groups {
        gemm_bf16::pack(filter.k(), n, &filter.matrix(w, g), n, 1, &mut out[g * len..(g + 1) * len]);
    }
}

/// A convolution bound to sizes. Not for depthwise filters, whose products are too short.
#[derive(Clone, Debug)]
pub struct ConvBf16 {
    unit: &'static Bf16Unit,
    lowered: Lowered,
    plan: Plan,
    element: usize,
}

impl ConvBf16 {
    /// Binds a filter to the sizes of `window`, for input elements of type `E`.
    pub fn new<E: Element>(unit: &'static Bf16Unit, filter: Filter, window: Window, threads: usize) -> ConvBf16 {
        let lowered = Lowered::new(filter, window);
        let as_it_lies = size_of::<E>() == 2 && lowered.is_pointwise() && lowered.size.kc.is_multiple_of(unit.step);
        let plan = Plan::new(unit, lowered.size, threads, as_it_lies.then_some(filter.cin));
        ConvBf16 { unit, lowered, plan, element: size_of::<E>() }
    }

    fn padded_bytes(&self) -> usize {
        (self.lowered.padded_len() * self.element).next_multiple_of(64)
    }

    /// Bytes of workspace a run needs.
    pub fn workspace_bytes(&self) -> usize {
        self.padded_bytes() + self.plan.workspace_bytes()
    }

    /// Runs it.
    ///
    /// # Safety
    /// `x` and `out` cover the bound sizes, `E` is the type given to [`ConvBf16::new`], `workspace` has
    /// [`ConvBf16::workspace_bytes`] that nobody else uses.
    pub unsafe fn run<E: Element>(&self, pool: &ThreadPool, x: *const E, w: *const u16, out: &Out, workspace: *mut u8) {
        debug_assert_eq!(size_of::<E>(), self.element);
        let filter = self.lowered.filter;
        let n = filter.cout / filter.groups;
        // SAFETY: the workspace holds the padded copy, then the product's part; groups write disjoint channels.
        unsafe {
            let x = self.lowered.padded(pool, x, workspace.cast());
            let workspace = workspace.add(self.padded_bytes());
            for g in 0..filter.groups {
                let at =
                    |p: *const u8, half: bool| if p.is_null() { p } else { p.add(g * n * if half { 2 } else { 4 }) };
                let out = Out {
                    c: at(out.c, out.c_half).cast_mut(),
                    bias: at(out.bias.cast(), false).cast(),
                    residual: at(out.residual, out.residual_half),
                    ..*out
                };
                let w = w.add(g * group_len(&filter));
                if self.lowered.is_pointwise() {
                    gemm_bf16::run(self.unit, pool, &self.plan, &self.lowered.matrix(x, g), w, &out, workspace);
                } else {
                    gemm_bf16::run(self.unit, pool, &self.plan, &self.lowered.rows(x, g), w, &out, workspace);
                }
            }
        }
    }
}
