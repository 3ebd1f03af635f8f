//! Memory and cached bindings of one run at a time.

use crate::arena::Arena;
use crate::binding::{Action, Binding, BoundStep, Loc, host_reads};
use crate::bodies::runner;
use crate::device::{DeviceContext, DeviceTimes, Ends};
use crate::dynamic::{self, Watch};
use crate::engine::{Engine, Inner};
use crate::loose::{Side, Spent};
use crate::memory::MemoryPlan;
use crate::sizes;
use oxrt_backend::Io;
use oxrt_ir::ValueId;
use oxrt_ops::Datum;
use oxrt_ops::eval::eval_node_by;
use oxrt_tensor::{Context as _, DType, Error, Result, Tensor, TensorView, bail};
use std::sync::Arc;
use std::time::Instant;

/// Bindings kept per context; the one unused for longest goes first.
const CACHED_BINDINGS: usize = 32;

/// Runs an engine, one call at a time. Outputs lie in the context until its next run.
pub struct Context {
    inner: Arc<Inner>,
    arena: Arena,
    /// Most recently used last.
    bindings: Vec<(Vec<Vec<usize>>, Arc<Binding>)>,
    /// Outputs of the last run that went step by step.
    dynamic_outputs: Vec<Tensor>,
    /// Memory and bound kernels of runs step by step.
    kept: crate::kept::Kept,
    pointers: Vec<*const u8>,
    /// Made at the first run on a device with memory of its own.
    device: Option<DeviceContext>,
    profile: Option<Vec<StepProfile>>,
}

// SAFETY: the scratch list of pointers is empty between runs.
unsafe impl Send for Context {}

/// Time of one step.
#[derive(Clone, Debug)]
pub struct StepProfile {
    pub name: String,
    pub op: String,
    /// Kernel name, or `reference` for host steps.
    pub kernel: String,
    pub seconds: f64,
    pub flops: u64,
    /// Bytes of inputs and outputs.
    pub bytes: u64,
}

impl Context {
    pub(crate) fn new(inner: Arc<Inner>) -> Context {
        Context {
            inner,
            arena: Arena::default(),
            bindings: Vec::new(),
            dynamic_outputs: Vec::new(),
            kept: Default::default(),
            pointers: Vec::new(),
            device: None,
            profile: None,
        }
    }

    /// Bytes of activations and scratch memory held now.
    pub fn arena_bytes(&self) -> usize {
        self.device.as_ref().map_or(self.arena.len(), DeviceContext::arena_bytes)
    }

    /// Bytes that a run with these input shapes needs, and the least that any placement could need.
    pub fn memory_for(&mut self, inputs: &[(DType, &[usize])]) -> Result<(usize, usize)> {
        let sizes = Engine::sizes(&self.inner, inputs)?;
        let binding = Binding::new(&self.inner, &sizes)?;
        Ok((binding.arena_bytes, binding.lower_bound))
    }

    /// Every buffer and step of a run with these input shapes.
    ///
    /// # Errors
    /// Sizes outside every profile.
    pub fn memory_plan(&self, inputs: &[(DType, &[usize])]) -> Result<MemoryPlan> {
        MemoryPlan::new(&self.inner, inputs)
    }

    /// Records the time of each step of the runs that follow.
    pub fn start_profile(&mut self) {
        self.profile = Some(Vec::new());
    }

    /// Steps recorded since [`Context::start_profile`], run after run.
    pub fn take_profile(&mut self) -> Vec<StepProfile> {
        self.profile.take().unwrap_or_default()
    }

    fn binding(&mut self, inputs: &[TensorView]) -> Result<Arc<Binding>> {
        let same = |key: &[Vec<usize>]| key.iter().zip(inputs).all(|(k, t)| k == t.shape());
        let types_fit = || inputs.iter().zip(&self.inner.inputs).all(|(t, p)| p.ty.dtype() == Some(t.dtype()));
        if let Some(at) = self.bindings.iter().rposition(|(k, _)| k.len() == inputs.len() && same(k))
            && types_fit()
        {
            let last = self.bindings.len() - 1;
            self.bindings.swap(at, last);
            return Ok(self.bindings[last].1.clone());
        }
        self.bind(&sizes::shapes(inputs))
    }

    /// The same for shapes alone.
    fn bound_to(&mut self, inputs: &[(DType, &[usize])]) -> Result<Arc<Binding>> {
        let same = |key: &[Vec<usize>]| key.iter().zip(inputs).all(|(k, (_, shape))| k == shape);
        match self.bindings.iter().rposition(|(k, _)| k.len() == inputs.len() && same(k)) {
            Some(at) => Ok(self.bindings[at].1.clone()),
            None => self.bind(inputs),
        }
    }

    fn bind(&mut self, inputs: &[(DType, &[usize])]) -> Result<Arc<Binding>> {
        let started = Instant::now();
        let sizes = Engine::sizes(&self.inner, inputs)?;
        let binding = Arc::new(Binding::new(&self.inner, &sizes)?);
        tracing::debug!(took = ?started.elapsed(), arena = binding.arena_bytes, "sizes bound");
        if self.bindings.len() >= CACHED_BINDINGS {
            self.bindings.remove(0);
        }
        self.bindings.push((inputs.iter().map(|(_, shape)| shape.to_vec()).collect(), binding.clone()));
        Ok(binding)
    }

    /// Runs the engine. `inputs` stand in the order of [`Engine::inputs`]; the outputs have their true
    /// sizes and stay valid until the next run of this context.
    ///
    /// # Errors
    /// Wrong input type, rank or size; sizes outside every profile.
    pub fn run(&mut self, inputs: &[TensorView]) -> Result<Vec<TensorView<'_>>> {
        if self.inner.first.is_some() && self.profile.is_none() {
            let binding = self.binding(inputs)?;
            self.on_device(&binding, &Ends::Host(inputs))?;
            self.kept.put(self.dynamic_outputs.drain(..));
            let Some(device) = &self.device else { bail!(bug, "no context on the device") };
            let outputs = dynamic::run_rest(&self.inner, inputs, device, &binding, &mut self.kept)?;
            self.dynamic_outputs = outputs.into_iter().map(Datum::into_tensor).collect::<Result<_>>()?;
            return self.dynamic_outputs.iter().map(Tensor::view).collect();
        }
        if !self.inner.is_static {
            let free = &mut self.kept.free;
            let tensors = inputs.iter().map(|t| Ok(free.copied(t)?.into())).collect::<Result<Vec<Datum>>>()?;
            self.kept.put(self.dynamic_outputs.drain(..));
            let outputs = self.run_datums(tensors)?;
            self.dynamic_outputs = outputs.into_iter().map(Datum::into_tensor).collect::<Result<_>>()?;
            return self.dynamic_outputs.iter().map(Tensor::view).collect();
        }
        let binding = self.binding(inputs)?;
        match self.inner.device {
            Some(_) => self.on_device(&binding, &Ends::Host(inputs))?,
            None => self.execute(&binding, inputs)?,
        }
        self.dynamic_outputs.clear();
        // Outputs that are inputs or constants are copied, so that they do not borrow the caller's data.
        for o in &binding.outputs {
            let source = match o.loc {
                Loc::Input(i) => inputs[i].bytes(),
                // SAFETY: the binding owns the tensor behind the pointer; `bytes` is its length.
                Loc::Const(p) => unsafe { std::slice::from_raw_parts(p, o.bytes) },
                _ => continue,
            };
            self.dynamic_outputs.push(Tensor::from_bytes(o.dtype, &o.shape, source)?);
        }
        let at = self.bindings.len() - 1;
        let outputs = &self.bindings[at].1.outputs;
        let mut copies = self.dynamic_outputs.iter();
        let view = |o: &'_ crate::binding::OutputBinding| -> Result<(usize, usize)> {
            match o.loc {
                Loc::Arena(start) => Ok((start, start + o.bytes)),
                _ => Err(Error::bug("an output without memory")),
            }
        };
        let mut views = Vec::with_capacity(outputs.len());
        for (i, o) in outputs.iter().enumerate() {
            views.push(match o.loc {
                Loc::Input(_) | Loc::Const(_) => {
                    copies.next().ok_or_else(|| Error::bug("an output was not copied"))?.view()?
                }
                _ => {
                    let bytes = match &self.device {
                        Some(device) => device.output(&self.bindings[at].1, i)?,
                        None => {
                            let (start, end) = view(o)?;
                            &self.arena.bytes()[start..end]
                        }
                    };
                    TensorView::new(o.dtype, &o.shape, bytes)?
                }
            });
        }
        Ok(views)
    }

    /// Runs and copies each output into the caller's memory, which may be larger than needed. Returns the
    /// shapes.
    ///
    /// # Errors
    /// As [`Context::run`], and when a buffer is too small (both sizes are named).
    pub fn run_into(&mut self, inputs: &[TensorView], outputs: &mut [&mut [u8]]) -> Result<Vec<Vec<usize>>> {
        let names: Vec<String> = self.inner.outputs.iter().map(|p| p.name.clone()).collect();
        if outputs.len() != names.len() {
            bail!(
                invalid,
                "the engine has {} outputs ({}), given {} buffers",
                names.len(),
                names.join(", "),
                outputs.len()
            );
        }
        let results = self.run(inputs)?;
        for ((view, buffer), name) in results.iter().zip(outputs.iter_mut()).zip(&names) {
            let need = view.bytes().len();
            if buffer.len() < need {
                bail!(
                    invalid,
                    "the buffer for output `{name}` has {} bytes, {need} are needed for {view:?}",
                    buffer.len()
                );
            }
            buffer[..need].copy_from_slice(view.bytes());
        }
        Ok(results.iter().map(|v| v.shape().to_vec()).collect())
    }

    /// Runs on any kind of values (strings, sequences, optionals too), step by step.
    pub fn run_datums(&mut self, inputs: Vec<Datum>) -> Result<Vec<Datum>> {
        dynamic::run(&self.inner, inputs, &mut self.kept, self.profile.as_mut())
    }

    /// The same, showing each result to `watch`, which may replace it or end the run (`None`). For finding faults: values have
    /// memory of their own, so that none is overwritten by a later step.
    pub fn run_watched(&mut self, inputs: Vec<Datum>, watch: Watch) -> Result<Option<Vec<Datum>>> {
        dynamic::run_watched(&self.inner, inputs, &mut self.kept, None, watch)
    }

    /// Runs on inputs that lie in the device's memory, and writes the outputs there. Each pointer leads to memory of the
    /// device, as large as its tensor; types and ranks are the engine's. Returns the shapes of the outputs.
    ///
    /// # Errors
    /// As [`Context::run`], and for engines of the host and engines whose sizes depend on data
    /// ([`Context::run_on_device_within`]).
    ///
    /// # Safety
    /// The pointers lead to that many bytes of the device's memory, which nobody else uses during the run.
    pub unsafe fn run_on_device(
        &mut self,
        inputs: &[*const u8],
        shapes: &[&[usize]],
        outputs: &[*mut u8],
    ) -> Result<Vec<Vec<usize>>> {
        if !self.inner.is_static {
            return Err(Error::unsupported("the sizes of this engine's results depend on data")
                .help("say how many bytes each output has room for: `run_on_device_within`"));
        }
        let binding = self.ends_bound(inputs, shapes, outputs.len())?;
        self.on_device(&binding, &Ends::Device(inputs, outputs))?;
        Ok(binding.outputs.iter().map(|o| o.shape.clone()).collect())
    }

    /// The same for outputs whose memory has so many bytes, which may be more than they need: also for engines whose sizes depend on data
    /// ([`Context::most_output_bytes`] says what is enough).
    ///
    /// # Errors
    /// As [`Context::run`]; for engines of the host; an output that does not fit into its memory (both sizes are named).
    ///
    /// # Safety
    /// As [`Context::run_on_device`].
    pub unsafe fn run_on_device_within(
        &mut self,
        inputs: &[*const u8],
        shapes: &[&[usize]],
        outputs: &[(*mut u8, usize)],
    ) -> Result<Vec<Vec<usize>>> {
        let inner = self.inner.clone();
        let types = self.typed(shapes);
        if !inner.is_static && inner.first.is_none() {
            self.ends_fit(inputs.len(), outputs.len())?;
            return dynamic::run_lent(&inner, inputs, &types, outputs, &mut self.kept);
        }
        let binding = self.ends_bound(inputs, shapes, outputs.len())?;
        if inner.is_static {
            for ((o, port), (_, room)) in binding.outputs.iter().zip(&inner.outputs).zip(outputs) {
                dynamic::fits(&port.name, o.bytes, *room)?;
            }
            let pointers: Vec<*mut u8> = outputs.iter().map(|o| o.0).collect();
            self.on_device(&binding, &Ends::Device(inputs, &pointers))?;
            return Ok(binding.outputs.iter().map(|o| o.shape.clone()).collect());
        }
        self.on_device(&binding, &Ends::Device(inputs, &[]))?;
        let Some(device) = &self.device else { bail!(bug, "no context on the device") };
        dynamic::run_rest_on_device(&inner, &types, outputs, device, &binding, &mut self.kept)
    }

    /// The most bytes that each output can have for inputs of these shapes.
    ///
    /// # Errors
    /// Sizes outside every profile; an output whose size has no bound that is known before the run.
    pub fn most_output_bytes(&mut self, shapes: &[&[usize]]) -> Result<Vec<usize>> {
        let types = self.typed(shapes);
        if !self.inner.is_static {
            return dynamic::most_bytes(&self.inner, &types);
        }
        Ok(self.bound_to(&types)?.outputs.iter().map(|o| o.bytes).collect())
    }

    /// Shapes of the inputs with their types.
    fn typed<'a>(&self, shapes: &[&'a [usize]]) -> Vec<(DType, &'a [usize])> {
        let types = self.inner.inputs.iter().map(|p| p.ty.dtype().unwrap_or(DType::F32));
        types.zip(shapes.iter().copied()).collect()
    }

    /// Refuses memory of the device where there is none, and other numbers of inputs and outputs.
    fn ends_fit(&self, inputs: usize, outputs: usize) -> Result<()> {
        if self.inner.device.is_none() {
            bail!(unsupported, "memory of a device for an engine that runs on the host");
        }
        if inputs != self.inner.inputs.len() || outputs != self.inner.outputs.len() {
            bail!(invalid, "{inputs} input and {outputs} output pointers");
        }
        Ok(())
    }

    fn ends_bound(&mut self, inputs: &[*const u8], shapes: &[&[usize]], outputs: usize) -> Result<Arc<Binding>> {
        self.ends_fit(inputs.len(), outputs)?;
        let types = self.typed(shapes);
        self.bound_to(&types)
    }

    /// Where the time goes of each of `runs` runs on a device.
    ///
    /// # Errors
    /// As [`Context::run`], and for engines of the host.
    pub fn device_times(&mut self, inputs: &[TensorView], runs: usize) -> Result<Vec<DeviceTimes>> {
        let inner = self.inner.clone();
        let Some(on) = inner.device.as_ref() else {
            bail!(unsupported, "device times of an engine that runs on the host")
        };
        let mut times = vec![DeviceTimes::default(); runs];
        if inner.is_static || inner.first.is_some() {
            let binding = self.binding(inputs)?;
            times = self.device_context()?.times(&inner, on, &binding, &Ends::Host(inputs), runs)?;
        }
        if !inner.is_static {
            // What goes step by step: once as it always does, then with every kernel timed.
            for t in &mut times {
                let (all, spent) = self.spent_on_rest(inputs, false)?;
                t.enqueue += all - spent.waited;
                t.copy_in += spent.copy_in;
                t.copy_out += spent.copy_out;
                t.kernels += self.spent_on_rest(inputs, true)?.1.kernels;
            }
        }
        Ok(times)
    }

    /// Does the steps of a run that go one by one, on what the others left. Returns the host's seconds, and where they went.
    fn spent_on_rest(&mut self, inputs: &[TensorView], each_kernel: bool) -> Result<(f64, Spent)> {
        let inner = self.inner.clone();
        if let (Some(on), None) = (&inner.device, &self.kept.side) {
            self.kept.side = Some(Side::new(on)?);
        }
        let set = |kept: &mut crate::kept::Kept, spent| {
            kept.side.as_mut().and_then(|side| std::mem::replace(&mut side.spent, spent))
        };
        set(&mut self.kept, Some(Spent { each_kernel, ..Spent::default() }));
        let started = Instant::now();
        let outputs = if inner.first.is_some() {
            let binding = self.binding(inputs)?;
            let Some(device) = &self.device else { bail!(bug, "no context on the device") };
            dynamic::run_rest(&inner, inputs, device, &binding, &mut self.kept)
        } else {
            let tensors = inputs.iter().map(|t| Ok(t.to_tensor()?.into())).collect::<Result<Vec<Datum>>>()?;
            self.run_datums(tensors)
        };
        let all = started.elapsed().as_secs_f64();
        let spent = set(&mut self.kept, None).unwrap_or_default();
        self.kept.put(outputs?.into_iter().filter_map(|d| d.into_tensor().ok()));
        Ok((all, spent))
    }

    fn device_context(&mut self) -> Result<&mut DeviceContext> {
        let Some(on) = &self.inner.device else { bail!(bug, "no device") };
        if self.device.is_none() {
            self.device = Some(DeviceContext::new(on)?);
        }
        self.device.as_mut().ok_or_else(|| Error::bug("no context on the device"))
    }

    fn on_device(&mut self, binding: &Arc<Binding>, ends: &Ends) -> Result<()> {
        let inner = self.inner.clone();
        let Some(on) = &inner.device else { bail!(bug, "no device") };
        let mut profile = self.profile.take();
        let context = self.device_context()?;
        let result = context.run(&inner, on, binding, ends, profile.as_mut());
        let result = result.and_then(|()| context.verdict(&inner, binding));
        self.profile = profile;
        result
    }

    fn execute(&mut self, binding: &Binding, inputs: &[TensorView]) -> Result<()> {
        self.arena.reserve(binding.arena_bytes)?;
        let base = self.arena.base();
        let resolve = |loc: Loc| -> *const u8 {
            match loc {
                Loc::Null => std::ptr::null(),
                // SAFETY: offsets lie inside the arena, which was just made large enough.
                Loc::Arena(at) => unsafe { base.add(at) },
                Loc::Input(i) => inputs[i].bytes().as_ptr(),
                Loc::Const(p) => p,
            }
        };
        for step in &binding.steps {
            // SAFETY: as above.
            let workspace = unsafe { base.add(step.workspace) };
            let started = self.profile.is_some().then(Instant::now);
            self.pointers.clear();
            self.pointers.extend(step.inputs.iter().chain(&step.outputs).map(|&l| resolve(l)));
            let (ins, outs) = self.pointers.split_at(step.inputs.len());
            // SAFETY: `*const u8` and `*mut u8` have one layout; outputs always lie in the arena.
            let outs = unsafe { std::slice::from_raw_parts(outs.as_ptr().cast::<*mut u8>(), outs.len()) };
            let result = match &step.action {
                // SAFETY: shapes, types and pointers are those of the binding; buffers overlap only where
                // the kernel allowed it.
                Action::Kernel(bound, _) => unsafe {
                    bound.run(&Io { inputs: ins, outputs: outs, workspace, device: Default::default() })
                },
                Action::Host { inputs: types, output_bytes } => {
                    host_step(&self.inner, step, types, output_bytes, ins, outs)
                }
            };
            result.at(|| self.inner.plan.graph[step.node].describe())?;
            if let (Some(t), Some(profile)) = (started, &mut self.profile) {
                profile.push(step_profile(&self.inner, step, t.elapsed().as_secs_f64()));
            }
        }
        self.pointers.clear();
        Ok(())
    }
}

pub(crate) fn step_profile(inner: &Inner, step: &BoundStep, seconds: f64) -> StepProfile {
    let node = &inner.plan.graph[step.node];
    let kernel = step.kernel_name(&inner.plan);
    let flops = match &step.action {
        Action::Kernel(bound, _) => bound.flops(),
        Action::Host { .. } => 0,
    };
    StepProfile { name: node.name.clone(), op: node.op.to_string(), kernel, seconds, flops, bytes: step.bytes }
}

/// Runs a node by the reference evaluator on arena memory.
pub(crate) fn host_step(
    inner: &Inner,
    step: &BoundStep,
    types: &[Option<(DType, Vec<usize>)>],
    output_bytes: &[usize],
    ins: &[*const u8],
    outs: &[*mut u8],
) -> Result<()> {
    let node = &inner.plan.graph[step.node];
    let reads: Vec<Option<ValueId>> = host_reads(&inner.plan.graph, node).collect();
    let inputs = types.iter().zip(ins).zip(&reads).map(|((ty, &p), v)| {
        let (Some((dtype, shape)), Some(v)) = (ty, v) else { return Ok(None) };
        if let Some(t) = inner.plan.graph.constant(*v) {
            return Ok(Some(t.clone().into()));
        }
        let len = dtype.bytes_for(shape.iter().product());
        // SAFETY: the pointer leads to `len` bytes of that tensor.
        let bytes = if len == 0 { &[][..] } else { unsafe { std::slice::from_raw_parts(p, len) } };
        Ok(Some(Tensor::from_bytes(*dtype, shape, bytes)?.into()))
    });
    let all = inputs.collect::<Result<Vec<Option<Datum>>>>()?;
    let (inputs, captured) = all.split_at(node.inputs().len());
    let lookup = |v: ValueId| {
        let known = inner.plan.graph.constant(v).map(|t| t.clone().into());
        known.or_else(|| captured[reads[inputs.len()..].iter().position(|r| *r == Some(v))?].clone())
    };
    let results = eval_node_by(node, inputs, &lookup, &runner(inner))?;
    for (i, result) in results.into_iter().enumerate() {
        let Some(v) = node.output(i) else { continue };
        let t = result.into_tensor()?;
        let want = inner.plan.graph[v].ty.dtype();
        if want != Some(t.dtype()) || t.bytes().len() != output_bytes[i] {
            bail!(bug, "the evaluator gave {t:?} where {:?} was inferred", inner.plan.graph[v].ty);
        }
        // SAFETY: the output buffer has the inferred size, which was just compared.
        unsafe { std::ptr::copy_nonoverlapping(t.bytes().as_ptr(), outs[i], t.bytes().len()) };
    }
    Ok(())
}
