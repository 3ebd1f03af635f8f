//! The contract between builder, runtime and a device.
//!
//! The life of a node on a device:
//!
//! 1. **build**: [`Backend::candidates`] names the kernels that can run the node; one is chosen by
//!    measurement. [`Backend::pack`] turns its weights into the order the kernel reads; the result is
//!    stored in the engine file.
//! 2. **load**: [`Backend::load`] makes a [`Kernel`] from the node and the packed (memory-mapped) tensors.
//! 3. **bind**: for each set of input sizes seen, [`Kernel::bind`] fixes blocking and workspace.
//! 4. **run**: [`Bound::run`] gets raw pointers; it neither allocates nor looks at shapes again.
//!
//! Buffers are contiguous and row-major, aligned to [`ALIGN`] when they lie in the arena. A node that a
//! backend offers no candidate for runs by the reference evaluator on the host; the plan lists it.

mod closures;
mod device;
pub mod geometry;

pub use closures::{FnBound, FnKernel, Outcome, bound, counting, kernel};
pub use device::{
    Block, COUNTERS, Device, DeviceIo, Queue, Recording, STATUS_DIVISION, STATUS_INDEX, Words, status_error,
};

use oxrt_ir::{Attrs, DType, Dim, Graph, Node, NodeId, Tensor, TensorType};
use oxrt_tensor::{Error, Result};
use std::fmt;
use std::sync::Arc;

/// Alignment of arena buffers and packed tensors, in bytes.
pub const ALIGN: usize = 64;

/// Attribute of a product that multiplies in single precision whatever the build allows: half precision does not hold what it
/// reads.
pub const WIDE: &str = "oxrt_wide";

/// The least exact arithmetic that a build allows. Kernels of more exact ones stay candidates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Precision {
    /// Single precision.
    #[default]
    F32,
    /// Operands of products rounded to 11 bits of precision, as matrix units take numbers in single precision; sums and all
    /// tensors in single precision.
    Tf32,
    /// Operands of products, and tensors between steps, rounded to half precision (11 bits); sums in single precision.
    F16,
    /// Operands of products, and tensors between steps, rounded to bfloat16 (8 bits of precision); sums in single precision.
    Bf16,
}

impl Precision {
    /// The name, as in `--precision`.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "fp32",
            Precision::Tf32 => "tf32",
            Precision::F16 => "fp16",
            Precision::Bf16 => "bf16",
        }
    }

    /// The element type of tensors between steps.
    pub fn storage(self) -> DType {
        match self {
            Precision::F32 | Precision::Tf32 => DType::F32,
            Precision::F16 => DType::F16,
            Precision::Bf16 => DType::BF16,
        }
    }
}

impl std::str::FromStr for Precision {
    type Err = Error;

    fn from_str(s: &str) -> Result<Precision> {
        match s {
            "fp32" | "f32" => Ok(Precision::F32),
            "tf32" => Ok(Precision::Tf32),
            "fp16" | "f16" => Ok(Precision::F16),
            "bf16" => Ok(Precision::Bf16),
            other => Err(Error::unsupported(format!("precision `{other}`"))
                .help("precisions are `fp32`, `bf16` and, on CUDA devices, `tf32` and `fp16`")),
        }
    }
}

/// A device: what it can run, and how.
pub trait Backend: Send + Sync {
    /// Short name, as in `--device`: `cpu`.
    fn name(&self) -> &'static str;

    /// What an engine for this backend depends on, in words: `avx512`. Kept in the engine file.
    fn target(&self) -> String;

    /// Kernels that can run the node for every size in its ranges, best guess first. Empty when there
    /// is none: the node then runs by the reference evaluator.
    fn candidates(&self, node: NodeView) -> Vec<&'static str>;

    /// The kernel for a node whose data decides the size of its results, if there is one: it says how large they get
    /// ([`Kernel::most`]). No such kernel is among [`Backend::candidates`].
    fn counting(&self, _node: NodeView) -> Option<&'static str> {
        None
    }

    /// Kernels for the node of which only a measurement tells the quickest, the most exact first; fewer than two where the
    /// first of [`Backend::candidates`] is clear.
    fn rivals(&self, _node: NodeView) -> Vec<&'static str> {
        Vec::new()
    }

    /// Whether a rival serves a node after all: what a library has for one it may only find out at length. Asked when kernels
    /// are timed.
    fn serves(&self, _node: NodeView, _candidate: &str) -> bool {
        true
    }

    /// What a later build needs to pack a candidate to the same bytes, where that does not follow from the node: what a library
    /// chose for it, or compiled.
    fn note(&self, _node: NodeView, _candidate: &str) -> Option<String> {
        None
    }

    /// Takes such a note of an earlier build; `false` where it is of no use any more.
    fn recall(&self, _node: NodeView, _candidate: &str, _note: &str) -> bool {
        false
    }

    /// Bytes that a rival's packed weights take more than the node's weights.
    fn extra_bytes(&self, _node: NodeView, _candidate: &str) -> usize {
        0
    }

    /// What measured times depend on, in words: processor, tier, threads.
    fn timing_context(&self) -> String {
        self.target()
    }

    /// The precision of a candidate's arithmetic.
    fn precision_of(&self, _candidate: &str) -> Precision {
        Precision::F32
    }

    /// The device, when it has memory of its own; [`Bound::run`] then only puts its work into a queue.
    fn device(&self) -> Option<Arc<dyn Device>> {
        None
    }

    /// The backend of what runs on the host beside the device: bodies of `If`, `Loop` and `Scan`.
    fn host(&self) -> Option<Arc<dyn Backend>> {
        None
    }

    /// Whether it multiplies floats of 8 bits; products of them are done in single precision (or the build's) otherwise.
    fn multiplies_small_floats(&self) -> bool {
        false
    }

    /// Whether a candidate takes and gives each of its tensors in single precision or the narrower type of the build's
    /// precision, as they come.
    fn mixes_floats(&self, _candidate: &str) -> bool {
        false
    }

    /// Packs constants for a candidate, once, at build time.
    fn pack(&self, node: NodeView, candidate: &str) -> Result<Packing>;

    /// Makes the kernel. `packed` is what [`Backend::pack`] gave, now lying in the engine file.
    fn load(&self, node: NodeView, candidate: &str, packed: &[Tensor]) -> Result<Box<dyn Kernel>>;
}

/// Constants in the order a kernel reads.
#[derive(Clone, Debug, Default)]
pub struct Packing {
    pub tensors: Vec<Tensor>,
    /// Inputs that the packed tensors replace. Their originals are not stored for this node, and their
    /// pointers are null at run time. All other constants arrive as ordinary inputs.
    pub consumed: Vec<usize>,
}

/// A node made ready for any sizes.
pub trait Kernel: Send + Sync {
    /// Fixes the sizes. Shapes of outputs come from shape inference and are right; where the data decides a size they are
    /// those of [`Kernel::most`].
    fn bind(&self, args: &BindArgs) -> Result<Box<dyn Bound>>;

    /// How large the results may get, from the inputs alone, where the data decides; `None` where it does not.
    ///
    /// Such a kernel gets one more output behind those of the node: an `i64` to which it writes the size that it found. It
    /// writes its results as tensors of that size, from the beginning of the memory that would hold the greatest.
    fn most(&self, _args: &BindArgs) -> Result<Option<Vec<Greatest>>> {
        Ok(None)
    }
}

/// A result whose size the data may decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greatest {
    /// The greatest shape.
    pub shape: Vec<usize>,
    /// The axis whose size is found by the run.
    pub axis: Option<usize>,
}

impl Greatest {
    /// The shape at the size that was found.
    ///
    /// # Errors
    /// A size that there was no room for.
    pub fn at(&self, found: i64) -> Result<Vec<usize>> {
        let mut shape = self.shape.clone();
        if let Some(axis) = self.axis {
            let most = shape[axis];
            let size = usize::try_from(found).ok().filter(|&n| n <= most);
            shape[axis] =
                size.ok_or_else(|| Error::bug(format!("a kernel found {found} where {most} was the most")))?;
        }
        Ok(shape)
    }
}

/// What is known of a node's tensors when sizes are fixed.
#[derive(Clone, Copy, Debug)]
pub struct BindArgs<'a> {
    pub inputs: &'a [Option<BindInput<'a>>],
    pub outputs: &'a [Option<&'a [usize]>],
}

impl<'a> BindArgs<'a> {
    /// Shape of input `i`, which must be present.
    pub fn shape(&self, i: usize) -> Result<&'a [usize]> {
        self.opt_shape(i).ok_or_else(|| Error::bug(format!("input {i} is missing at bind time")))
    }

    pub fn opt_shape(&self, i: usize) -> Option<&'a [usize]> {
        self.inputs.get(i).copied().flatten().map(|x| x.shape)
    }

    /// Elements of input `i`, when they are known before the run.
    pub fn value(&self, i: usize) -> Option<&'a Tensor> {
        self.inputs.get(i).copied().flatten()?.value
    }

    pub fn output(&self, i: usize) -> Result<&'a [usize]> {
        let shape = self.outputs.get(i).copied().flatten();
        shape.ok_or_else(|| Error::bug(format!("output {i} is missing at bind time")))
    }
}

#[derive(Clone, Copy, Debug)]
pub struct BindInput<'a> {
    pub shape: &'a [usize],
    /// The elements, for constants and for integers computed from sizes alone (starts of a slice, …).
    pub value: Option<&'a Tensor>,
}

/// A node with fixed sizes.
pub trait Bound: Send + Sync {
    /// Scratch memory of one run, in bytes.
    fn workspace_bytes(&self) -> usize {
        0
    }

    /// Inputs whose buffer output 0 may share, when nobody reads them afterwards. Sizes in bytes are
    /// equal for each of them.
    fn in_place(&self) -> &[usize] {
        &[]
    }

    /// Floating-point operations of one run, for profiles (a multiply-add counts as two).
    fn flops(&self) -> u64 {
        0
    }

    /// Does the work, or queues it on a device with memory of its own.
    ///
    /// # Safety
    /// Pointers match the bound sizes and element types, are null exactly for absent or packed inputs
    /// and absent outputs, and outputs overlap nothing but an input that [`Bound::in_place`] allows.
    unsafe fn run(&self, io: &Io) -> Result<()>;
}

/// Raw buffers of one run.
#[derive(Clone, Copy, Debug)]
pub struct Io<'a> {
    pub inputs: &'a [*const u8],
    pub outputs: &'a [*mut u8],
    /// Aligned to [`ALIGN`], of [`Bound::workspace_bytes`] bytes.
    pub workspace: *mut u8,
    /// On devices with memory of their own.
    pub device: DeviceIo,
}

impl Io<'_> {
    /// Input `i` as a typed pointer; null when absent.
    pub fn input<T>(&self, i: usize) -> *const T {
        self.inputs.get(i).copied().unwrap_or(std::ptr::null()).cast()
    }

    pub fn output<T>(&self, i: usize) -> *mut T {
        self.outputs.get(i).copied().unwrap_or(std::ptr::null_mut()).cast()
    }
}

/// A node with the graph around it: types, constants, attributes.
#[derive(Clone, Copy)]
pub struct NodeView<'a> {
    pub graph: &'a Graph,
    pub id: NodeId,
}

impl<'a> NodeView<'a> {
    pub fn new(graph: &'a Graph, id: NodeId) -> NodeView<'a> {
        NodeView { graph, id }
    }

    pub fn node(&self) -> &'a Node {
        &self.graph[self.id]
    }

    pub fn op(&self) -> &'a str {
        &self.node().op
    }

    pub fn attrs(&self) -> &'a Attrs {
        &self.node().attrs
    }

    pub fn num_inputs(&self) -> usize {
        self.node().inputs().len()
    }

    pub fn num_outputs(&self) -> usize {
        self.node().outputs().len()
    }

    pub fn has(&self, i: usize) -> bool {
        self.node().input(i).is_some()
    }

    pub fn ty(&self, i: usize) -> Option<&'a TensorType> {
        self.graph[self.node().input(i)?].ty.as_tensor()
    }

    pub fn dtype(&self, i: usize) -> Option<DType> {
        self.ty(i).map(|t| t.dtype)
    }

    pub fn dims(&self, i: usize) -> Option<&'a [Dim]> {
        self.ty(i)?.dims.as_deref()
    }

    pub fn rank(&self, i: usize) -> Option<usize> {
        self.dims(i).map(<[Dim]>::len)
    }

    pub fn constant(&self, i: usize) -> Option<&'a Tensor> {
        self.graph.constant(self.node().input(i)?)
    }

    pub fn output_ty(&self, i: usize) -> Option<&'a TensorType> {
        self.graph[self.node().output(i)?].ty.as_tensor()
    }

    pub fn output_dtype(&self, i: usize) -> Option<DType> {
        self.output_ty(i).map(|t| t.dtype)
    }
}

impl fmt::Debug for NodeView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.node().describe())
    }
}

/// A backend without kernels: every node runs by the reference evaluator. The judge of the others.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReferenceBackend;

impl Backend for ReferenceBackend {
    fn name(&self) -> &'static str {
        "reference"
    }

    fn target(&self) -> String {
        "any".to_string()
    }

    fn candidates(&self, _: NodeView) -> Vec<&'static str> {
        Vec::new()
    }

    fn pack(&self, node: NodeView, _: &str) -> Result<Packing> {
        Err(Error::bug(format!("{node:?} has no kernel to pack for")))
    }

    fn load(&self, node: NodeView, candidate: &str, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
        Err(Error::invalid(format!("the reference backend has no kernel `{candidate}` for {node:?}")))
    }
}
