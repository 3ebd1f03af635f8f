//! Kernels and bound nodes from closures.

use crate::{BindArgs, Bound, Greatest, Io, Kernel};
use oxrt_tensor::Result;

/// A kernel from its bind function.
pub struct FnKernel<F>(pub F);

impl<F: Fn(&BindArgs) -> Result<Box<dyn Bound>> + Send + Sync> Kernel for FnKernel<F> {
    fn bind(&self, args: &BindArgs) -> Result<Box<dyn Bound>> {
        (self.0)(args)
    }
}

/// Boxes a bind function as a kernel.
pub fn kernel(bind: impl Fn(&BindArgs) -> Result<Box<dyn Bound>> + Send + Sync + 'static) -> Result<Box<dyn Kernel>> {
    Ok(Box::new(FnKernel(bind)))
}

/// A kernel for nodes whose data decides sizes.
struct Counting<M, B> {
    most: M,
    bind: B,
}

impl<M, B> Kernel for Counting<M, B>
where
    M: Fn(&BindArgs) -> Result<Vec<Greatest>> + Send + Sync,
    B: Fn(&BindArgs) -> Result<Box<dyn Bound>> + Send + Sync,
{
    fn bind(&self, args: &BindArgs) -> Result<Box<dyn Bound>> {
        (self.bind)(args)
    }

    fn most(&self, args: &BindArgs) -> Result<Option<Vec<Greatest>>> {
        (self.most)(args).map(Some)
    }
}

/// Boxes a kernel for nodes whose data decides sizes: [`Kernel::most`] and [`Kernel::bind`].
pub fn counting(
    most: impl Fn(&BindArgs) -> Result<Vec<Greatest>> + Send + Sync + 'static,
    bind: impl Fn(&BindArgs) -> Result<Box<dyn Bound>> + Send + Sync + 'static,
) -> Result<Box<dyn Kernel>> {
    Ok(Box::new(Counting { most, bind }))
}

/// A bound node from its run function.
pub struct FnBound<F> {
    run: F,
    workspace: usize,
    in_place: Vec<usize>,
    flops: usize,
}

/// What a run function gives: nothing, or an error about the data it saw.
pub trait Outcome {
    fn into_result(self) -> Result<()>;
}

impl Outcome for () {
    fn into_result(self) -> Result<()> {
        Ok(())
    }
}

impl Outcome for Result<()> {
    fn into_result(self) -> Result<()> {
        self
    }
}

/// Starts a bound node: `run` may rely on the promises of [`Bound::run`].
pub fn bound<R: Outcome, F: Fn(&Io) -> R + Send + Sync + 'static>(run: F) -> FnBound<F> {
    FnBound { run, workspace: 0, in_place: Vec::new(), flops: 0 }
}

impl<F> FnBound<F> {
    pub fn workspace(mut self, bytes: usize) -> Self {
        self.workspace = bytes;
        self
    }

    pub fn in_place(mut self, inputs: &[usize]) -> Self {
        self.in_place = inputs.to_vec();
        self
    }

    pub fn flops(mut self, flops: usize) -> Self {
        self.flops = flops;
        self
    }

    pub fn boxed<R: Outcome>(self) -> Result<Box<dyn Bound>>
    where
        F: Fn(&Io) -> R + Send + Sync + 'static,
    {
        Ok(Box::new(self))
    }
}

impl<R: Outcome, F: Fn(&Io) -> R + Send + Sync> Bound for FnBound<F> {
    fn workspace_bytes(&self) -> usize {
        self.workspace
    }

    fn in_place(&self) -> &[usize] {
        &self.in_place
    }

    fn flops(&self) -> u64 {
        self.flops as u64
    }

    unsafe fn run(&self, io: &Io) -> Result<()> {
        (self.run)(io).into_result()
    }
}
