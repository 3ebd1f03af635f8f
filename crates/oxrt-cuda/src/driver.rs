//! The CUDA driver and the run-time compiler, opened by name when they are first needed.

use crate::gpu::{Function, Gpu, TensorMap, TensorPath, Walk};
use cudarc::driver::sys::{self, CUresult};
use cudarc::nvrtc;
use oxrt_backend::{Device, Queue, Recording};
use oxrt_tensor::{Error, Result};
use std::any::Any;
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_int, c_void};
use std::mem::MaybeUninit;
use std::sync::{Arc, Mutex, Weak};

/// One GPU with its primary context.
pub struct Cuda {
    context: sys::CUcontext,
    arch: u32,
    name: String,
    processors: u32,
    /// For queues, which outlive nobody.
    me: Weak<Cuda>,
    /// Modules, and whether their kernels wait for those before them.
    modules: Mutex<HashMap<usize, bool>>,
    /// Whether recordings keep the overlap of kernels that follow each other.
    overlaps: bool,
    pub(crate) libraries: crate::libraries::Libraries,
}

// SAFETY: handles of the driver may be used from all threads; each call makes the context current first.
unsafe impl Send for Cuda {}
// SAFETY: as above.
unsafe impl Sync for Cuda {}

/// The first driver whose recordings keep programmatic dependences (CUDA 12.4).
const OVERLAP_SINCE: c_int = 12040;

/// Turns the driver's answer into an error that says what was tried.
fn check(result: CUresult, what: &str) -> Result<()> {
    if result == CUresult::CUDA_SUCCESS {
        return Ok(());
    }
    let mut text = std::ptr::null();
    // SAFETY: the driver gives a static string, or nothing.
    let said = unsafe {
        match sys::cuGetErrorString(result, &mut text) {
            CUresult::CUDA_SUCCESS if !text.is_null() => CStr::from_ptr(text).to_string_lossy().into_owned(),
            _ => format!("{result:?}"),
        }
    };
    Err(Error::invalid(format!("CUDA: {what}: {said}")))
}

impl Cuda {
    /// GPU number `ordinal`.
    ///
    /// # Errors
    /// Names what is missing, and where it was looked for.
    pub fn open(ordinal: usize) -> Result<Arc<Cuda>> {
        // SAFETY: opens the library, or does not.
        if !unsafe { sys::is_culib_present() } {
            return Err(Error::unsupported("no CUDA driver: `libcuda.so` was not found in the library path").help(
                "install the NVIDIA driver (in a container: start it with `--gpus all`), or use `--device cpu`",
            ));
        }
        // SAFETY: plain calls of the driver with valid out pointers.
        unsafe {
            check(sys::cuInit(0), "starting the driver")?;
            let mut count = 0;
            check(sys::cuDeviceGetCount(&mut count), "counting devices")?;
            if count as usize <= ordinal {
                return Err(Error::unsupported(format!("there is no CUDA device {ordinal}: the driver sees {count}"))
                    .help("look at `nvidia-smi` and CUDA_VISIBLE_DEVICES, or use `--device cpu`"));
            }
            let mut device = 0;
            check(sys::cuDeviceGet(&mut device, ordinal as c_int), "opening the device")?;
            let attribute = |a| -> Result<i32> {
                let mut x = 0;
                check(sys::cuDeviceGetAttribute(&mut x, a, device), "reading an attribute")?;
                Ok(x)
            };
            use sys::CUdevice_attribute::*;
            let major = attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
            let minor = attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
            let processors = attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)? as u32;
            let arch = (major * 10 + minor) as u32;
            if arch < 80 {
                return Err(Error::unsupported(format!("compute capability {major}.{minor} of CUDA device {ordinal}"))
                    .help("the kernels need 8.0 (Ampere) or newer; use `--device cpu`"));
            }
            let mut name = [0 as std::ffi::c_char; 256];
            check(sys::cuDeviceGetName(name.as_mut_ptr(), 256, device), "reading the name")?;
            let name = CStr::from_ptr(name.as_ptr()).to_string_lossy().into_owned();
            let mut context = std::ptr::null_mut();
            check(sys::cuDevicePrimaryCtxRetain(&mut context, device), "making a context")?;
            let mut version = 0;
            check(sys::cuDriverGetVersion(&mut version), "asking for the driver's version")?;
            let overlaps = arch >= 90 && version >= OVERLAP_SINCE;
            let modules = Mutex::default();
            let libraries = Default::default();
            let me = |me: &Weak<Cuda>| Cuda {
                context,
                arch,
                name,
                processors,
                me: me.clone(),
                modules,
                overlaps,
                libraries,
            };
            Ok(Arc::new_cyclic(me))
        }
    }

    /// Installed libraries whose kernels compete when engines are built, in words.
    pub fn libraries(&self) -> Vec<String> {
        let blas = self.enter().is_ok() && self.libraries.has_matmul();
        let cudnn = self.libraries.cudnn.version().map(|v| format!("cuDNN {v}"));
        blas.then(|| "cuBLASLt".to_string()).into_iter().chain(cudnn).collect()
    }

    /// Makes the context the thread's own, as the driver wants it before each call.
    pub(crate) fn enter(&self) -> Result<()> {
        // SAFETY: the context lives as long as the process.
        check(unsafe { sys::cuCtxSetCurrent(self.context) }, "entering the context")
    }
}

impl Device for Cuda {
    fn alloc(&self, bytes: usize) -> Result<*mut u8> {
        self.enter()?;
        let mut ptr = 0;
        // SAFETY: a valid out pointer.
        check(unsafe { sys::cuMemAlloc_v2(&mut ptr, bytes) }, &format!("allocating {bytes} bytes on the device"))?;
        Ok(ptr as *mut u8)
    }

    fn alloc_host(&self, bytes: usize) -> Result<*mut u8> {
        self.enter()?;
        let mut ptr: *mut c_void = std::ptr::null_mut();
        // SAFETY: a valid out pointer.
        check(unsafe { sys::cuMemAllocHost_v2(&mut ptr, bytes) }, &format!("allocating {bytes} pinned bytes"))?;
        Ok(ptr.cast())
    }

    unsafe fn free(&self, ptr: *mut u8) {
        if self.enter().is_ok() {
            // SAFETY: the caller's promise.
            unsafe { sys::cuMemFree_v2(ptr as u64) };
        }
    }

    unsafe fn free_host(&self, ptr: *mut u8) {
        if self.enter().is_ok() {
            // SAFETY: the caller's promise.
            unsafe { sys::cuMemFreeHost(ptr.cast()) };
        }
    }

    fn queue(&self) -> Result<Box<dyn Queue>> {
        self.enter()?;
        let gpu = self.me.upgrade().ok_or_else(|| Error::bug("a device that is going away"))?;
        let mut stream = std::ptr::null_mut();
        let mut events = [std::ptr::null_mut(); 2];
        // SAFETY: valid out pointers.
        unsafe {
            let flags = sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
            check(sys::cuStreamCreate(&mut stream, flags), "making a stream")?;
            for e in &mut events {
                check(sys::cuEventCreate(e, 0), "making an event")?;
            }
        }
        Ok(Box::new(Stream { gpu, stream, events }))
    }
}

impl Gpu for Cuda {
    fn arch(&self) -> u32 {
        self.arch
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    fn processors(&self) -> u32 {
        self.processors
    }

    fn compile(&self, text: &str) -> Result<Vec<u8>> {
        compile(text, self.arch)
    }

    fn load(&self, code: &[u8]) -> Result<u64> {
        self.enter()?;
        let code = Code::read(code)?;
        let image = code.for_arch(self.arch)?;
        let mut module = std::ptr::null_mut();
        // SAFETY: the image is machine code or null-terminated PTX, as the compiler gave it.
        let result = unsafe { sys::cuModuleLoadData(&mut module, image.as_ptr().cast()) };
        check(result, "loading a kernel")?;
        // What was compiled for an older GPU waits for nothing.
        let mut modules = self.modules.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        modules.insert(module as usize, code.arch >= 90);
        Ok(module as u64)
    }

    fn function(&self, module: u64, name: &str, shared: u32) -> Result<Function> {
        self.enter()?;
        let c_name = CString::new(name).map_err(|_| Error::bug("a kernel's name with a zero"))?;
        let mut function = std::ptr::null_mut();
        // SAFETY: the module was loaded and is never unloaded.
        unsafe {
            let result = sys::cuModuleGetFunction(&mut function, module as sys::CUmodule, c_name.as_ptr());
            check(result, &format!("finding the kernel `{name}`"))?;
            // Static shared memory counts as well.
            if shared > 40 << 10 {
                let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
                let what = format!("giving {shared} bytes of shared memory to `{name}`");
                check(sys::cuFuncSetAttribute(function, attribute, shared as c_int), &what)?;
            }
        }
        let modules = self.modules.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let waits = modules.get(&(module as usize)).copied().unwrap_or(false);
        Ok(Function { handle: function as u64, waits: waits && self.overlaps })
    }

    unsafe fn launch(
        &self,
        queue: *mut c_void,
        function: Function,
        grid: [u32; 3],
        threads: u32,
        shared: u32,
        params: &[u8],
    ) -> Result<()> {
        let mut list = [params.as_ptr().cast_mut().cast::<c_void>()];
        let mut early = sys::CUlaunchAttribute {
            id: sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
            pad: [0; 4],
            value: sys::CUlaunchAttributeValue { programmaticStreamSerializationAllowed: 1 },
        };
        let config = sys::CUlaunchConfig {
            gridDimX: grid[0],
            gridDimY: grid[1],
            gridDimZ: grid[2],
            blockDimX: threads,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: shared,
            hStream: queue.cast(),
            attrs: &mut early,
            numAttrs: u32::from(function.waits),
        };
        let kernel = function.handle as sys::CUfunction;
        // SAFETY: the kernel takes one struct, of which these are the bytes; the driver copies them.
        let result = unsafe { sys::cuLaunchKernelEx(&config, kernel, list.as_mut_ptr(), std::ptr::null_mut()) };
        let what = || format!("launching {grid:?} blocks of {threads} threads with {shared} bytes of shared memory");
        if result == CUresult::CUDA_SUCCESS { Ok(()) } else { check(result, &what()) }
    }

    fn tensor_map(&self, path: &TensorPath) -> Result<TensorMap> {
        self.enter()?;
        let mut map = sys::CUtensorMap_st { opaque: [0; 16] };
        let base = path.base.cast_mut().cast();
        let (ty, rank) = (sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_UINT16, path.dims.len() as u32);
        let dims: Vec<u64> = path.dims.iter().map(|&n| n as u64).collect();
        let strides: Vec<u64> = path.strides.iter().map(|&n| n as u64).collect();
        let plain = sys::CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE;
        let swizzle = sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_128B;
        let promotion = sys::CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_128B;
        let zeros = sys::CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE;
        // SAFETY: the lists have as many entries as the rank says; the driver checks their contents.
        let result = unsafe {
            match &path.walk {
                Walk::Box(rows) => {
                    let sizes: Vec<u32> = std::iter::once(64).chain(rows.iter().map(|&n| n as u32)).collect();
                    let ones = [1u32; 5];
                    sys::cuTensorMapEncodeTiled(
                        &mut map,
                        ty,
                        rank,
                        base,
                        dims.as_ptr(),
                        strides.as_ptr(),
                        sizes.as_ptr(),
                        ones.as_ptr(),
                        plain,
                        swizzle,
                        promotion,
                        zeros,
                    )
                }
                Walk::Windows { pixels, low, high, steps } => {
                    let corner = |c: &[i64; 2]| c.map(|x| x as c_int);
                    let (low, high) = (corner(low), corner(high));
                    let steps = [1, steps[0] as u32, steps[1] as u32, 1];
                    sys::cuTensorMapEncodeIm2col(
                        &mut map,
                        ty,
                        rank,
                        base,
                        dims.as_ptr(),
                        strides.as_ptr(),
                        low.as_ptr(),
                        high.as_ptr(),
                        64,
                        *pixels as u32,
                        steps.as_ptr(),
                        plain,
                        swizzle,
                        promotion,
                        zeros,
                    )
                }
            }
        };
        check(result, &format!("preparing copies of {path:?}"))?;
        let mut bytes = [0u8; 128];
        for (to, word) in bytes.chunks_exact_mut(8).zip(map.opaque) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        Ok(bytes)
    }

    fn as_cuda(&self) -> Option<&Cuda> {
        Some(self)
    }
}

/// A stream, with events to time by.
struct Stream {
    gpu: Arc<Cuda>,
    stream: sys::CUstream,
    events: [sys::CUevent; 2],
}

// SAFETY: the driver's handles may be used from all threads.
unsafe impl Send for Stream {}
// SAFETY: as above.
unsafe impl Sync for Stream {}

impl Queue for Stream {
    fn handle(&self) -> *mut c_void {
        self.stream.cast()
    }

    unsafe fn copy_in(&self, to: *mut u8, from: *const u8, bytes: usize) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        self.gpu.enter()?;
        // SAFETY: the caller's promise.
        check(unsafe { sys::cuMemcpyHtoDAsync_v2(to as u64, from.cast(), bytes, self.stream) }, "copying to the device")
    }

    unsafe fn copy_out(&self, to: *mut u8, from: *const u8, bytes: usize) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        self.gpu.enter()?;
        // SAFETY: the caller's promise.
        let result = unsafe { sys::cuMemcpyDtoHAsync_v2(to.cast(), from as u64, bytes, self.stream) };
        check(result, "copying from the device")
    }

    unsafe fn copy(&self, to: *mut u8, from: *const u8, bytes: usize) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        self.gpu.enter()?;
        // SAFETY: the caller's promise.
        let result = unsafe { sys::cuMemcpyDtoDAsync_v2(to as u64, from as u64, bytes, self.stream) };
        check(result, "copying on the device")
    }

    unsafe fn clear(&self, to: *mut u8, bytes: usize) -> Result<()> {
        self.gpu.enter()?;
        // SAFETY: the caller's promise.
        check(unsafe { sys::cuMemsetD8Async(to as u64, 0, bytes, self.stream) }, "clearing memory")
    }

    fn synchronize(&self) -> Result<()> {
        self.gpu.enter()?;
        // SAFETY: a valid stream.
        check(unsafe { sys::cuStreamSynchronize(self.stream) }, "waiting for the device")
    }

    fn record(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Box<dyn Recording>> {
        self.gpu.enter()?;
        // SAFETY: a valid stream; the graph is destroyed once it is instantiated.
        unsafe {
            let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
            check(sys::cuStreamBeginCapture_v2(self.stream, mode), "recording")?;
            let done = work();
            let mut graph = std::ptr::null_mut();
            let ended = check(sys::cuStreamEndCapture(self.stream, &mut graph), "ending a recording");
            done?;
            ended?;
            let mut ready = std::ptr::null_mut();
            let made = check(sys::cuGraphInstantiateWithFlags(&mut ready, graph, 0), "making a graph of a recording");
            sys::cuGraphDestroy(graph);
            made?;
            Ok(Box::new(Graph { gpu: self.gpu.clone(), ready }))
        }
    }

    unsafe fn replay(&self, recording: &dyn Recording) -> Result<()> {
        self.gpu.enter()?;
        let graph = recording.as_any().downcast_ref::<Graph>();
        let graph = graph.ok_or_else(|| Error::bug("a recording of another device"))?;
        // SAFETY: the caller's promise.
        check(unsafe { sys::cuGraphLaunch(graph.ready, self.stream) }, "replaying a recording")
    }

    fn seconds(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<f64> {
        self.gpu.enter()?;
        let mut ms = 0f32;
        // SAFETY: valid handles and out pointers.
        unsafe {
            check(sys::cuEventRecord(self.events[0], self.stream), "timing")?;
            work()?;
            check(sys::cuEventRecord(self.events[1], self.stream), "timing")?;
            check(sys::cuEventSynchronize(self.events[1]), "waiting for the device")?;
            check(sys::cuEventElapsedTime_v2(&mut ms, self.events[0], self.events[1]), "timing")?;
        }
        Ok(f64::from(ms) / 1e3)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.gpu.enter().is_ok() {
            // SAFETY: nobody else has the handles.
            unsafe {
                sys::cuStreamSynchronize(self.stream);
                self.events.iter().for_each(|&e| {
                    sys::cuEventDestroy_v2(e);
                });
                sys::cuStreamDestroy_v2(self.stream);
            }
        }
    }
}

struct Graph {
    gpu: Arc<Cuda>,
    ready: sys::CUgraphExec,
}

// SAFETY: the driver's handles may be used from all threads.
unsafe impl Send for Graph {}
// SAFETY: as above.
unsafe impl Sync for Graph {}

impl Recording for Graph {
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        if self.gpu.enter().is_ok() {
            // SAFETY: nobody else has the handle.
            unsafe { sys::cuGraphExecDestroy(self.ready) };
        }
    }
}

/// Compiled code: machine code of one architecture, and PTX that newer ones can take.
///
/// Layout: architecture (u32), length of the machine code (u32), machine code, PTX with its terminating zero.
pub(crate) struct Code<'a> {
    arch: u32,
    machine: &'a [u8],
    ptx: &'a [u8],
}

impl<'a> Code<'a> {
    fn write(arch: u32, machine: &[u8], ptx: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(8 + machine.len() + ptx.len());
        out.extend(arch.to_le_bytes());
        out.extend((machine.len() as u32).to_le_bytes());
        out.extend(machine);
        out.extend(ptx);
        out
    }

    pub fn read(bytes: &'a [u8]) -> Result<Code<'a>> {
        let bad = || Error::invalid("the engine's kernel code is damaged");
        let word = |at: usize| -> Result<u32> {
            let b = bytes.get(at..at + 4).ok_or_else(bad)?;
            Ok(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        };
        let (arch, len) = (word(0)?, word(4)? as usize);
        let machine = bytes.get(8..8 + len).ok_or_else(bad)?;
        let ptx = &bytes[8 + len..];
        if ptx.last() != Some(&0) {
            return Err(bad());
        }
        Ok(Code { arch, machine, ptx })
    }

    /// What a GPU of an architecture loads.
    fn for_arch(&self, arch: u32) -> Result<&'a [u8]> {
        // Machine code runs on later GPUs of the same generation, PTX on all later ones.
        if arch == self.arch || (arch / 10 == self.arch / 10 && arch > self.arch && self.ptx.len() > 1) {
            return Ok(self.machine);
        }
        if arch > self.arch && self.ptx.len() > 1 {
            return Ok(self.ptx);
        }
        Err(Error::unsupported(format!(
            "the engine was built for compute capability {}.{}, this GPU has {}.{}",
            self.arch / 10,
            self.arch % 10,
            arch / 10,
            arch % 10
        ))
        .help("build it on this GPU, or on an older one: `oxrt build MODEL --device cuda -o FILE.engine`"))
    }
}

/// Whether a text uses instructions that only compute capability 9.0 has.
pub(crate) fn needs_hopper(text: &str) -> bool {
    text.contains("wgmma.mma_async")
}

/// Compiles a kernel text with NVRTC for a compute capability; needs no GPU.
///
/// # Errors
/// When the compiler is not there, or finds fault with the text.
pub fn compile(text: &str, arch: u32) -> Result<Vec<u8>> {
    // SAFETY: opens the library, or does not.
    if !unsafe { nvrtc::sys::is_culib_present() } {
        return Err(Error::unsupported("no run-time compiler: `libnvrtc.so` was not found in the library path").help(
            "install the CUDA toolkit or its NVRTC package and name its folder in LD_LIBRARY_PATH; running an engine needs the driver alone",
        ));
    }
    let source = CString::new(text).map_err(|_| Error::bug("a kernel text with a zero"))?;
    let failed = |e: nvrtc::result::NvrtcError| Error::invalid(format!("NVRTC: {e}"));
    let program = nvrtc::result::create_program(&source, None).map_err(failed)?;
    let hopper = needs_hopper(text);
    let options = [
        format!("--gpu-architecture=sm_{arch}{}", if hopper { "a" } else { "" }),
        "--std=c++17".into(),
        "-default-device".into(),
        "--extra-device-vectorization".into(),
    ];
    // SAFETY: the program lives until it is destroyed below; buffers have the sizes that NVRTC states.
    unsafe {
        let result = (|| {
            if let Err(e) = nvrtc::result::compile_program(program, &options) {
                let log = nvrtc::result::get_program_log(program).map_err(failed)?;
                let log: Vec<u8> = log.iter().map(|&c| c as u8).take_while(|&c| c != 0).collect();
                return Err(Error::bug(format!("a kernel does not compile ({e}):\n{}", String::from_utf8_lossy(&log))));
            }
            let ptx: Vec<u8> = nvrtc::result::get_ptx(program).map_err(failed)?.into_iter().map(|c| c as u8).collect();
            let mut size = MaybeUninit::uninit();
            nvrtc::sys::nvrtcGetCUBINSize(program, size.as_mut_ptr()).result().map_err(failed)?;
            let mut machine = vec![0u8; size.assume_init()];
            nvrtc::sys::nvrtcGetCUBIN(program, machine.as_mut_ptr().cast()).result().map_err(failed)?;
            // Such texts run nowhere else, as PTX neither.
            Ok(Code::write(arch, &machine, if hopper { &[0] } else { &ptx }))
        })();
        let _ = nvrtc::result::destroy_program(program);
        result
    }
}
