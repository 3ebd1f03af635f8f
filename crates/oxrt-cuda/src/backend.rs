//! A GPU as a [`Backend`].

use crate::driver::Cuda;
use crate::emulate::Emulator;
use crate::gpu::{Function, Gpu};
use crate::ops::{Entry, OPS, cudnn};
use crate::text;
use oxrt_backend::{Backend, Block, Device, Kernel, NodeView, Packing, Precision};
use oxrt_tensor::{DType, Error, Result, Tensor};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// What every kernel of the backend works with.
#[derive(Clone)]
pub(crate) struct Ctx {
    pub gpu: Arc<dyn Gpu>,
    pub precision: Precision,
    /// Whether kernels of installed libraries are candidates.
    pub libraries: bool,
    /// Compiled texts, by the text's hash: nodes of one kind share their code.
    codes: Arc<Mutex<HashMap<u64, Arc<Mutex<Option<Tensor>>>>>>,
    modules: Arc<Mutex<HashMap<u64, u64>>>,
    /// Weights on the device, by where they lie on the host.
    weights: Arc<Mutex<HashMap<(usize, usize), Weak<Weights>>>>,
}

/// Weights of an engine on the device. They hold on to what they were copied from, so that its place means them alone.
pub(crate) struct Weights {
    block: Block,
    _of: Tensor,
}

impl Weights {
    pub fn ptr(&self) -> *mut u8 {
        self.block.ptr()
    }
}

impl Ctx {
    fn new(gpu: Arc<dyn Gpu>) -> Ctx {
        Ctx {
            gpu,
            precision: Precision::F32,
            libraries: true,
            codes: Arc::default(),
            modules: Arc::default(),
            weights: Arc::default(),
        }
    }

    /// Compiles a text (the prelude is put before it) to what an engine stores.
    pub fn code(&self, body: &str) -> Result<Tensor> {
        let full = text::with_prelude(body);
        let hash = xxhash_rust::xxh3::xxh3_64(full.as_bytes());
        let cell = self.codes.lock().unwrap_or_else(PoisonError::into_inner).entry(hash).or_default().clone();
        // Who comes second waits for the first.
        let mut code = cell.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(code) = &*code {
            return Ok(code.clone());
        }
        let bytes = self.gpu.compile(&full)?;
        Ok(code.insert(Tensor::from_bytes(DType::U8, &[bytes.len()], &bytes)?).clone())
    }

    /// A kernel of compiled code, allowed `shared` bytes of dynamic shared memory.
    pub fn function(&self, code: Option<&Tensor>, name: &str, shared: usize) -> Result<Launcher> {
        let code = code.ok_or_else(|| Error::invalid("the engine holds no code for the kernel"))?;
        let hash = xxhash_rust::xxh3::xxh3_64(code.bytes());
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        let module = match modules.get(&hash) {
            Some(&module) => module,
            None => {
                let module = self.gpu.load(code.bytes())?;
                modules.insert(hash, module);
                module
            }
        };
        let function = self.gpu.function(module, name, shared as u32)?;
        Ok(Launcher { gpu: self.gpu.clone(), function })
    }

    /// Copies a tensor to the device.
    pub fn upload(&self, t: &Tensor) -> Result<Block> {
        let device = self.device();
        let block = Block::new(&device, t.bytes().len())?;
        let queue = device.queue()?;
        // SAFETY: the block has that many bytes, and the queue is waited for.
        unsafe { queue.copy_in(block.ptr(), t.bytes().as_ptr(), t.bytes().len())? };
        queue.synchronize()?;
        Ok(block)
    }

    /// A tensor of the engine on the device. Nobody writes it: kernels that read the same one share it.
    pub fn weights(&self, t: &Tensor) -> Result<Arc<Weights>> {
        let place = (t.bytes().as_ptr() as usize, t.bytes().len());
        let mut all = self.weights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = all.get(&place).and_then(Weak::upgrade) {
            return Ok(there);
        }
        let new = Arc::new(Weights { block: self.upload(t)?, _of: t.clone() });
        all.retain(|_, w| w.strong_count() > 0);
        all.insert(place, Arc::downgrade(&new));
        Ok(new)
    }

    pub fn device(&self) -> Arc<dyn Device> {
        self.gpu.clone()
    }
}

/// A kernel, ready to launch.
#[derive(Clone)]
pub(crate) struct Launcher {
    gpu: Arc<dyn Gpu>,
    function: Function,
}

impl Launcher {
    /// Queues it; nothing when the grid is empty.
    ///
    /// # Safety
    /// As [`Gpu::launch`].
    pub unsafe fn run(
        &self,
        io: &oxrt_backend::Io,
        grid: [usize; 3],
        threads: usize,
        shared: usize,
        params: &[u8],
    ) -> Result<()> {
        if grid.contains(&0) {
            return Ok(());
        }
        let grid = grid.map(|n| n as u32);
        // SAFETY: passed on.
        unsafe { self.gpu.launch(io.device.queue, self.function, grid, threads as u32, shared as u32, params) }
    }
}

/// Runs graphs on an NVIDIA GPU.
pub struct CudaBackend {
    ctx: Ctx,
    host: Option<Arc<dyn Backend>>,
}

impl CudaBackend {
    /// For GPU number `ordinal`.
    ///
    /// # Errors
    /// Names what is missing of CUDA, and where it was looked for.
    pub fn new(ordinal: usize) -> Result<CudaBackend> {
        Ok(CudaBackend { ctx: Ctx::new(Cuda::open(ordinal)?), host: None })
    }

    /// On the emulator, with a folder for its compiled texts. For tests.
    pub fn emulated(cache: PathBuf) -> CudaBackend {
        CudaBackend { ctx: Ctx::new(Emulator::new(cache)), host: None }
    }

    /// On any GPU.
    #[cfg(test)]
    pub(crate) fn on(gpu: Arc<dyn Gpu>) -> CudaBackend {
        CudaBackend { ctx: Ctx::new(gpu), host: None }
    }

    /// The same, offering kernels down to this precision when it builds. (Running an engine does not ask.)
    pub fn with_precision(mut self, precision: Precision) -> CudaBackend {
        self.ctx.precision = precision;
        self
    }

    /// The same without kernels of installed libraries: its engines need the driver alone.
    pub fn self_contained(mut self) -> CudaBackend {
        self.ctx.libraries = false;
        self
    }

    /// The same, with a backend for bodies of `If`, `Loop` and `Scan`.
    pub fn with_host(mut self, host: Arc<dyn Backend>) -> CudaBackend {
        self.host = Some(host);
        self
    }

    /// The GPU.
    pub fn gpu(&self) -> &Arc<dyn Gpu> {
        &self.ctx.gpu
    }

    fn fits(&self, e: &Entry, node: &NodeView) -> bool {
        (e.ops.is_empty() || e.ops.contains(&node.op())) && (e.supports)(&self.ctx, node).is_some()
    }

    fn entry(&self, candidate: &str) -> Result<&'static Entry> {
        let found = OPS.iter().find(|e| e.name == candidate).copied();
        found.ok_or_else(|| Error::invalid(format!("the CUDA backend has no kernel `{candidate}`")))
    }
}

impl Backend for CudaBackend {
    fn name(&self) -> &'static str {
        if self.ctx.gpu.as_cuda().is_some() { "cuda" } else { "cuda-emulator" }
    }

    fn target(&self) -> String {
        format!("sm_{}", self.ctx.gpu.arch())
    }

    fn candidates(&self, node: NodeView) -> Vec<&'static str> {
        OPS.iter().filter(|e| !e.counts && self.fits(e, &node)).map(|e| e.name).collect()
    }

    fn counting(&self, node: NodeView) -> Option<&'static str> {
        OPS.iter().find(|e| e.counts && self.fits(e, &node)).map(|e| e.name)
    }

    fn rivals(&self, node: NodeView) -> Vec<&'static str> {
        let names: Vec<&'static str> = self.candidates(node);
        let timed = |name: &str| OPS.iter().any(|e| e.name == name && e.timed);
        if names.first().is_some_and(|n| timed(n)) {
            names.into_iter().filter(|n| timed(n)).collect()
        } else {
            Vec::new()
        }
    }

    fn serves(&self, node: NodeView, candidate: &str) -> bool {
        cudnn::serves(&self.ctx, &node, candidate)
    }

    fn note(&self, node: NodeView, candidate: &str) -> Option<String> {
        cudnn::note(&self.ctx, &node, candidate)
    }

    fn recall(&self, node: NodeView, candidate: &str, note: &str) -> bool {
        cudnn::recall(&self.ctx, &node, candidate, note).is_some()
    }

    fn timing_context(&self) -> String {
        format!("{}, {}", self.ctx.gpu.name(), self.target())
    }

    fn precision_of(&self, candidate: &str) -> Precision {
        match OPS.iter().find(|e| e.name == candidate) {
            Some(e) if e.narrow => self.ctx.precision,
            _ => Precision::F32,
        }
    }

    fn mixes_floats(&self, candidate: &str) -> bool {
        OPS.iter().any(|e| e.name == candidate && e.mixes)
    }

    fn multiplies_small_floats(&self) -> bool {
        self.ctx.gpu.arch() == 90
    }

    fn device(&self) -> Option<Arc<dyn Device>> {
        Some(self.ctx.device())
    }

    fn host(&self) -> Option<Arc<dyn Backend>> {
        self.host.clone()
    }

    fn pack(&self, node: NodeView, candidate: &str) -> Result<Packing> {
        (self.entry(candidate)?.pack)(&self.ctx, &node)
    }

    fn load(&self, node: NodeView, candidate: &str, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
        (self.entry(candidate)?.load)(&self.ctx, &node, packed)
    }
}
