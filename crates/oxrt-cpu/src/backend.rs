//! The CPU as a [`Backend`].

use crate::half;
use crate::kernels::Kernels;
use crate::kernels::bf16::Bf16Unit;
use crate::ops::{BF16_OPS, Entry, OPS, RIVALS, Rival};
use crate::pool::{ThreadPool, default_threads};
use crate::simd::Isa;
use oxrt_backend::{Backend, Kernel, NodeView, Packing, Precision};
pub(crate) use oxrt_backend::{bound, kernel};
use oxrt_ir::Tensor;
use oxrt_tensor::{DType, Error, Result};
use std::sync::Arc;

/// What every kernel of the backend works with.
#[derive(Clone)]
pub(crate) struct Ctx {
    pub kernels: &'static Kernels,
    pub pool: Arc<ThreadPool>,
}

impl Ctx {
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }
}

/// Runs graphs on the processor. Packed weights belong to one instruction-set tier: an engine built for a tier is loaded
/// by a backend made for it.
pub struct CpuBackend {
    ctx: Ctx,
    precision: Precision,
}

impl CpuBackend {
    /// For the best tier of this CPU (or the one `OXRT_ISA` names), with that many threads; 0 means as many as the process
    /// may use.
    pub fn new(threads: usize) -> CpuBackend {
        CpuBackend::with(Kernels::best(), threads)
    }

    /// For a tier, as [`Backend::target`] names it.
    ///
    /// # Errors
    /// When the name is unknown or this CPU lacks the tier.
    pub fn for_target(target: &str, threads: usize) -> Result<CpuBackend> {
        let isa = Isa::from_name(target).ok_or_else(|| Error::invalid(format!("unknown CPU target `{target}`")))?;
        let kernels = Kernels::of(isa).ok_or_else(|| {
            Error::unsupported(format!("the engine was built for {target}, which this CPU does not have"))
                .help(format!("build it here, or with OXRT_ISA={}", Isa::detect().name()))
        })?;
        Ok(CpuBackend::with(kernels, threads))
    }

    fn with(kernels: &'static Kernels, threads: usize) -> CpuBackend {
        let threads = if threads == 0 { default_threads() } else { threads };
        CpuBackend { ctx: Ctx { kernels, pool: ThreadPool::shared(threads) }, precision: Precision::F32 }
    }

    /// The same, offering kernels down to this precision when it builds. (Running an engine does not ask.)
    pub fn with_precision(self, precision: Precision) -> CpuBackend {
        CpuBackend { precision, ..self }
    }

    /// The unit of this CPU that multiplies bfloat16: `amx_bf16`, `avx512_bf16`.
    pub fn bf16_unit() -> Option<&'static str> {
        Bf16Unit::best().map(|unit| unit.name)
    }

    /// Threads that share the work.
    pub fn threads(&self) -> usize {
        self.ctx.threads()
    }

    /// The pool, for work outside kernels.
    pub fn pool(&self) -> &Arc<ThreadPool> {
        &self.ctx.pool
    }

    /// The entry of a candidate, and whether it is to run in single precision on half-precision tensors.
    fn entry(&self, candidate: &str) -> Result<(&'static Entry, bool)> {
        let plain = OPS.iter().chain(BF16_OPS).map(|e| (e.name, *e, false));
        let half = half::entries().iter().map(|(name, e)| (*name, *e, true));
        plain
            .chain(half)
            .find(|(name, ..)| *name == candidate)
            .map(|(_, entry, half)| (entry, half))
            .ok_or_else(|| Error::invalid(format!("the CPU backend has no kernel `{candidate}`")))
    }
}

impl Backend for CpuBackend {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn target(&self) -> String {
        self.ctx.kernels.isa.name().to_string()
    }

    fn candidates(&self, node: NodeView) -> Vec<&'static str> {
        let fits = |e: &Entry, node: &NodeView| {
            (e.ops.is_empty() || e.ops.contains(&node.op())) && (e.supports)(node).is_some()
        };
        // Operands that are bfloat16 anyway lose nothing.
        let halves = [0, 1].iter().all(|&i| node.dtype(i) == Some(DType::BF16));
        let bf16 = if self.precision == Precision::Bf16 || halves { BF16_OPS } else { &[] };
        let mut names: Vec<&'static str> = bf16.iter().chain(OPS).filter(|e| fits(e, &node)).map(|e| e.name).collect();
        if let Some((graph, id)) = half::widened(&node) {
            let wide = NodeView::new(&graph, id);
            names.extend(half::entries().iter().filter(|(_, e)| fits(e, &wide)).map(|(name, _)| *name));
        }
        names
    }

    fn rivals(&self, node: NodeView) -> Vec<&'static str> {
        let allowed = |e: &Entry| self.precision == Precision::Bf16 || BF16_OPS.iter().all(|b| b.name != e.name);
        let fits = |(e, fits): &&Rival| e.ops.contains(&node.op()) && allowed(e) && fits(&node).is_some();
        RIVALS.iter().filter(fits).map(|(e, _)| e.name).collect()
    }

    fn extra_bytes(&self, node: NodeView, candidate: &str) -> usize {
        crate::ops::extra_bytes(&node, candidate)
    }

    fn timing_context(&self) -> String {
        let bf16 = CpuBackend::bf16_unit().unwrap_or("no bf16 unit");
        format!("{}, {}, {bf16}, {} threads", cpu_name(), self.target(), self.threads())
    }

    fn precision_of(&self, candidate: &str) -> Precision {
        if BF16_OPS.iter().any(|e| e.name == candidate) { Precision::Bf16 } else { Precision::F32 }
    }

    fn mixes_floats(&self, candidate: &str) -> bool {
        candidate == crate::ops::FLOATS.name || BF16_OPS.iter().any(|e| e.name == candidate)
    }

    fn pack(&self, node: NodeView, candidate: &str) -> Result<Packing> {
        match self.entry(candidate)? {
            (entry, false) => (entry.pack)(&self.ctx, &node),
            (entry, true) => half::pack(&self.ctx, &node, entry),
        }
    }

    fn load(&self, node: NodeView, candidate: &str, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
        match self.entry(candidate)? {
            (entry, false) => (entry.load)(&self.ctx, &node, packed),
            (entry, true) => half::load(&self.ctx, &node, entry, packed),
        }
    }
}

/// The processor's own name for itself.
fn cpu_name() -> String {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::__cpuid;
        let leaves = __cpuid(0x8000_0000).eax;
        let mut name = Vec::new();
        for leaf in (0x8000_0002..=0x8000_0004u32).filter(|&leaf| leaf <= leaves) {
            let r = __cpuid(leaf);
            name.extend([r.eax, r.ebx, r.ecx, r.edx].into_iter().flat_map(u32::to_le_bytes));
        }
        let name = String::from_utf8_lossy(&name);
        let name = name.trim_matches(|c: char| c == '\0' || c.is_whitespace());
        if !name.is_empty() {
            return name.to_string();
        }
    }
    std::env::consts::ARCH.to_string()
}
