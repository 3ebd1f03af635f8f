//! NVIDIA's libraries, where they are installed: candidates beside our own kernels.

pub mod cudnn;

use crate::gpu::Gpu;
use cudarc::cublaslt::{result, sys};
use oxrt_tensor::{DType, Error, Result};
use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// What was opened so far.
#[derive(Default)]
pub struct Libraries {
    matmul: OnceLock<Option<Arc<Handle>>>,
    /// A first product was done, or tried.
    opened: OnceLock<()>,
    /// What the library chose for products of these sizes: it takes its time to.
    choices: Mutex<HashMap<Choice, (sys::cublasLtMatmulAlgo_t, usize)>>,
    pub cudnn: cudnn::Cudnn,
}

/// Rows that were chosen for, n, k, pitch, type, bias, relu.
type Choice = ([usize; 4], DType, bool, bool);

struct Handle(sys::cublasLtHandle_t);

// SAFETY: cuBLASLt's handle may be used from all threads.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Libraries {
    /// cuBLASLt, when it is installed. The thread has entered the GPU's context.
    fn matmul(&self) -> Option<Arc<Handle>> {
        let open = || {
            // SAFETY: opens the library, or does not.
            let there = unsafe { sys::is_culib_present() };
            there.then(|| result::create_handle().ok()).flatten().map(|h| Arc::new(Handle(h)))
        };
        self.matmul.get_or_init(open).clone()
    }

    /// Opens cuBLASLt and does a first product, once: the library loads its kernels when it is first used, which takes longer
    /// than the first run of an engine may. Whoever needs the library later says what is wrong with it.
    pub fn open(&self, gpu: &dyn Gpu) {
        self.opened.get_or_init(|| _ = self.first_product(gpu));
    }

    fn first_product(&self, gpu: &dyn Gpu) -> Result<()> {
        gpu.as_cuda().ok_or_else(|| Error::unsupported("cuBLASLt without a GPU"))?.enter()?;
        let (n, bytes) = (64, 64 * 64 * 2);
        let spec = ProductSpec {
            m: n,
            chosen_for: n,
            n,
            k: n,
            pitch: n,
            of: DType::F16,
            bias: false,
            bias_ptr: std::ptr::null(),
            relu: false,
        };
        let product = self.product(&spec)?;
        let queue = gpu.queue()?;
        let memory = gpu.alloc(3 * bytes + product.workspace())?;
        let at = |i: usize| memory.wrapping_add(i * bytes);
        // SAFETY: the memory holds two operands, the result and the scratch memory; it is given back when the queue is done.
        unsafe {
            let ran = product.run(queue.handle(), at(0), at(1), std::ptr::null(), at(2), at(3));
            let done = ran.and(queue.synchronize());
            gpu.free(memory);
            done
        }
    }

    /// Whether cuBLASLt is there.
    pub fn has_matmul(&self) -> bool {
        self.matmul().is_some()
    }

    /// y[m][n] = act(x[m][k] · w[n][k]ᵀ + bias + residual), all of one type of 16 bits, or in single precision of which
    /// factors count with 11 bits; sums in single precision.
    ///
    /// # Errors
    /// When the library has no kernel for it.
    pub fn product(&self, spec: &ProductSpec) -> Result<LibraryProduct> {
        let handle = self.matmul().ok_or_else(|| {
            Error::unsupported("the engine uses cuBLASLt, and `libcublasLt.so` is not in the library path")
                .help("install it, or build the engine with `--self-contained`")
        })?;
        let failed = |e: result::CublasError| Error::unsupported(format!("cuBLASLt: {e}"));
        let data = match spec.of {
            DType::F16 => sys::cudaDataType::CUDA_R_16F,
            DType::F32 => sys::cudaDataType::CUDA_R_32F,
            _ => sys::cudaDataType::CUDA_R_16BF,
        };
        let how = match spec.of {
            DType::F32 => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32,
            _ => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
        };
        let desc = result::create_matmul_desc(how, sys::cudaDataType::CUDA_R_32F).map_err(failed)?;
        // The library counts by columns: yᵀ = w · xᵀ.
        let layout = |rows: usize, columns: usize, ld: usize| {
            let made = result::create_matrix_layout(data, rows as u64, columns as u64, ld as i64);
            made.map(Layout).map_err(failed)
        };
        let w = layout(spec.k, spec.n, spec.pitch)?;
        let x = layout(spec.k, spec.m, spec.k)?;
        let y = layout(spec.n, spec.m, spec.n)?;
        let desc = Description(desc);
        let set = |attribute, value: &[u8]| {
            // SAFETY: the description is alive, the value has the size that is stated.
            unsafe { result::set_matmul_desc_attribute(desc.0, attribute, value.as_ptr().cast(), value.len()) }
                .map_err(failed)
        };
        use sys::cublasLtEpilogue_t::*;
        use sys::cublasLtMatmulDescAttributes_t::*;
        set(CUBLASLT_MATMUL_DESC_TRANSA, &TRANSPOSED.to_le_bytes())?;
        let epilogue = match (spec.bias, spec.relu) {
            (true, true) => CUBLASLT_EPILOGUE_RELU_BIAS,
            (true, false) => CUBLASLT_EPILOGUE_BIAS,
            (false, true) => CUBLASLT_EPILOGUE_RELU,
            (false, false) => CUBLASLT_EPILOGUE_DEFAULT,
        };
        set(CUBLASLT_MATMUL_DESC_EPILOGUE, &(epilogue as u32).to_le_bytes())?;
        if spec.bias {
            set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, &(spec.bias_ptr as u64).to_le_bytes())?;
        }
        let choose = |rows: usize, x: &Layout, y: &Layout| -> Result<(sys::cublasLtMatmulAlgo_t, usize)> {
            let key: Choice = ([rows, spec.n, spec.k, spec.pitch], spec.of, spec.bias, spec.relu);
            let mut choices = self.choices.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(&choice) = choices.get(&key) {
                return Ok(choice);
            }
            let most = WORKSPACE as u64;
            let preference = result::create_matmul_pref().map_err(failed)?;
            // SAFETY: all descriptions are alive; the value has the size that is stated.
            let found = unsafe {
                let attribute = sys::cublasLtMatmulPreferenceAttributes_t::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
                let set = result::set_matmul_pref_attribute(preference, attribute, (&raw const most).cast(), 8);
                let ask = || result::get_matmul_algo_heuristic(handle.0, desc.0, w.0, x.0, y.0, y.0, preference);
                let found = set.and_then(|()| ask());
                let _ = result::destroy_matmul_pref(preference);
                found.map_err(failed)?
            };
            if choices.len() >= MOST_CHOICES {
                choices.clear();
            }
            choices.insert(key, (found.algo, found.workspaceSize));
            Ok((found.algo, found.workspaceSize))
        };
        let (mut algorithm, mut workspace) = if spec.chosen_for == spec.m {
            choose(spec.m, &x, &y)?
        } else {
            let rows = spec.chosen_for;
            choose(rows, &layout(spec.k, rows, spec.k)?, &layout(spec.n, rows, spec.n)?)?
        };
        if spec.chosen_for != spec.m {
            // SAFETY: zero is a result of which nothing was asked yet; all descriptions are alive.
            let fits = unsafe {
                let mut checked: sys::cublasLtMatmulHeuristicResult_t = std::mem::zeroed();
                let status =
                    sys::cublasLtMatmulAlgoCheck(handle.0, desc.0, w.0, x.0, y.0, y.0, &algorithm, &mut checked);
                let good = sys::cublasStatus_t::CUBLAS_STATUS_SUCCESS;
                (status == good && checked.state == good && checked.workspaceSize <= WORKSPACE)
                    .then_some(checked.workspaceSize)
            };
            match fits {
                Some(bytes) => workspace = bytes,
                None => (algorithm, workspace) = choose(spec.m, &x, &y)?,
            }
        }
        Ok(LibraryProduct { handle, desc, w, x, y, algorithm, workspace })
    }
}

/// Shape of a matrix.
struct Layout(sys::cublasLtMatrixLayout_t);

impl Drop for Layout {
    fn drop(&mut self) {
        // SAFETY: nobody else has it.
        let _ = unsafe { result::destroy_matrix_layout(self.0) };
    }
}

/// Description of a product.
struct Description(sys::cublasLtMatmulDesc_t);

impl Drop for Description {
    fn drop(&mut self) {
        // SAFETY: nobody else has it.
        let _ = unsafe { result::destroy_matmul_desc(self.0) };
    }
}

/// `CUBLAS_OP_T`.
const TRANSPOSED: u32 = 1;
/// Choices that are kept.
const MOST_CHOICES: usize = 4096;
/// Most bytes of scratch memory that the library may ask for.
const WORKSPACE: usize = 32 << 20;

/// A product as [`Libraries::product`] does it.
pub struct ProductSpec {
    pub m: usize,
    /// Rows that the library chooses its kernel for: for every other number it chooses another, and loads it, which takes it
    /// milliseconds.
    pub chosen_for: usize,
    pub n: usize,
    pub k: usize,
    /// Distance of rows of w.
    pub pitch: usize,
    pub of: DType,
    pub bias: bool,
    /// Where the bias lies on the device.
    pub bias_ptr: *const u8,
    pub relu: bool,
}

/// A product of the library with fixed sizes.
pub struct LibraryProduct {
    handle: Arc<Handle>,
    desc: Description,
    w: Layout,
    x: Layout,
    y: Layout,
    algorithm: sys::cublasLtMatmulAlgo_t,
    workspace: usize,
}

// SAFETY: descriptions are not changed once they are made.
unsafe impl Send for LibraryProduct {}
// SAFETY: as above.
unsafe impl Sync for LibraryProduct {}

impl LibraryProduct {
    pub fn workspace(&self) -> usize {
        self.workspace
    }

    /// # Safety
    /// Pointers lead to operands of the sizes of the spec; `residual` may be null.
    pub unsafe fn run(
        &self,
        queue: *mut c_void,
        x: *const u8,
        w: *const u8,
        residual: *const u8,
        y: *mut u8,
        workspace: *mut u8,
    ) -> Result<()> {
        let (one, beta) = (1f32, if residual.is_null() { 0f32 } else { 1f32 });
        let c = if residual.is_null() { y.cast_const() } else { residual };
        // SAFETY: the caller's promise.
        let done = unsafe {
            result::matmul(
                self.handle.0,
                self.desc.0,
                (&raw const one).cast(),
                (&raw const beta).cast(),
                w.cast(),
                self.w.0,
                x.cast(),
                self.x.0,
                c.cast(),
                self.y.0,
                y.cast(),
                self.y.0,
                &self.algorithm,
                workspace.cast(),
                self.workspace,
                queue.cast(),
            )
        };
        done.map_err(|e| Error::invalid(format!("cuBLASLt: {e}")))
    }
}
