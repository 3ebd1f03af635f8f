//! Devices with memory of their own.
//!
//! On such a device [`crate::Bound::run`] does not wait: it puts its work into the queue that its [`crate::Io`] names, and
//! all pointers lead to the device's memory. What it can only find out while it works (an index out of range) it writes
//! to the status word, which the runtime reads after the run.

use oxrt_tensor::{Error, Result};
use std::ffi::c_void;
use std::sync::Arc;

/// Memory and queues of a device.
pub trait Device: Send + Sync {
    /// Memory on the device, of at least one byte, aligned to 256.
    ///
    /// # Errors
    /// When the device has not so much left; says how much was asked for.
    fn alloc(&self, bytes: usize) -> Result<*mut u8>;

    /// Memory of the host that the device copies from and to directly.
    fn alloc_host(&self, bytes: usize) -> Result<*mut u8>;

    /// Gives memory back.
    ///
    /// # Safety
    /// The pointer comes from [`Device::alloc`] and no queued work uses it.
    unsafe fn free(&self, ptr: *mut u8);

    /// Gives memory back.
    ///
    /// # Safety
    /// The pointer comes from [`Device::alloc_host`] and no queued work uses it.
    unsafe fn free_host(&self, ptr: *mut u8);

    /// A new queue.
    fn queue(&self) -> Result<Box<dyn Queue>>;
}

/// Work in order.
pub trait Queue: Send + Sync {
    /// What kernels of the device know the queue by.
    fn handle(&self) -> *mut c_void;

    /// Copies to the device.
    ///
    /// # Safety
    /// Both sides have `bytes` bytes, and stay until the queue has come past.
    unsafe fn copy_in(&self, to: *mut u8, from: *const u8, bytes: usize) -> Result<()>;

    /// Copies from the device.
    ///
    /// # Safety
    /// As [`Queue::copy_in`].
    unsafe fn copy_out(&self, to: *mut u8, from: *const u8, bytes: usize) -> Result<()>;

    /// Copies within the device.
    ///
    /// # Safety
    /// As [`Queue::copy_in`].
    unsafe fn copy(&self, to: *mut u8, from: *const u8, bytes: usize) -> Result<()>;

    /// Sets bytes to zero.
    ///
    /// # Safety
    /// The memory has that many bytes.
    unsafe fn clear(&self, to: *mut u8, bytes: usize) -> Result<()>;

    /// Waits until all work is done.
    ///
    /// # Errors
    /// A failure of work that was queued before.
    fn synchronize(&self) -> Result<()>;

    /// Takes down the work that `work` queues, without doing it.
    fn record(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Box<dyn Recording>>;

    /// Queues recorded work.
    ///
    /// # Safety
    /// The memory that the work uses is still there.
    unsafe fn replay(&self, recording: &dyn Recording) -> Result<()>;

    /// Seconds on the device that what `work` queues takes. Waits for it.
    fn seconds(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<f64>;
}

/// Work taken down by [`Queue::record`].
pub trait Recording: Send + Sync {
    /// What the queue knows it by.
    fn as_any(&self) -> &dyn std::any::Any;
}

/// Where a run of a node puts its work. Empty on the host.
#[derive(Clone, Copy, Debug)]
pub struct DeviceIo {
    /// [`Queue::handle`].
    pub queue: *mut c_void,
    /// A word in the device's memory, 0 while all is well. See [`STATUS_INDEX`].
    pub status: *mut u32,
    /// Number of the step, to be written to the upper bits of the status.
    pub step: u32,
    /// [`COUNTERS`] words of the device's memory that are zero between steps: who counts there leaves zeros.
    pub counters: *mut u32,
}

/// Words at [`DeviceIo::counters`].
pub const COUNTERS: usize = 4096;

/// The words of the device that a run needs beside its tensors: status and counters.
pub struct Words(Block);

impl Words {
    /// All zero.
    pub fn new(device: &Arc<dyn Device>, queue: &dyn Queue) -> Result<Words> {
        let block = Block::new(device, Self::STATUS + 4 * COUNTERS)?;
        // SAFETY: the block has that many bytes.
        unsafe { queue.clear(block.ptr(), block.len())? };
        Ok(Words(block))
    }

    /// Bytes of the status at the start.
    const STATUS: usize = 64;

    pub fn status(&self) -> *mut u8 {
        self.0.ptr()
    }

    /// Sets the status to zero.
    pub fn clear_status(&self, queue: &dyn Queue) -> Result<()> {
        // SAFETY: the block is longer.
        unsafe { queue.clear(self.0.ptr(), Self::STATUS) }
    }

    /// Where step `step` puts its work.
    pub fn io(&self, queue: &dyn Queue, step: usize) -> DeviceIo {
        // SAFETY: the counters lie behind the status.
        let counters = unsafe { self.0.ptr().add(Self::STATUS) }.cast();
        DeviceIo { queue: queue.handle(), status: self.0.ptr().cast(), step: step as u32, counters }
    }
}

impl Default for DeviceIo {
    fn default() -> DeviceIo {
        DeviceIo { queue: std::ptr::null_mut(), status: std::ptr::null_mut(), step: 0, counters: std::ptr::null_mut() }
    }
}

/// Status of a step that met an index out of range.
pub const STATUS_INDEX: u32 = 1;
/// Status of a step that divided an integer by zero.
pub const STATUS_DIVISION: u32 = 2;

/// The step's number and the error that a status word tells of; `None` when all is well.
pub fn status_error(status: u32) -> Option<(usize, Error)> {
    let error = match status & 0xff {
        0 => return None,
        STATUS_INDEX => Error::invalid("an index is out of range"),
        STATUS_DIVISION => Error::invalid("integer division by zero"),
        other => Error::bug(format!("the device reports the unknown status {other}")),
    };
    Some(((status >> 8) as usize, error))
}

/// A block of a device's memory, or of the host's that the device knows.
pub struct Block {
    device: Arc<dyn Device>,
    ptr: *mut u8,
    bytes: usize,
    on_host: bool,
}

// SAFETY: a block is plain memory; who writes it when is the business of its owner.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

impl Block {
    /// On the device.
    pub fn new(device: &Arc<dyn Device>, bytes: usize) -> Result<Block> {
        Ok(Block { device: device.clone(), ptr: device.alloc(bytes.max(1))?, bytes, on_host: false })
    }

    /// On the host.
    pub fn on_host(device: &Arc<dyn Device>, bytes: usize) -> Result<Block> {
        Ok(Block { device: device.clone(), ptr: device.alloc_host(bytes.max(1))?, bytes, on_host: true })
    }

    pub fn ptr(&self) -> *mut u8 {
        self.ptr
    }

    pub fn len(&self) -> usize {
        self.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: it was allocated so; owners wait for their queues before they let go.
        unsafe { if self.on_host { self.device.free_host(self.ptr) } else { self.device.free(self.ptr) } }
    }
}
