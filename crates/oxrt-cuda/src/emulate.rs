//! A GPU that is not there: kernel texts compiled for the host and run thread by thread. Tests of schedules and of the
//! arithmetic of kernels need no device with it. It is slow, and it measures nothing.

use crate::gpu::{Function, Gpu, TensorMap, TensorPath, Walk};
use oxrt_backend::{Device, Queue, Recording};
use oxrt_tensor::{Error, Result};
use std::any::Any;
use std::collections::HashMap;
use std::ffi::{CString, c_char, c_void};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const BEFORE: &str = include_str!("text/emulate.hpp");
const AFTER: &str = include_str!("text/emulate_after.hpp");

type Entry = unsafe extern "C" fn(*const c_void);
type Run = unsafe extern "C" fn(Entry, *const c_void, *const u32, u32, u32);

/// The emulator. Compiled texts are kept in a folder, by their hash.
pub struct Emulator {
    cache: PathBuf,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Sizes of allocations, to free them by.
    sizes: HashMap<usize, usize>,
    /// (module, kernel) behind each function.
    functions: Vec<(usize, usize)>,
    modules: HashMap<u64, u64>,
    recording: Option<Vec<Launch>>,
}

#[derive(Clone)]
struct Launch {
    function: u64,
    grid: [u32; 3],
    threads: u32,
    shared: u32,
    params: Vec<u8>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Emulator {
    /// With a folder for compiled texts.
    pub fn new(cache: PathBuf) -> Arc<Emulator> {
        Arc::new(Emulator { cache, state: Arc::default() })
    }

    fn allocate(&self, bytes: usize) -> Result<*mut u8> {
        let layout = std::alloc::Layout::from_size_align(bytes.max(1), 256).map_err(|e| Error::bug(e.to_string()))?;
        // SAFETY: the layout has a size.
        let ptr = unsafe { std::alloc::alloc(layout) };
        if ptr.is_null() {
            return Err(Error::invalid(format!("no memory for {bytes} bytes")));
        }
        // Bytes that nobody wrote are NaN to whoever reads them.
        // SAFETY: just allocated.
        unsafe { std::ptr::write_bytes(ptr, 0xff, bytes) };
        lock(&self.state).sizes.insert(ptr as usize, bytes.max(1));
        Ok(ptr)
    }

    unsafe fn release(&self, ptr: *mut u8) {
        if let Some(bytes) = lock(&self.state).sizes.remove(&(ptr as usize))
            && let Ok(layout) = std::alloc::Layout::from_size_align(bytes, 256)
        {
            // SAFETY: it was allocated with this layout, and is gone from the table.
            unsafe { std::alloc::dealloc(ptr, layout) };
        }
    }
}

impl Device for Emulator {
    fn alloc(&self, bytes: usize) -> Result<*mut u8> {
        self.allocate(bytes)
    }

    fn alloc_host(&self, bytes: usize) -> Result<*mut u8> {
        self.allocate(bytes)
    }

    unsafe fn free(&self, ptr: *mut u8) {
        // SAFETY: passed on.
        unsafe { self.release(ptr) }
    }

    unsafe fn free_host(&self, ptr: *mut u8) {
        // SAFETY: passed on.
        unsafe { self.release(ptr) }
    }

    fn queue(&self) -> Result<Box<dyn Queue>> {
        Ok(Box::new(Emulated { state: self.state.clone() }))
    }
}

impl Gpu for Emulator {
    /// The newest whose instructions are emulated.
    fn arch(&self) -> u32 {
        90
    }

    fn name(&self) -> String {
        "emulator".to_string()
    }

    fn processors(&self) -> u32 {
        4
    }

    /// Compiled code is the name of a library.
    fn compile(&self, text: &str) -> Result<Vec<u8>> {
        let (prelude, rest) = text
            .split_once(crate::text::END_OF_PRELUDE)
            .ok_or_else(|| Error::bug("a kernel text without the prelude"))?;
        // The emulator's instructions need the types, the prelude's conversions need the instructions.
        let (types, conversions) = prelude.split_once("#ifndef OXRT_EMULATED").unwrap_or((prelude, ""));
        let source = format!("{BEFORE}\n{types}\n{AFTER}\n#ifndef OXRT_EMULATED{conversions}\n{rest}");
        let hash = xxhash_rust::xxh3::xxh3_64(source.as_bytes());
        let library = self.cache.join(format!("{hash:016x}.so"));
        if !library.exists() {
            std::fs::create_dir_all(&self.cache)?;
            // Where the real compiler is at hand, it reads every new text too, for the architectures named.
            for arch in
                std::env::var("OXRT_EMULATOR_NVRTC").unwrap_or_default().split(',').filter_map(|a| a.parse().ok())
            {
                if arch == 90 || !crate::driver::needs_hopper(text) {
                    crate::driver::compile(text, arch)?;
                }
            }
            let thread = std::thread::current().id();
            let file =
                self.cache.join(format!("{hash:016x}.{}.{thread:?}.cpp", std::process::id()).replace(['(', ')'], ""));
            let made = file.with_extension("made");
            std::fs::write(&file, &source)?;
            let output = Command::new("g++")
                .args(["-std=c++17", "-O1", "-w", "-fPIC", "-shared", "-fpermissive", "-ffp-contract=off"])
                // What nobody wrote is no number that could pass.
                .args(["-ftrivial-auto-var-init=pattern", "-o"])
                .arg(&made)
                .arg(&file)
                .arg("-lm")
                .output()
                .map_err(|e| Error::unsupported(format!("the emulator needs g++: {e}")))?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr);
                return Err(Error::bug(format!("a kernel does not compile:\n{said}")));
            }
            std::fs::rename(&made, &library)?;
            std::fs::remove_file(&file)?;
        }
        Ok(library.to_string_lossy().into_owned().into_bytes())
    }

    fn load(&self, code: &[u8]) -> Result<u64> {
        let hash = xxhash_rust::xxh3::xxh3_64(code);
        if let Some(&module) = lock(&self.state).modules.get(&hash) {
            return Ok(module);
        }
        let path = CString::new(code).map_err(|_| Error::bug("a path with a zero"))?;
        // SAFETY: the library has no initialisers of its own.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if handle.is_null() {
            return Err(Error::invalid(format!("cannot open {}", String::from_utf8_lossy(code))));
        }
        lock(&self.state).modules.insert(hash, handle as u64);
        Ok(handle as u64)
    }

    fn function(&self, module: u64, name: &str, _: u32) -> Result<Function> {
        let symbol = |name: &str| -> Result<usize> {
            let c = CString::new(name).map_err(|_| Error::bug("a kernel's name with a zero"))?;
            // SAFETY: the handle is open.
            let address = unsafe { libc::dlsym(module as *mut c_void, c.as_ptr().cast::<c_char>()) };
            if address.is_null() { Err(Error::bug(format!("no kernel `{name}`"))) } else { Ok(address as usize) }
        };
        let pair = (symbol("oxrt_emulate")?, symbol(&format!("{name}_entry"))?);
        let mut state = lock(&self.state);
        state.functions.push(pair);
        Ok(Function { handle: state.functions.len() as u64 - 1, waits: false })
    }

    fn tensor_map(&self, path: &TensorPath) -> Result<TensorMap> {
        let whole = path.strides.iter().all(|s| s.is_multiple_of(16)) && (path.base as usize).is_multiple_of(16);
        let lengths = match &path.walk {
            Walk::Box(rows) => rows.len() + 1 == path.dims.len() && rows.iter().all(|n| (1..=256).contains(n)),
            Walk::Windows { pixels, low, high, steps } => {
                let corner = |c: &i64| (-128..128).contains(c);
                let fits =
                    low.iter().all(corner) && high.iter().all(corner) && steps.iter().all(|s| (1..=8).contains(s));
                path.dims.len() == 4 && *pixels <= 1024 && fits
            }
        };
        if !whole || !lengths || path.strides.len() + 1 != path.dims.len() || path.dims.contains(&0) {
            return Err(Error::bug(format!("no copy engine walks {path:?}")));
        }
        Ok(path_bytes(path))
    }

    unsafe fn launch(
        &self,
        _: *mut c_void,
        function: Function,
        grid: [u32; 3],
        threads: u32,
        shared: u32,
        params: &[u8],
    ) -> Result<()> {
        let launch = Launch { function: function.handle, grid, threads, shared, params: params.to_vec() };
        if threads > 1024 || grid[1] > 65535 || grid[2] > 65535 || shared > 227 << 10 {
            return Err(Error::bug(format!("no GPU takes {grid:?} blocks of {threads} threads and {shared} bytes")));
        }
        let mut state = lock(&self.state);
        match &mut state.recording {
            Some(list) => list.push(launch),
            // SAFETY: the caller's promise.
            None => unsafe { run(&state, &launch) },
        }
        Ok(())
    }
}

/// The bytes of a C struct, put together field by field (the emulator's `TensorPath`).
fn path_bytes(path: &TensorPath) -> TensorMap {
    let mut p = crate::gpu::Params::new().ptr(path.base);
    let at = |list: &[usize], i: usize| list.get(i).copied().unwrap_or(1);
    for i in 0..4 {
        p = p.u32(at(&path.dims, i));
    }
    for i in 0..3 {
        p = p.i64(at(&path.strides, i) as i64);
    }
    let (mut rows, mut low, mut high, mut steps, mut pixels) = ([1; 3], [0; 2], [0; 2], [1; 2], 0);
    match &path.walk {
        Walk::Box(list) => rows[1..].iter_mut().zip(list).for_each(|(to, n)| *to = *n as i64),
        Walk::Windows { pixels: n, low: l, high: h, steps: s } => {
            (low, high, steps, pixels) = (*l, *h, s.map(|s| s as i64), *n as i64);
        }
    }
    let small = rows.into_iter().chain(low).chain(high).chain(steps).chain([pixels]);
    let mut bytes = p.finish();
    bytes.extend(small.flat_map(|x| (x as i16).to_le_bytes()));
    let mut map = [0; 128];
    map[..bytes.len()].copy_from_slice(&bytes);
    map
}

/// As aligned as a struct of parameters may want.
#[derive(Clone, Copy)]
#[repr(C, align(128))]
struct Words([u64; 16]);

/// # Safety
/// As [`Gpu::launch`].
unsafe fn run(state: &State, launch: &Launch) {
    /// A library holds the state of one launch, and all emulators of a process share it.
    static RUNNING: Mutex<()> = Mutex::new(());
    let _one = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    let (emulate, entry) = state.functions[launch.function as usize];
    // Structs of parameters are read at their alignment.
    let mut words = vec![Words([0; 16]); launch.params.len().div_ceil(128)];
    // SAFETY: the symbols have these types (see the emulator's text); the words have room for the bytes.
    unsafe {
        std::ptr::copy_nonoverlapping(launch.params.as_ptr(), words.as_mut_ptr().cast(), launch.params.len());
        let emulate: Run = std::mem::transmute::<usize, Run>(emulate);
        let entry: Entry = std::mem::transmute::<usize, Entry>(entry);
        emulate(entry, words.as_ptr().cast(), launch.grid.as_ptr(), launch.threads, launch.shared);
    }
}

/// The emulator's queue: work is done when it is queued.
struct Emulated {
    state: Arc<Mutex<State>>,
}

struct Launches(Vec<Launch>);

impl Recording for Launches {
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Queue for Emulated {
    fn handle(&self) -> *mut c_void {
        std::ptr::null_mut()
    }

    unsafe fn copy_in(&self, to: *mut u8, from: *const u8, bytes: usize) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { std::ptr::copy(from, to, bytes) };
        Ok(())
    }

    unsafe fn copy_out(&self, to: *mut u8, from: *const u8, bytes: usize) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { std::ptr::copy(from, to, bytes) };
        Ok(())
    }

    unsafe fn copy(&self, to: *mut u8, from: *const u8, bytes: usize) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { std::ptr::copy(from, to, bytes) };
        Ok(())
    }

    unsafe fn clear(&self, to: *mut u8, bytes: usize) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { std::ptr::write_bytes(to, 0, bytes) };
        Ok(())
    }

    fn synchronize(&self) -> Result<()> {
        Ok(())
    }

    fn record(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Box<dyn Recording>> {
        lock(&self.state).recording = Some(Vec::new());
        let done = work();
        let list = lock(&self.state).recording.take().unwrap_or_default();
        done?;
        Ok(Box::new(Launches(list)))
    }

    unsafe fn replay(&self, recording: &dyn Recording) -> Result<()> {
        let list = recording.as_any().downcast_ref::<Launches>();
        let list = list.ok_or_else(|| Error::bug("a recording of another device"))?;
        let state = lock(&self.state);
        // SAFETY: the caller's promise.
        list.0.iter().for_each(|launch| unsafe { run(&state, launch) });
        Ok(())
    }

    fn seconds(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<f64> {
        let start = std::time::Instant::now();
        work()?;
        Ok(start.elapsed().as_secs_f64())
    }
}
