//! Values of runs step by step on a device: they stay there until the host wants them.

use crate::device::OnDevice;
use crate::engine::Inner;
use oxrt_backend::{Block, Bound, Io, Queue, Words, status_error};
use oxrt_ops::Datum;
use oxrt_tensor::{DType, Error, Result, Tensor, num_elements};
use std::sync::Arc;
use std::time::Instant;

/// A value: on the host, on the device, or on both.
#[derive(Default)]
pub(crate) struct Held {
    pub host: Option<Datum>,
    pub device: Option<Resident>,
}

impl From<Datum> for Held {
    fn from(datum: Datum) -> Held {
        Held { host: Some(datum), device: None }
    }
}

impl Held {
    /// The shape, of tensors.
    pub fn shape(&self) -> Option<&[usize]> {
        match (&self.device, &self.host) {
            (Some(r), _) => Some(&r.shape),
            (None, Some(Datum::Tensor(t))) => Some(t.shape()),
            _ => None,
        }
    }
}

/// A tensor in the device's memory. Clones share it; nobody writes it again.
#[derive(Clone)]
pub(crate) struct Resident {
    place: Place,
    pub dtype: DType,
    pub shape: Vec<usize>,
}

#[derive(Clone)]
enum Place {
    Own(Arc<Block>),
    /// In memory that outlives the run.
    Lent(*mut u8),
}

impl Resident {
    /// A tensor in memory that stays as it is until the run is over.
    pub fn lent(ptr: *mut u8, dtype: DType, shape: Vec<usize>) -> Resident {
        Resident { place: Place::Lent(ptr), dtype, shape }
    }

    fn ptr(&self) -> *mut u8 {
        match &self.place {
            Place::Own(block) => block.ptr(),
            Place::Lent(ptr) => *ptr,
        }
    }

    pub fn bytes(&self) -> Result<usize> {
        Ok(self.dtype.bytes_for(num_elements(&self.shape)?))
    }

    /// The same elements under another shape.
    ///
    /// # Errors
    /// When the shape has another number of elements.
    pub fn reshaped(&self, shape: &[usize]) -> Result<Resident> {
        if num_elements(shape)? != num_elements(&self.shape)? {
            return Err(Error::invalid(format!("shape {:?} does not make {shape:?}", self.shape)));
        }
        Ok(Resident { shape: shape.to_vec(), ..self.clone() })
    }

    /// As many of the first elements as the shape has.
    pub fn beginning(self, shape: Vec<usize>) -> Resident {
        Resident { shape, ..self }
    }
}

/// Where the time of a run step by step goes, in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    /// Copies to the device and from it, by events.
    pub copy_in: f64,
    pub copy_out: f64,
    /// The host's time for both, and for waiting.
    pub waited: f64,
    /// Kernels, by events; only where each is timed (which waits for it).
    pub kernels: f64,
    pub each_kernel: bool,
}

/// The queue of a context's runs step by step, and memory that they left.
pub(crate) struct Side {
    queue: Box<dyn Queue>,
    /// Where runs are timed.
    pub spent: Option<Spent>,
    words: Words,
    /// With the run that put it here.
    free: Vec<(u64, Block)>,
    run: u64,
}

impl Side {
    pub fn new(on: &OnDevice) -> Result<Side> {
        let queue = on.device.queue()?;
        let words = Words::new(&on.device, &*queue)?;
        Ok(Side { queue, spent: None, words, free: Vec::new(), run: 0 })
    }

    /// Memory of any contents: what is free and not more than twice as large, else new. Work is queued in order, so memory that
    /// nobody will read again may be written.
    fn take(&mut self, on: &OnDevice, bytes: usize) -> Result<Block> {
        let fitting = |b: &Block| Some(b.len()).filter(|&len| len >= bytes && len / 2 <= bytes.max(256));
        let best = self.free.iter().enumerate().filter_map(|(i, (_, b))| Some((fitting(b)?, i))).min();
        match best {
            Some((_, i)) => Ok(self.free.swap_remove(i).1),
            None => Block::new(&on.device, bytes),
        }
    }

    /// Takes memory back, unless another value lies there too.
    pub fn put(&mut self, resident: Resident) {
        if let Place::Own(block) = resident.place
            && let Ok(block) = Arc::try_unwrap(block)
        {
            self.free.push((self.run, block));
        }
    }

    pub fn room(&mut self, on: &OnDevice, dtype: DType, shape: &[usize]) -> Result<Resident> {
        let block = self.take(on, dtype.bytes_for(num_elements(shape)?))?;
        Ok(Resident { place: Place::Own(Arc::new(block)), dtype, shape: shape.to_vec() })
    }

    /// Copies a tensor to the device, and waits for it.
    pub fn upload(&mut self, on: &OnDevice, t: &Tensor) -> Result<Resident> {
        let resident = self.room(on, t.dtype(), t.shape())?;
        // SAFETY: the block has room for the tensor.
        unsafe { self.write(t, resident.ptr())? };
        Ok(resident)
    }

    /// Copies a tensor to memory of the device, and waits for it.
    ///
    /// # Safety
    /// The memory has room for it.
    pub unsafe fn write(&mut self, t: &Tensor, to: *mut u8) -> Result<()> {
        let bytes = t.bytes();
        // SAFETY: the caller's promise; the tensor stays until the queue has come past.
        let seconds = self.timed(|queue| unsafe { queue.copy_in(to, bytes.as_ptr(), bytes.len()) })?;
        if let Some(spent) = &mut self.spent {
            spent.copy_in += seconds;
        }
        self.queue.synchronize()
    }

    /// Copies a value to memory of the device.
    ///
    /// # Safety
    /// The memory has room for it.
    pub unsafe fn give(&mut self, resident: &Resident, to: *mut u8) -> Result<()> {
        // SAFETY: the caller's promise; the value lies there until the queue has come past.
        unsafe { self.queue.copy(to, resident.ptr(), resident.bytes()?) }
    }

    /// Queues a copy. Where runs are timed it waits: for what is under way, then for the copy, whose seconds on the device it returns.
    fn timed(&mut self, copy: impl Fn(&dyn Queue) -> Result<()>) -> Result<f64> {
        let Some(spent) = &mut self.spent else { return copy(&*self.queue).map(|()| 0.0) };
        let started = Instant::now();
        self.queue.synchronize()?;
        let seconds = self.queue.seconds(&mut || copy(&*self.queue));
        spent.waited += started.elapsed().as_secs_f64();
        seconds
    }

    /// Copies a value to the host.
    ///
    /// # Errors
    /// What a kernel before it reported, at its step.
    pub fn fetch(&mut self, inner: &Inner, resident: &Resident) -> Result<Tensor> {
        let mut t = Tensor::try_zeros(resident.dtype, &resident.shape)?;
        let (len, to) = (t.bytes().len(), t.bytes_mut().as_mut_ptr());
        // SAFETY: the block holds the tensor, and the queue is waited for.
        let seconds = self.timed(|queue| unsafe { queue.copy_out(to, resident.ptr(), len) })?;
        if let Some(spent) = &mut self.spent {
            spent.copy_out += seconds;
        }
        self.judge(inner)?;
        Ok(t)
    }

    /// Waits for all work.
    ///
    /// # Errors
    /// What a kernel reported, at its step.
    pub fn judge(&mut self, inner: &Inner) -> Result<()> {
        let (mut word, started) = (0u32, Instant::now());
        // SAFETY: the status has four bytes and more.
        unsafe { self.queue.copy_out((&raw mut word).cast(), self.words.status(), 4)? };
        self.queue.synchronize()?;
        if let Some(spent) = &mut self.spent {
            spent.waited += started.elapsed().as_secs_f64();
        }
        let Some((step, error)) = status_error(word) else { return Ok(()) };
        self.words.clear_status(&*self.queue)?;
        self.queue.synchronize()?;
        let node = inner.plan.steps.get(step).map(|s| inner.plan.graph[s.node].describe());
        Err(error.at(node.unwrap_or_else(|| format!("step {step}"))))
    }

    /// Waits, whatever happened.
    pub fn settle(&self) {
        let _ = self.queue.synchronize();
    }

    /// Ends a run: what it had no use for goes.
    pub fn end(&mut self) {
        let run = self.run;
        if self.free.iter().any(|(at, _)| *at != run) {
            self.settle();
            self.free.retain(|(at, _)| *at == run);
        }
        self.run += 1;
    }

    /// Queues a kernel.
    pub fn launch(
        &mut self,
        on: &OnDevice,
        bound: &dyn Bound,
        inputs: &[Operand],
        outputs: &[Option<Resident>],
        step: usize,
    ) -> Result<()> {
        let in_ptrs: Vec<*const u8> = inputs.iter().map(Operand::ptr).collect();
        let out_ptrs: Vec<*mut u8> =
            outputs.iter().map(|r| r.as_ref().map_or(std::ptr::null_mut(), |r| r.ptr())).collect();
        let need = bound.workspace_bytes();
        let workspace = if need > 0 { Some(self.take(on, need)?) } else { None };
        let device = self.words.io(&*self.queue, step);
        let ptr = workspace.as_ref().map_or(std::ptr::null_mut(), Block::ptr);
        let io = Io { inputs: &in_ptrs, outputs: &out_ptrs, workspace: ptr, device };
        let done = match &mut self.spent {
            Some(spent) if spent.each_kernel => {
                // SAFETY: all buffers have the bound sizes, and are not given away before the queue has come past.
                self.queue.seconds(&mut || unsafe { bound.run(&io) }).map(|seconds| spent.kernels += seconds)
            }
            // SAFETY: as above.
            _ => unsafe { bound.run(&io) },
        };
        if let Some(block) = workspace {
            self.free.push((self.run, block));
        }
        done
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        // Nothing may be under way when the memory goes.
        self.settle();
    }
}

/// An input of a kernel on the device.
pub(crate) enum Operand {
    /// Absent, or packed into the kernel.
    Nothing,
    Constant(*const u8),
    Value(Resident),
}

impl Operand {
    fn ptr(&self) -> *const u8 {
        match self {
            Operand::Nothing => std::ptr::null(),
            Operand::Constant(ptr) => *ptr,
            Operand::Value(r) => r.ptr().cast_const(),
        }
    }
}
