//! Runs on a device with memory of its own: constants that lie there, one arena per context, and the work of each set
//! of sizes recorded once and replayed.

use crate::binding::{Action, Binding, BoundStep, Loc};
use crate::context::{StepProfile, host_step, step_profile};
use crate::engine::Inner;
use oxrt_backend::{Block, Device, Io, Queue, Recording, Words, status_error};
use oxrt_plan::{Plan, StepKind};
use oxrt_tensor::{Context as _, Error, Result, TensorView, bail};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

/// Alignment of inputs behind the arena.
const ALIGN: usize = 256;

/// What all contexts of an engine share on the device.
pub(crate) struct OnDevice {
    pub device: Arc<dyn Device>,
    /// Constants that kernels read, by where they lie on the host.
    constants: HashMap<usize, Block>,
}

impl OnDevice {
    /// Copies the constants that kernels read and have not packed.
    pub fn new(device: Arc<dyn Device>, plan: &Plan) -> Result<OnDevice> {
        let g = &plan.graph;
        let queue = device.queue()?;
        let mut constants = HashMap::new();
        for step in &plan.steps {
            let StepKind::Kernel { consumed, .. } = &step.kind else { continue };
            for (i, v) in g[step.node].inputs().iter().enumerate() {
                let Some(t) = v.and_then(|v| g.constant(v)).filter(|_| !consumed.contains(&i)) else { continue };
                let bytes = t.bytes();
                let key = bytes.as_ptr() as usize;
                if constants.get(&key).is_some_and(|b: &Block| b.len() >= bytes.len()) {
                    continue;
                }
                constants.insert(key, upload(&device, &*queue, bytes)?);
            }
        }
        Ok(OnDevice { device, constants })
    }

    /// Where a constant lies on the device, by its bytes on the host.
    pub fn constant(&self, bytes: &[u8]) -> Option<*const u8> {
        let block = self.constants.get(&(bytes.as_ptr() as usize)).filter(|b| b.len() >= bytes.len());
        block.map(|b| b.ptr().cast_const())
    }
}

/// Copies bytes to a new block, and waits for it.
fn upload(device: &Arc<dyn Device>, queue: &dyn Queue, bytes: &[u8]) -> Result<Block> {
    let block = Block::new(device, bytes.len())?;
    // SAFETY: the block has that many bytes; both stay until the queue has come past.
    unsafe { queue.copy_in(block.ptr(), bytes.as_ptr(), bytes.len())? };
    queue.synchronize()?;
    Ok(block)
}

/// Where the time of a run on a device goes, in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeviceTimes {
    /// Inputs on their way in: the host's copy to memory that the device reads, and the device's.
    pub copy_in: f64,
    /// The device's time for the kernels, by events.
    pub kernels: f64,
    /// The host's time to queue them (and for steps that run on the host, those).
    pub enqueue: f64,
    /// Outputs on their way to memory of the host.
    pub copy_out: f64,
}

/// Memory and queue of one run at a time.
pub(crate) struct DeviceContext {
    // Recordings use the memory below: they go first.
    bound: Vec<DeviceBinding>,
    queue: Box<dyn Queue>,
    words: Words,
    arena: Option<Block>,
    /// Inputs on their way in, outputs on their way out.
    staging: Option<Block>,
}

/// A binding with its recorded work.
struct DeviceBinding {
    binding: Arc<Binding>,
    /// Where in `held` values that were computed from sizes lie, by where they lie on the host.
    values: HashMap<usize, usize>,
    held: Option<Block>,
    segments: Vec<Segment>,
    /// Offsets of the inputs behind the arena, and the end of all.
    inputs: Vec<usize>,
    total: usize,
    /// Offsets of the outputs in the staging memory behind the inputs, of the sizes that were found, and its size.
    outputs: Vec<usize>,
    counted: usize,
    staging: usize,
    /// Arena that the recordings write to.
    base: *mut u8,
}

// SAFETY: the pointer is compared, not followed.
unsafe impl Send for DeviceBinding {}

enum Segment {
    Kernels { steps: Range<usize>, recording: Option<Box<dyn Recording>> },
    Host(usize),
}

/// Whether a run goes from and to memory of the host or of the device.
pub(crate) enum Ends<'a> {
    Host(&'a [TensorView<'a>]),
    /// Pointers to inputs and outputs on the device.
    Device(&'a [*const u8], &'a [*mut u8]),
}

impl DeviceContext {
    pub fn new(on: &OnDevice) -> Result<DeviceContext> {
        let queue = on.device.queue()?;
        let words = Words::new(&on.device, &*queue)?;
        Ok(DeviceContext { bound: Vec::new(), queue, words, arena: None, staging: None })
    }

    pub fn arena_bytes(&self) -> usize {
        self.arena.as_ref().map_or(0, Block::len)
    }

    /// Runs, and leaves the outputs in the staging memory, or where the caller wants them on the device.
    pub fn run(
        &mut self,
        inner: &Inner,
        on: &OnDevice,
        binding: &Arc<Binding>,
        ends: &Ends,
        profile: Option<&mut Vec<StepProfile>>,
    ) -> Result<()> {
        let at = self.prepare(inner, on, binding)?;
        self.bring(at, ends)?;
        self.execute(inner, on, at, ends, profile)?;
        self.fetch(at, ends)
    }

    /// Where the time of a run goes, for each of `runs` runs.
    pub fn times(
        &mut self,
        inner: &Inner,
        on: &OnDevice,
        binding: &Arc<Binding>,
        ends: &Ends,
        runs: usize,
    ) -> Result<Vec<DeviceTimes>> {
        let at = self.prepare(inner, on, binding)?;
        self.bring(at, ends)?;
        // The first run is direct, the second records.
        for _ in 0..2 {
            self.execute(inner, on, at, ends, None)?;
        }
        let mut times = Vec::with_capacity(runs);
        for _ in 0..runs {
            let mut t =
                DeviceTimes { copy_in: self.queue.seconds(&mut || self.bring(at, ends))?, ..Default::default() };
            for segment in &self.bound[at].segments {
                if let Segment::Kernels { recording: Some(recording), .. } = segment {
                    // SAFETY: the arena is the one that was recorded with.
                    t.kernels += self.queue.seconds(&mut || unsafe { self.queue.replay(&**recording) })?;
                }
            }
            let started = Instant::now();
            self.execute(inner, on, at, ends, None)?;
            t.enqueue = started.elapsed().as_secs_f64();
            self.queue.synchronize()?;
            t.copy_out = self.queue.seconds(&mut || self.send(at, ends))?;
            times.push(t);
        }
        Ok(times)
    }

    /// Finds or makes the device's side of a binding, with memory for it. Returns its index.
    fn prepare(&mut self, inner: &Inner, on: &OnDevice, binding: &Arc<Binding>) -> Result<usize> {
        let at = match self.bound.iter().position(|b| Arc::ptr_eq(&b.binding, binding)) {
            Some(at) => at,
            None => {
                self.bound.retain(|b| Arc::strong_count(&b.binding) > 1);
                self.bound.push(DeviceBinding::new(inner, on, binding, &*self.queue)?);
                self.bound.len() - 1
            }
        };
        let need = &self.bound[at];
        let (total, staging) = (need.total, need.staging);
        if self.arena.as_ref().is_none_or(|a| a.len() < total) {
            self.queue.synchronize()?;
            // Freed first, so that the old and the new block never exist together; recordings go with it.
            self.bound.iter_mut().for_each(DeviceBinding::forget);
            self.arena = None;
            self.arena = Some(Block::new(&on.device, total)?);
        }
        if self.staging.as_ref().is_none_or(|s| s.len() < staging) {
            self.queue.synchronize()?;
            self.staging = None;
            self.staging = Some(Block::on_host(&on.device, staging)?);
        }
        Ok(at)
    }

    fn base(&self) -> *mut u8 {
        self.arena.as_ref().map_or(std::ptr::null_mut(), Block::ptr)
    }

    fn staged(&self) -> *mut u8 {
        self.staging.as_ref().map_or(std::ptr::null_mut(), Block::ptr)
    }

    /// Copies the inputs behind the arena.
    fn bring(&self, at: usize, ends: &Ends) -> Result<()> {
        let b = &self.bound[at];
        for (i, &offset) in b.inputs.iter().enumerate() {
            // SAFETY: sizes are those bound, both memories were made large enough, and the staging memory is not written
            // again before the run is over.
            unsafe {
                let to = self.base().add(offset);
                match ends {
                    Ends::Host(views) => {
                        let bytes = views[i].bytes();
                        let staged = self.staged().add(offset - b.inputs[0]);
                        std::ptr::copy_nonoverlapping(bytes.as_ptr(), staged, bytes.len());
                        self.queue.copy_in(to, staged, bytes.len())?;
                    }
                    Ends::Device(inputs, _) => self.queue.copy(to, inputs[i], b.binding.input_bytes[i])?,
                }
            }
        }
        Ok(())
    }

    /// Does the steps: directly the first time, recorded after that.
    fn execute(
        &mut self,
        inner: &Inner,
        on: &OnDevice,
        at: usize,
        ends: &Ends,
        mut profile: Option<&mut Vec<StepProfile>>,
    ) -> Result<()> {
        let base = self.base();
        let again = self.bound[at].base == base;
        for s in 0..self.bound[at].segments.len() {
            let b = &self.bound[at];
            match &b.segments[s] {
                Segment::Host(step) => {
                    let started = Instant::now();
                    self.host(inner, &b.binding.steps[*step], b, ends)?;
                    if let Some(profile) = profile.as_deref_mut() {
                        profile.push(step_profile(inner, &b.binding.steps[*step], started.elapsed().as_secs_f64()));
                    }
                }
                Segment::Kernels { steps, .. } if profile.is_some() => {
                    for step in &b.binding.steps[steps.clone()] {
                        let seconds = self.queue.seconds(&mut || self.launch(inner, on, b, step))?;
                        if let Some(profile) = profile.as_deref_mut() {
                            profile.push(step_profile(inner, step, seconds));
                        }
                    }
                }
                Segment::Kernels { recording: Some(recording), .. } if again => {
                    // SAFETY: the arena is the one that was recorded with.
                    unsafe { self.queue.replay(&**recording)? };
                }
                Segment::Kernels { steps, .. } => {
                    let steps = steps.clone();
                    let mut all = || -> Result<()> {
                        b.binding.steps[steps.clone()].iter().try_for_each(|step| self.launch(inner, on, b, step))
                    };
                    if !again {
                        all()?;
                        continue;
                    }
                    let made = self.queue.record(&mut all)?;
                    // SAFETY: the arena is the one that was just recorded with.
                    unsafe { self.queue.replay(&*made)? };
                    if let Segment::Kernels { recording, .. } = &mut self.bound[at].segments[s] {
                        *recording = Some(made);
                    }
                }
            }
        }
        self.bound[at].base = base;
        Ok(())
    }

    /// Queues one step.
    fn launch(&self, inner: &Inner, on: &OnDevice, b: &DeviceBinding, step: &BoundStep) -> Result<()> {
        let Action::Kernel(bound, _) = &step.action else { return Err(Error::bug("a host step among kernels")) };
        let base = self.base();
        let resolve = |loc: &Loc| -> Result<*mut u8> {
            Ok(match *loc {
                Loc::Null => std::ptr::null_mut(),
                // SAFETY: offsets lie inside the arena, which was made large enough.
                Loc::Arena(at) => unsafe { base.add(at) },
                // SAFETY: as above.
                Loc::Input(i) => unsafe { base.add(b.inputs[i]) },
                Loc::Const(p) => {
                    let key = p as usize;
                    match (b.values.get(&key), &b.held, on.constants.get(&key)) {
                        // SAFETY: the offset lies inside the block.
                        (Some(&at), Some(held), _) => unsafe { held.ptr().add(at) },
                        (_, _, Some(block)) => block.ptr(),
                        _ => bail!(bug, "a constant that is not on the device"),
                    }
                }
            })
        };
        let ins = step.inputs.iter().map(|l| resolve(l).map(<*mut u8>::cast_const)).collect::<Result<Vec<_>>>()?;
        let outs = step.outputs.iter().map(resolve).collect::<Result<Vec<_>>>()?;
        // SAFETY: offsets lie inside the arena.
        let workspace = unsafe { base.add(step.workspace) };
        let device = self.words.io(&*self.queue, step.index);
        // SAFETY: shapes, types and pointers are those of the binding; buffers overlap only where the kernel allowed it.
        unsafe { bound.run(&Io { inputs: &ins, outputs: &outs, workspace, device }) }
            .at(|| inner.plan.graph[step.node].describe())
    }

    /// A step of the reference evaluator: its operands come to the host, its results go back.
    fn host(&self, inner: &Inner, step: &BoundStep, b: &DeviceBinding, ends: &Ends) -> Result<()> {
        let Action::Host { inputs: types, output_bytes } = &step.action else {
            return Err(Error::bug("a kernel that should run on the host"));
        };
        let base = self.base();
        let mut held = Vec::new();
        let mut ins = Vec::with_capacity(step.inputs.len());
        for (loc, ty) in step.inputs.iter().zip(types) {
            let from = match *loc {
                Loc::Null => {
                    ins.push(std::ptr::null());
                    continue;
                }
                Loc::Const(p) => {
                    ins.push(p);
                    continue;
                }
                Loc::Input(i) => match ends {
                    Ends::Host(views) => {
                        ins.push(views[i].bytes().as_ptr());
                        continue;
                    }
                    // SAFETY: offsets lie inside the arena.
                    Ends::Device(..) => unsafe { base.add(b.inputs[i]) },
                },
                // SAFETY: as above.
                Loc::Arena(at) => unsafe { base.add(at) },
            };
            let bytes = ty.as_ref().map_or(0, |(dtype, shape)| dtype.bytes_for(shape.iter().product()));
            let mut copy = vec![0u8; bytes];
            // SAFETY: the tensor has that many bytes; the queue is waited for below.
            unsafe { self.queue.copy_out(copy.as_mut_ptr(), from, bytes)? };
            ins.push(copy.as_ptr());
            held.push(copy);
        }
        self.queue.synchronize()?;
        self.check(inner)?;
        let mut results: Vec<Vec<u8>> = output_bytes.iter().map(|&n| vec![0u8; n]).collect();
        let outs: Vec<*mut u8> = results.iter_mut().map(|r| r.as_mut_ptr()).collect();
        host_step(inner, step, types, output_bytes, &ins, &outs).at(|| inner.plan.graph[step.node].describe())?;
        for (loc, result) in step.outputs.iter().zip(&results) {
            if let Loc::Arena(at) = *loc {
                // SAFETY: the buffer has the bound size; the queue is waited for before `results` goes.
                unsafe { self.queue.copy_in(base.add(at), result.as_ptr(), result.len())? };
            }
        }
        self.queue.synchronize()
    }

    /// Copies the outputs to where they are wanted, and waits for the run.
    fn fetch(&self, at: usize, ends: &Ends) -> Result<()> {
        self.send(at, ends)?;
        self.queue.synchronize()
    }

    /// Queues copies of the outputs, and of the word that tells whether all steps were content.
    fn send(&self, at: usize, ends: &Ends) -> Result<()> {
        let b = &self.bound[at];
        for (i, o) in b.binding.outputs.iter().enumerate() {
            let from = match o.loc {
                // SAFETY: offsets lie inside the arena.
                Loc::Arena(at) => unsafe { self.base().add(at) },
                // SAFETY: as above.
                Loc::Input(k) if matches!(ends, Ends::Device(..)) => unsafe { self.base().add(b.inputs[k]) },
                Loc::Const(p) if matches!(ends, Ends::Device(..)) => match ends {
                    Ends::Device(_, outputs) => {
                        // SAFETY: the binding owns the constant.
                        unsafe { self.queue.copy_in(outputs[i], p, o.bytes)? };
                        continue;
                    }
                    Ends::Host(_) => continue,
                },
                _ => continue,
            };
            // SAFETY: both sides have the bound size.
            unsafe {
                match ends {
                    Ends::Host(_) => self.queue.copy_out(self.staged().add(b.outputs[i]), from, o.bytes)?,
                    Ends::Device(_, outputs) => self.queue.copy(outputs[i], from, o.bytes)?,
                }
            }
        }
        for (i, counted) in b.binding.counted.iter().enumerate() {
            // SAFETY: the arena holds the sizes that are found, and the staging memory has room for them.
            unsafe { self.queue.copy_out(self.staged().add(b.counted + 8 * i), self.base().add(counted.at), 8)? };
        }
        // SAFETY: the end of the staging memory is the status word's.
        unsafe { self.queue.copy_out(self.staged().add(b.staging - 64), self.words.status(), 4) }
    }

    /// Where a value lies on the device that a binding's steps left; it stays until the next run.
    pub fn place(&self, binding: &Arc<Binding>, loc: Loc) -> Result<*mut u8> {
        let b = self.bound.iter().find(|b| Arc::ptr_eq(&b.binding, binding));
        let b = b.ok_or_else(|| Error::bug("values of sizes that were not run"))?;
        match loc {
            // SAFETY: offsets lie inside the arena, which was made large enough.
            Loc::Arena(at) => Ok(unsafe { self.base().add(at) }),
            // SAFETY: as above.
            Loc::Input(i) => Ok(unsafe { self.base().add(b.inputs[i]) }),
            Loc::Null | Loc::Const(_) => Err(Error::bug("a value that no step made")),
        }
    }

    /// The sizes that the steps of a run found.
    pub fn found(&self, binding: &Arc<Binding>) -> Vec<i64> {
        let b = self.bound.iter().find(|b| Arc::ptr_eq(&b.binding, binding));
        // SAFETY: the staging memory holds them, and the run was waited for.
        let size = |b: &DeviceBinding, i: usize| unsafe { self.staged().add(b.counted + 8 * i).cast::<i64>().read() };
        b.map_or(Vec::new(), |b| (0..b.binding.counted.len()).map(|i| size(b, i)).collect())
    }

    /// The error that a step left in the status word, with the step's name.
    fn check(&self, inner: &Inner) -> Result<()> {
        let mut word = 0u32;
        // SAFETY: the queue is waited for.
        unsafe { self.queue.copy_out((&raw mut word).cast(), self.words.status(), 4)? };
        self.queue.synchronize()?;
        self.judge(inner, word)
    }

    /// The same after a run, when the word has come with the outputs.
    pub fn verdict(&self, inner: &Inner, binding: &Arc<Binding>) -> Result<()> {
        let Some(b) = self.bound.iter().find(|b| Arc::ptr_eq(&b.binding, binding)) else { return Ok(()) };
        // SAFETY: the end of the staging memory is the status word's.
        let word = unsafe { self.staged().add(b.staging - 64).cast::<u32>().read() };
        self.judge(inner, word)
    }

    fn judge(&self, inner: &Inner, word: u32) -> Result<()> {
        let Some((step, error)) = status_error(word) else { return Ok(()) };
        self.words.clear_status(&*self.queue)?;
        self.queue.synchronize()?;
        let node = inner.plan.steps.get(step).map(|s| inner.plan.graph[s.node].describe());
        Err(error.at(node.unwrap_or_else(|| format!("step {step}"))))
    }

    /// The bytes of output `i` after a run.
    pub fn output(&self, binding: &Arc<Binding>, i: usize) -> Result<&[u8]> {
        let b = self.bound.iter().find(|b| Arc::ptr_eq(&b.binding, binding));
        let b = b.ok_or_else(|| Error::bug("outputs of sizes that were not run"))?;
        let bytes = b.binding.outputs[i].bytes;
        // SAFETY: the staging memory holds all outputs, and the run was waited for.
        Ok(unsafe { std::slice::from_raw_parts(self.staged().add(b.outputs[i]), bytes) })
    }
}

impl Drop for DeviceContext {
    fn drop(&mut self) {
        // Nothing may be under way when the memory goes; what failed was reported before.
        let _ = self.queue.synchronize();
    }
}

impl DeviceBinding {
    fn new(inner: &Inner, on: &OnDevice, binding: &Arc<Binding>, queue: &dyn Queue) -> Result<DeviceBinding> {
        // All in one copy: memory of a device is asked for and filled in steps of some 10 µs.
        let mut values = HashMap::new();
        let mut bytes = Vec::new();
        let kernels = binding.steps.iter().filter(|s| matches!(s.action, Action::Kernel(..)));
        for loc in kernels.flat_map(|s| &s.inputs) {
            let Loc::Const(p) = *loc else { continue };
            let key = p as usize;
            if on.constants.contains_key(&key) || values.contains_key(&key) {
                continue;
            }
            let t = binding.values.iter().find(|t| t.bytes().as_ptr() == p);
            let t = t.ok_or_else(|| Error::bug("a constant that nobody owns"))?;
            bytes.resize(bytes.len().next_multiple_of(ALIGN), 0u8);
            values.insert(key, bytes.len());
            bytes.extend_from_slice(t.bytes());
        }
        let held = if bytes.is_empty() { None } else { Some(upload(&on.device, queue, &bytes)?) };
        let mut segments: Vec<Segment> = Vec::new();
        for (i, step) in binding.steps.iter().enumerate() {
            match (&step.action, segments.last_mut()) {
                (Action::Host { .. }, _) => segments.push(Segment::Host(i)),
                (_, Some(Segment::Kernels { steps, .. })) => steps.end = i + 1,
                _ => segments.push(Segment::Kernels { steps: i..i + 1, recording: None }),
            }
        }
        let mut total = binding.arena_bytes;
        let mut inputs = Vec::new();
        for &bytes in &binding.input_bytes {
            total = total.next_multiple_of(ALIGN);
            inputs.push(total);
            total += bytes;
        }
        if inputs.len() != inner.inputs.len() {
            bail!(bug, "{} inputs bound, {} declared", inputs.len(), inner.inputs.len());
        }
        let mut staging = inputs.first().map_or(0, |first| total - first);
        let mut outputs = Vec::new();
        for o in &binding.outputs {
            staging = staging.next_multiple_of(ALIGN);
            outputs.push(staging);
            staging += o.bytes;
        }
        let counted = staging.next_multiple_of(ALIGN);
        staging = (counted + 8 * binding.counted.len()).next_multiple_of(ALIGN) + 64;
        let base = std::ptr::null_mut();
        Ok(DeviceBinding {
            binding: binding.clone(),
            values,
            held,
            segments,
            inputs,
            total,
            outputs,
            counted,
            staging,
            base,
        })
    }

    /// Drops the recordings, whose memory goes.
    fn forget(&mut self) {
        self.base = std::ptr::null_mut();
        for segment in &mut self.segments {
            if let Segment::Kernels { recording, .. } = segment {
                *recording = None;
            }
        }
    }
}
