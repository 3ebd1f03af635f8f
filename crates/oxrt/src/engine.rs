//! Engines and sessions.

use oxrt_backend::{Backend, Precision, ReferenceBackend};
use oxrt_cpu::CpuBackend;
use oxrt_cuda::CudaBackend;
use oxrt_plan::Plan;
use oxrt_tensor::{Context, DType, Error, Result, Tensor, TensorView, bail};
use std::path::Path;
use std::sync::Arc;

pub use oxrt_runtime::{DeviceTimes, MemoryPlan, PlannedBuffer, PlannedStep, Port, Seen, StepProfile, Watch};

/// Where an engine runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    #[default]
    Cpu,
    /// An NVIDIA GPU, by its number.
    Cuda(usize),
    /// The kernels of [`Device::Cuda`] on an emulator of a GPU: very slow, for tests without one. Keeps compiled kernels in
    /// the folder that `OXRT_EMULATOR_CACHE` names, or the system's temporary one.
    CudaEmulator,
    /// The reference evaluator for every node: slow, exact, the judge of the others.
    Reference,
}

impl Device {
    /// `target: None` takes the best that this machine has.
    pub(crate) fn backend(
        self,
        target: Option<&str>,
        threads: usize,
        precision: Precision,
        self_contained: bool,
    ) -> Result<Arc<dyn Backend>> {
        Ok(match (self, target) {
            (Device::Cpu, _) if matches!(precision, Precision::Tf32 | Precision::F16) => {
                return Err(Error::unsupported(format!("precision {} on the CPU", precision.name()))
                    .help("use `--precision bf16`, or `--device cuda`"));
            }
            (Device::Cuda(ordinal), _) => {
                let host = Arc::new(CpuBackend::new(threads));
                let gpu = CudaBackend::new(ordinal)?.with_precision(precision).with_host(host);
                Arc::new(if self_contained { gpu.self_contained() } else { gpu })
            }
            (Device::CudaEmulator, _) => {
                let cache = std::env::var_os("OXRT_EMULATOR_CACHE").map(std::path::PathBuf::from);
                let cache = cache.unwrap_or_else(|| std::env::temp_dir().join("oxrt-emulator"));
                let host = Arc::new(CpuBackend::new(threads));
                Arc::new(CudaBackend::emulated(cache).with_precision(precision).with_host(host))
            }
            (Device::Cpu, None) => Arc::new(CpuBackend::new(threads).with_precision(precision)),
            (Device::Cpu, Some(target)) => Arc::new(CpuBackend::for_target(target, threads)?),
            (Device::Reference, _) => Arc::new(ReferenceBackend),
        })
    }
}

impl std::str::FromStr for Device {
    type Err = Error;

    fn from_str(s: &str) -> Result<Device> {
        match s {
            "cpu" => Ok(Device::Cpu),
            "reference" => Ok(Device::Reference),
            "cuda" => Ok(Device::Cuda(0)),
            "cuda-emulator" => Ok(Device::CudaEmulator),
            other => match other.strip_prefix("cuda:").and_then(|n| n.parse().ok()) {
                Some(ordinal) => Ok(Device::Cuda(ordinal)),
                None => Err(Error::invalid(format!("unknown device `{other}`"))
                    .help("devices are `cpu`, `cuda`, `cuda:1` and so on, and `reference`")),
            },
        }
    }
}

/// An engine, ready to run. Cloning shares it.
#[derive(Clone)]
pub struct Engine {
    runtime: oxrt_runtime::Engine,
    backend: Arc<dyn Backend>,
}

impl Engine {
    /// An engine on a backend of the caller's own, for which the plan was built ([`crate::Model::build_on`]).
    ///
    /// # Errors
    /// A plan for another backend.
    pub fn new(plan: Plan, backend: Arc<dyn Backend>) -> Result<Engine> {
        Ok(Engine { runtime: oxrt_runtime::Engine::new(plan, &*backend)?, backend })
    }

    /// Loads an engine file with all threads that the process may use.
    pub fn open(path: impl AsRef<Path>) -> Result<Engine> {
        Engine::open_with(path, 0)
    }

    /// The same with a number of threads; 0 takes all.
    ///
    /// # Errors
    /// Cut-off or altered files, another version, a machine that lacks what the kernels need.
    pub fn open_with(path: impl AsRef<Path>, threads: usize) -> Result<Engine> {
        let path = path.as_ref();
        let plan = oxrt_plan::read_plan(path)?;
        let device: Device = plan.backend.parse().at(|| path.display())?;
        let backend = device.backend(Some(&plan.target), threads, Precision::F32, false).at(|| path.display())?;
        Engine::new(plan, backend).at(|| path.display())
    }

    /// Writes the engine file. Equal engines give equal bytes. Returns its size.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<u64> {
        oxrt_plan::write_plan(self.runtime.plan(), path.as_ref())
    }

    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    /// Runs step by step, showing each result to `watch` with the number of its step. Inputs stand in the engine's order.
    pub fn run_watched(&self, inputs: Vec<oxrt_ops::Datum>, watch: Watch) -> Result<Option<Vec<oxrt_ops::Datum>>> {
        self.runtime.context().run_watched(inputs, watch)
    }

    pub fn inputs(&self) -> &[Port] {
        self.runtime.inputs()
    }

    pub fn outputs(&self) -> &[Port] {
        self.runtime.outputs()
    }

    pub fn plan(&self) -> &Plan {
        self.runtime.plan()
    }

    /// What runs it: `cpu`.
    pub fn device(&self) -> &'static str {
        self.backend.name()
    }

    /// The arithmetic of a kernel of its backend.
    pub(crate) fn precision_of(&self, kernel: &str) -> Precision {
        self.backend.precision_of(kernel)
    }

    /// The least exact arithmetic of its kernels.
    pub fn precision(&self) -> Precision {
        let kernels = self.plan().steps.iter().flat_map(|step| step.kind.kernels());
        kernels.map(|k| self.precision_of(&k.candidate)).max().unwrap_or_default()
    }

    /// Whether all sizes follow from the input sizes.
    pub fn is_static(&self) -> bool {
        self.runtime.is_static()
    }

    /// A session with memory of its own.
    pub fn session(&self) -> Session {
        Session { engine: self.clone(), context: self.runtime.context(), order: Vec::new() }
    }

    /// Runs once; safe from many threads at a time. Outputs own their data.
    ///
    /// # Errors
    /// A missing or unknown name, wrong element type, rank or size.
    pub fn run(&self, inputs: &[(&str, TensorView)]) -> Result<Outputs<Tensor>> {
        let order = input_order(self.inputs(), inputs.iter().map(|(n, _)| *n))?;
        let ordered: Vec<TensorView> = order.iter().map(|&i| inputs[i].1).collect();
        let tensors = self.runtime.run(&ordered)?;
        Ok(Outputs { items: self.outputs().iter().map(|p| p.name.clone()).zip(tensors).collect() })
    }
}

/// For each port, the index of the given input of that name.
fn input_order<'a>(ports: &[Port], names: impl Iterator<Item = &'a str> + Clone) -> Result<Vec<usize>> {
    let known = || ports.iter().map(|p| format!("{} {}", p.name, p.ty)).collect::<Vec<_>>().join(", ");
    for n in names.clone() {
        if !ports.iter().any(|p| p.name == n) {
            return Err(Error::invalid(format!("there is no input `{n}`; the inputs are {}", known())));
        }
    }
    let find = |p: &Port| names.clone().position(|n| n == p.name);
    ports
        .iter()
        .map(|p| {
            find(p).ok_or_else(|| Error::invalid(format!("input `{}` is missing; the inputs are {}", p.name, known())))
        })
        .collect()
}

/// Outputs by name or position.
#[derive(Clone, Debug)]
pub struct Outputs<T> {
    items: Vec<(String, T)>,
}

impl<T> Outputs<T> {
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.items.iter().map(|(n, t)| (n.as_str(), t))
    }

    pub fn get(&self, name: &str) -> Option<&T> {
        self.items.iter().find(|(n, _)| n == name).map(|(_, t)| t)
    }

    pub fn len(&self) -> usize {
        self.items.len()
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub fn into_vec(self) -> Vec<(String, T)> {
        self.items
    }
}

impl<T> std::ops::Index<&str> for Outputs<T> {
    type Output = T;

    /// # Panics
    /// When there is no output of that name; [`Outputs::get`] does not.
    fn index(&self, name: &str) -> &T {
        self.get(name).unwrap_or_else(|| {
            let names: Vec<&str> = self.iter().map(|(n, _)| n).collect();
            panic!("no output `{name}`; the outputs are {}", names.join(", "))
        })
    }
}

impl<T> std::ops::Index<usize> for Outputs<T> {
    type Output = T;

    fn index(&self, i: usize) -> &T {
        &self.items[i].1
    }
}

/// Runs an engine again and again with memory of its own. Not shared between threads; make one per thread.
pub struct Session {
    engine: Engine,
    context: oxrt_runtime::Context,
    order: Vec<usize>,
}

impl Session {
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Runs with inputs by name. The outputs lie in the session until its next run.
    pub fn run(&mut self, inputs: &[(&str, TensorView)]) -> Result<Outputs<TensorView<'_>>> {
        let fits = self.order.len() == inputs.len()
            && self.order.iter().zip(self.engine.inputs()).all(|(&i, p)| inputs[i].0 == p.name);
        if !fits {
            self.order = input_order(self.engine.inputs(), inputs.iter().map(|(n, _)| *n))?;
        }
        let ordered: Vec<TensorView> = self.order.iter().map(|&i| inputs[i].1).collect();
        let views = self.context.run(&ordered)?;
        Ok(Outputs { items: self.engine.outputs().iter().map(|p| p.name.clone()).zip(views).collect() })
    }

    /// Where the time goes of each of `runs` runs on a GPU.
    ///
    /// # Errors
    /// As [`Session::run`], and for engines of the host.
    pub fn device_times(&mut self, inputs: &[TensorView], runs: usize) -> Result<Vec<DeviceTimes>> {
        self.context.device_times(inputs, runs)
    }

    /// Runs on tensors in a GPU's memory (see [`oxrt_runtime::Context::run_on_device`]).
    ///
    /// # Errors
    /// As [`Session::run`], and for engines of the host.
    ///
    /// # Safety
    /// The pointers lead to that many bytes of the device's memory, which nobody else uses during the run.
    pub unsafe fn run_on_device(
        &mut self,
        inputs: &[*const u8],
        shapes: &[&[usize]],
        outputs: &[*mut u8],
    ) -> Result<Vec<Vec<usize>>> {
        // SAFETY: the caller's promise.
        unsafe { self.context.run_on_device(inputs, shapes, outputs) }
    }

    /// The same for outputs whose memory has so many bytes, of engines whose sizes depend on data too (see
    /// [`oxrt_runtime::Context::run_on_device_within`]).
    ///
    /// # Errors
    /// As [`Session::run`]; for engines of the host; an output that does not fit into its memory.
    ///
    /// # Safety
    /// As [`Session::run_on_device`].
    pub unsafe fn run_on_device_within(
        &mut self,
        inputs: &[*const u8],
        shapes: &[&[usize]],
        outputs: &[(*mut u8, usize)],
    ) -> Result<Vec<Vec<usize>>> {
        // SAFETY: the caller's promise.
        unsafe { self.context.run_on_device_within(inputs, shapes, outputs) }
    }

    /// The most bytes that each output can have for inputs of these shapes.
    ///
    /// # Errors
    /// Sizes outside every profile; an output whose size has no bound that is known before the run.
    pub fn most_output_bytes(&mut self, shapes: &[&[usize]]) -> Result<Vec<usize>> {
        self.context.most_output_bytes(shapes)
    }

    /// Runs with inputs in the engine's order.
    pub fn run_ordered(&mut self, inputs: &[TensorView]) -> Result<Vec<TensorView<'_>>> {
        self.context.run(inputs)
    }

    /// Runs and copies the outputs into the caller's buffers, which may be larger than needed. Returns the
    /// true shapes.
    ///
    /// # Errors
    /// A buffer that is too small: both sizes are named.
    pub fn run_into(&mut self, inputs: &[TensorView], outputs: &mut [&mut [u8]]) -> Result<Vec<Vec<usize>>> {
        self.context.run_into(inputs, outputs)
    }

    /// Runs on any kind of values: strings, sequences and optionals too.
    pub fn run_datums(&mut self, inputs: Vec<oxrt_ops::Datum>) -> Result<Vec<oxrt_ops::Datum>> {
        if inputs.len() != self.engine.inputs().len() {
            bail!(invalid, "the engine takes {} inputs, given {}", self.engine.inputs().len(), inputs.len());
        }
        self.context.run_datums(inputs)
    }

    /// Bytes for activations and scratch at these input shapes, and the least that any placement needs.
    pub fn memory_for(&mut self, inputs: &[(DType, &[usize])]) -> Result<(usize, usize)> {
        self.context.memory_for(inputs)
    }

    /// Every buffer and step of a run at these input shapes.
    pub fn memory_plan(&self, inputs: &[(DType, &[usize])]) -> Result<MemoryPlan> {
        self.context.memory_plan(inputs)
    }

    pub fn start_profile(&mut self) {
        self.context.start_profile();
    }

    pub fn take_profile(&mut self) -> Vec<StepProfile> {
        self.context.take_profile()
    }
}
