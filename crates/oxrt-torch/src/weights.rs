//! Weights and constants: tensors over a storage that lies in the mapped file.

use crate::archive::{Archive, Span};
use crate::schema::{PayloadConfig, SymInt, TensorMeta, dtype_of};
use oxrt_tensor::{Context, DType, Error, Result, Tensor, bail, num_elements, strides_of};
use rustc_hash::FxHashMap;

/// Expanded tensors (stride 0) may be larger than their storage; beyond this they are refused.
const MAX_EXPANDED_BYTES: usize = 1 << 30;

/// Tensor of strided layout over the elements in `storage`.
///
/// Contiguous ones borrow the file. The others are copied into row-major order.
pub(crate) fn strided(
    archive: &Archive,
    storage: Span,
    dtype: DType,
    sizes: &[usize],
    strides: &[i64],
    offset: usize,
) -> Result<Tensor> {
    let Some(item) = dtype.size() else { bail!(unsupported, "weights of element type {dtype}") };
    if strides.len() != sizes.len() {
        bail!(invalid, "{} sizes but {} strides", sizes.len(), strides.len());
    }
    let count = num_elements(sizes)?;
    let start = offset.checked_mul(item).and_then(|x| x.checked_add(storage.start));
    let Some(start) = start else { bail!(invalid, "the storage offset {offset} is too large") };
    if count == 0 {
        return Ok(Tensor::zeros(dtype, sizes));
    }
    // The last element that is read must lie inside the storage.
    let mut last = offset as i128;
    for (&n, &s) in sizes.iter().zip(strides) {
        if s < 0 {
            bail!(invalid, "the stride {s} is negative");
        }
        last += (n as i128 - 1) * s as i128;
    }
    if (last + 1) * item as i128 > storage.len as i128 {
        bail!(
            invalid,
            "sizes {sizes:?} with strides {strides:?} from {offset} read element {last}, the storage has {}",
            storage.len / item
        );
    }
    // Strides of axes of size 1 are arbitrary.
    let row_major = strides_of(sizes);
    let contiguous = (sizes.iter().zip(strides).zip(&row_major)).all(|((&n, &s), &r)| n == 1 || s == r as i64);
    if contiguous {
        return Tensor::from_shared(dtype, sizes, archive.map().clone(), start);
    }
    let bytes = count * item;
    if bytes > storage.len && bytes > MAX_EXPANDED_BYTES {
        bail!(unsupported, "an expanded constant of shape {sizes:?} would take {bytes} bytes");
    }
    let source = archive.bytes(Span { start, len: storage.start + storage.len - start });
    let mut out = vec![0u8; bytes];
    gather(source, item, sizes, strides, &mut out);
    Tensor::from_bytes(dtype, sizes, &out)
}

fn gather(source: &[u8], item: usize, sizes: &[usize], strides: &[i64], out: &mut [u8]) {
    let (Some((&inner, outer)), Some(&step)) = (sizes.split_last(), strides.last()) else {
        out.copy_from_slice(&source[..item]);
        return;
    };
    let mut index = vec![0usize; outer.len()];
    for row in out.chunks_exact_mut(inner * item) {
        let base: usize = index.iter().zip(strides).map(|(&i, &s)| i * s as usize).sum();
        for (k, cell) in row.chunks_exact_mut(item).enumerate() {
            let at = (base + k * step as usize) * item;
            cell.copy_from_slice(&source[at..at + item]);
        }
        for axis in (0..outer.len()).rev() {
            index[axis] += 1;
            if index[axis] < outer[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
}

fn constant(size: &SymInt) -> Result<i64> {
    match size {
        SymInt::AsInt(x) => Ok(*x),
        SymInt::AsExpr(e) => bail!(invalid, "the size of a weight is not a number: {}", e.expr_str),
    }
}

/// The tensor that a meta describes over a storage.
pub(crate) fn from_meta(archive: &Archive, storage: Span, meta: &TensorMeta) -> Result<Tensor> {
    let Some(dtype) = dtype_of(meta.dtype) else { bail!(unsupported, "element type number {}", meta.dtype) };
    if meta.layout.is_some_and(|l| l != 7) {
        bail!(unsupported, "a sparse weight (layout {})", meta.layout.unwrap_or_default());
    }
    let sizes = (meta.sizes.iter())
        .map(|s| usize::try_from(constant(s)?).map_err(|_| Error::invalid("a negative size")))
        .collect::<Result<Vec<_>>>()?;
    let strides = meta.strides.iter().map(constant).collect::<Result<Vec<_>>>()?;
    let offset = meta.storage_offset.as_ref().map_or(Ok(0), constant)?;
    let offset = usize::try_from(offset).map_err(|_| Error::invalid("a negative storage offset"))?;
    strided(archive, storage, dtype, &sizes, &strides, offset)
}

/// Weights by name, read when asked for.
pub(crate) struct Weights {
    /// Folder of the storages and the config over them (torch ≥ 2.9).
    configs: Vec<(String, PayloadConfig)>,
    /// Already rebuilt tensors of older layouts.
    pub loaded: FxHashMap<String, Tensor>,
}

impl Weights {
    pub fn new() -> Weights {
        Weights { configs: Vec::new(), loaded: FxHashMap::default() }
    }

    pub fn add_config(&mut self, folder: String, config: PayloadConfig) {
        self.configs.push((folder, config));
    }

    pub fn get(&self, archive: &Archive, name: &str) -> Result<Tensor> {
        if let Some(t) = self.loaded.get(name) {
            return Ok(t.clone());
        }
        let found = self.configs.iter().find_map(|(folder, c)| c.config.get(name).map(|p| (folder, p)));
        let Some((folder, payload)) = found else {
            return Err(Error::invalid(format!("the file has no data for the weight `{name}`"))
                .help("save the program again with `torch.export.save`"));
        };
        let Some(meta) = payload.tensor_meta.as_ref().filter(|_| !payload.use_pickle) else {
            return Err(Error::unsupported(format!("the weight `{name}` is a pickled tensor subclass"))
                .help("save `ep.run_decompositions({})` instead, in which it is made of plain tensors"));
        };
        let path = format!("{folder}{}", payload.path_name);
        let span = archive.get(&path)?;
        from_meta(archive, span, meta).at(|| format!("weight `{name}` in `{path}`"))
    }
}
