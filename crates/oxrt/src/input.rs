//! Inputs from files: pictures, `.npy`, `.npz`, raw bytes; and outputs to files.

use crate::engine::Port;
use oxrt_tensor::image::{Layout, is_image, read_image, write_image};
use oxrt_tensor::{Context, DType, Error, Result, Tensor, bail, npy};
use std::path::Path;

/// Reads the tensor for an input from a file: a picture, `.npy`, or `.npz` (`file.npz:name` picks one).
///
/// # Errors
/// Unreadable files; a picture for an input that cannot take one.
pub fn load(port: &Port, spec: &str) -> Result<Tensor> {
    let (file, member) = match spec.rsplit_once(".npz:") {
        Some((stem, name)) => (format!("{stem}.npz"), Some(name)),
        None => (spec.to_string(), None),
    };
    let path = Path::new(&file);
    let ext = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    match ext.as_str() {
        "npy" => npy::read_npy(path),
        "npz" => {
            let mut arrays = npy::read_npz(path)?;
            let name = member.unwrap_or(&port.name);
            let names: Vec<String> = arrays.keys().cloned().collect();
            arrays.remove(name).ok_or_else(|| {
                Error::invalid(format!("{file} has no array `{name}`; it has {}", names.join(", ")))
                    .help(format!("pick one with `--in {}={file}:NAME`", port.name))
            })
        }
        _ if is_image(path) => picture(port, path),
        _ => Err(Error::invalid(format!("{file}: not a kind of file that can be an input"))
            .help("give a picture (.png, .jpg, .bmp), a .npy or a .npz file")),
    }
}

fn picture(port: &Port, path: &Path) -> Result<Tensor> {
    let place = || format!("input `{}` {}", port.name, port.ty);
    let (Some(dtype), Some(dims)) = (port.ty.dtype(), port.ty.dims()) else {
        return Err(Error::invalid("a picture for an input of unknown type")).at(place);
    };
    let channels = |i: usize| dims.get(i).and_then(oxrt_ir::Dim::as_size).filter(|c| matches!(c, 1 | 3 | 4));
    let (layout, c, squeeze) = match dims.len() {
        4 => match (channels(1), channels(3)) {
            (Some(c), _) => (Layout::Nchw, c, false),
            (None, Some(c)) => (Layout::Nhwc, c, false),
            (None, None) => return Err(Error::invalid("a picture needs an axis of 1, 3 or 4 channels")).at(place),
        },
        3 => match (channels(0), channels(2)) {
            (Some(c), _) => (Layout::Nchw, c, true),
            (None, Some(c)) => (Layout::Nhwc, c, true),
            (None, None) => return Err(Error::invalid("a picture needs an axis of 1, 3 or 4 channels")).at(place),
        },
        r => return Err(Error::invalid(format!("a picture cannot fill a tensor of rank {r}"))).at(place),
    };
    let t = read_image(path, c, layout, dtype)?;
    if squeeze { t.reshaped(&t.shape()[1..]) } else { Ok(t) }
}

/// Writes an output by the extension of the path: a picture or `.npy`.
pub fn save(path: &Path, t: &Tensor) -> Result<()> {
    match path.extension().and_then(|e| e.to_str()).unwrap_or_default() {
        "npy" => npy::write_npy(path, t),
        _ if is_image(path) => write_image(path, t),
        ext => bail!(invalid, "{}: outputs are written as .npy, .npz or a picture, not `.{ext}`", path.display()),
    }
}

/// Converts numbers to the type that an input takes, when nothing is lost by it (integers to other
/// integers, floats to other floats): `.npz` files of scripts often hold the wider type.
pub fn convert(t: Tensor, port: &Port) -> Result<Tensor> {
    let Some(want) = port.ty.dtype().filter(|w| *w != t.dtype()) else { return Ok(t) };
    let both = |f: fn(DType) -> bool| f(want) && f(t.dtype());
    if both(DType::is_int) {
        let values = t.to_i64_vec()?;
        let narrow = Tensor::from_i64(want, t.shape(), &values)?;
        if narrow.to_i64_vec()? == values {
            return Ok(narrow);
        }
        bail!(invalid, "input `{}` takes {want}; the data is {} and does not fit", port.name, t.dtype());
    }
    if both(DType::is_float) {
        return Tensor::from_f64(want, t.shape(), &t.to_f64_vec()?);
    }
    Ok(t)
}
