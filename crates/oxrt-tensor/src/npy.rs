//! `.npy` and `.npz` files. Format: numpy's NEP 1 (`numpy.lib.format`), versions 1 to 3.

use crate::{Context, DType, Error, Result, Tensor, bail, num_elements, write_atomically};
use std::collections::BTreeMap;
use std::io::{Read, Seek, Write};
use std::path::Path;

const MAGIC: &[u8] = b"\x93NUMPY";

/// Element types that numpy has a name for.
const NAMES: &[(&str, DType)] = &[
    ("f8", DType::F64),
    ("f4", DType::F32),
    ("f2", DType::F16),
    ("i8", DType::I64),
    ("i4", DType::I32),
    ("i2", DType::I16),
    ("i1", DType::I8),
    ("u8", DType::U64),
    ("u4", DType::U32),
    ("u2", DType::U16),
    ("u1", DType::U8),
    ("b1", DType::Bool),
    ("c8", DType::C64),
    ("c16", DType::C128),
];

/// Reads one array.
pub fn read_npy(path: &Path) -> Result<Tensor> {
    let bytes = std::fs::read(path).at(|| path.display())?;
    parse(&bytes).at(|| path.display())
}

/// Reads all arrays of an archive, by name without `.npy`.
pub fn read_npz(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let file = std::fs::File::open(path).at(|| path.display())?;
    npz_from(std::io::BufReader::new(file)).at(|| path.display())
}

fn npz_from(reader: impl Read + Seek) -> Result<BTreeMap<String, Tensor>> {
    let zip_error = |e: zip::result::ZipError| Error::invalid(format!("not an .npz archive, or a damaged one: {e}"));
    let mut archive = zip::ZipArchive::new(reader).map_err(zip_error)?;
    let mut out = BTreeMap::new();
    for i in 0..archive.len() {
        let entry = archive.by_index(i).map_err(zip_error)?;
        let name = entry.name().map_err(zip_error)?.trim_end_matches(".npy").to_string();
        let stated = entry.size();
        let mut bytes = Vec::new();
        // The directory may lie about the size; reading stops there all the same.
        entry.take(stated).read_to_end(&mut bytes).map_err(|e| Error::invalid(format!("member {name}: {e}")))?;
        out.insert(name.clone(), parse(&bytes).at(|| format!("member {name}"))?);
    }
    Ok(out)
}

fn parse(bytes: &[u8]) -> Result<Tensor> {
    let cut = || Error::invalid("the .npy data is cut off");
    if !bytes.starts_with(MAGIC) {
        bail!(invalid, "not a .npy array");
    }
    let (start, len): (usize, usize) = match *bytes.get(6).ok_or_else(cut)? {
        1 => (10, u16::from_le_bytes(bytes.get(8..10).ok_or_else(cut)?.try_into().unwrap_or_default()) as usize),
        2 | 3 => (12, u32::from_le_bytes(bytes.get(8..12).ok_or_else(cut)?.try_into().unwrap_or_default()) as usize),
        v => bail!(unsupported, ".npy version {v}"),
    };
    let header = bytes.get(start..start.saturating_add(len)).ok_or_else(cut)?;
    let header = std::str::from_utf8(header).map_err(|_| Error::invalid("the .npy header is not text"))?;
    let field = |key: &str| -> Result<&str> {
        let at =
            header.find(&format!("'{key}'")).ok_or_else(|| Error::invalid(format!("no `{key}` in the .npy header")))?;
        Ok(header[at + key.len() + 2..].trim_start_matches([':', ' ']))
    };
    let descr = field("descr")?;
    let descr = descr.trim_start_matches('\'').split('\'').next().unwrap_or_default();
    let fortran = field("fortran_order")?.starts_with("True");
    let shape = field("shape")?.trim_start_matches('(');
    let shape = shape.split(')').next().unwrap_or_default().split(',').map(str::trim).filter(|s| !s.is_empty());
    let shape = shape.map(str::parse).collect::<Result<Vec<usize>, _>>();
    let shape = shape.map_err(|_| Error::invalid("the shape in the .npy header is not a list of sizes"))?;
    let kind = descr.trim_start_matches(['<', '|', '=']);
    let Some(&(_, dtype)) = NAMES.iter().find(|(n, _)| *n == kind) else {
        bail!(unsupported, "numpy elements of type `{descr}`");
    };
    let want = dtype.bytes_for(num_elements(&shape)?);
    let data = bytes.get(start + len..).filter(|d| d.len() >= want).ok_or_else(cut)?;
    let data = &data[..want];
    if !fortran || shape.len() < 2 {
        return Tensor::from_bytes(dtype, &shape, data);
    }
    // Column-major: the reversed shape is row-major; walk it in the order of ours.
    let size = dtype.size().unwrap_or(1);
    let mut strides = vec![1usize; shape.len()];
    for i in 1..shape.len() {
        strides[i] = strides[i - 1] * shape[i - 1];
    }
    let mut out = Vec::with_capacity(want);
    let mut index = vec![0usize; shape.len()];
    for _ in 0..want / size {
        let at: usize = index.iter().zip(&strides).map(|(i, s)| i * s).sum();
        out.extend_from_slice(&data[at * size..(at + 1) * size]);
        for d in (0..shape.len()).rev() {
            index[d] += 1;
            if index[d] < shape[d] {
                break;
            }
            index[d] = 0;
        }
    }
    Tensor::from_bytes(dtype, &shape, &out)
}

/// The array as numpy wants it. Types without a numpy name (bfloat16, float 8) are widened to f32, packed
/// integers to 8 bits.
fn encode(t: &Tensor) -> Result<Vec<u8>> {
    let known = NAMES.iter().find(|(_, d)| *d == t.dtype());
    let Some((name, _)) = known else {
        let wide = match t.dtype() {
            d if d.is_float() => DType::F32,
            d if d.is_unsigned_int() => DType::U8,
            d if d.is_int() => DType::I8,
            d => bail!(unsupported, "{d} elements in a .npy file"),
        };
        return encode(&Tensor::from_f64(wide, t.shape(), &t.to_f64_vec()?)?);
    };
    let shape: Vec<String> = t.shape().iter().map(|d| format!("{d},")).collect();
    let order = if t.dtype().size() == Some(1) { '|' } else { '<' };
    let mut header = format!("{{'descr': '{order}{name}', 'fortran_order': False, 'shape': ({}), }}", shape.join(" "));
    // Magic, version, length and header together are a multiple of 64, and end in a newline.
    let pad = (10 + header.len() + 1).next_multiple_of(64) - (10 + header.len() + 1);
    header.push_str(&" ".repeat(pad));
    header.push('\n');
    let mut out = Vec::with_capacity(10 + header.len() + t.bytes().len());
    out.extend(MAGIC);
    out.extend([1, 0]);
    out.extend((header.len() as u16).to_le_bytes());
    out.extend(header.as_bytes());
    out.extend(t.bytes());
    Ok(out)
}

pub fn write_npy(path: &Path, t: &Tensor) -> Result<()> {
    let bytes = encode(t)?;
    write_atomically(path, |out| Ok(out.write_all(&bytes)?))
}

/// Writes an uncompressed archive.
pub fn write_npz<'a>(path: &Path, arrays: impl IntoIterator<Item = (&'a str, &'a Tensor)>) -> Result<()> {
    let zip_error = |e: zip::result::ZipError| Error::new(crate::Kind::Io, e.to_string());
    write_atomically(path, |out| {
        let mut zip = zip::ZipWriter::new(out);
        let options = zip::write::SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Stored)
            .large_file(true);
        for (name, t) in arrays {
            zip.start_file(format!("{name}.npy"), options).map_err(zip_error)?;
            zip.write_all(&encode(t)?)?;
        }
        zip.finish().map_err(zip_error)?;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_round_trip() {
        for t in [
            Tensor::from_slice(&[2, 3], &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0]),
            Tensor::scalar(7i64),
            Tensor::zeros(DType::Bool, &[0, 4]),
        ] {
            assert_eq!(parse(&encode(&t).unwrap()).unwrap(), t);
        }
    }

    #[test]
    fn column_major_arrays_are_turned() {
        let t = Tensor::from_slice(&[2, 3], &[1u8, 4, 2, 5, 3, 6]);
        let mut bytes = encode(&t).unwrap();
        let at = bytes.windows(5).position(|w| w == b"False").unwrap();
        bytes[at..at + 5].copy_from_slice(b"True ");
        assert_eq!(parse(&bytes).unwrap().as_slice::<u8>(), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn damage_is_an_error() {
        let good = encode(&Tensor::scalar(1f32)).unwrap();
        for cut in 0..good.len() {
            assert!(parse(&good[..cut]).is_err(), "cut at {cut}");
        }
        let mut huge = good.clone();
        let at = huge.windows(2).position(|w| w == b"()").unwrap();
        huge[at..at + 12].copy_from_slice(b"(9999999999)");
        assert!(parse(&huge).is_err());
    }
}
