//! Reading and writing engine files.

use crate::json::{PlanJson, Tensors, aligned, from_json, tensor_from_json, to_json};
use crate::{FORMAT_VERSION, Plan};
use oxrt_tensor::{Context, Error, Kind, Result, map_file, write_atomically};
use std::io::Write;
use std::path::Path;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

const MAGIC: &[u8; 8] = b"OXRTENG\0";
const HEADER: usize = 64;

/// Whether bytes start like an engine file.
pub fn is_engine(start: &[u8]) -> bool {
    start.starts_with(MAGIC)
}

/// Writes an engine, complete or not at all. Equal plans give equal bytes. Returns the size of the file.
pub fn write_plan(plan: &Plan, path: &Path) -> Result<u64> {
    let mut tensors = Tensors::default();
    let json = to_json(plan, &mut tensors);
    let meta = serde_json::to_vec(&json).map_err(|e| Error::bug(e.to_string()))?;
    let data_start = aligned(HEADER + meta.len());
    let mut hash = Xxh3::new();
    let mut data_len = 0;
    for t in &tensors.list {
        hash.update(t.bytes());
        let end = data_len + t.bytes().len();
        hash.update(&[0u8; 64][..aligned(end) - end]);
        data_len = aligned(end);
    }
    let mut header = Vec::with_capacity(HEADER);
    header.extend(MAGIC);
    header.extend(FORMAT_VERSION.to_le_bytes());
    header.extend([0u8; 4]);
    for word in [meta.len() as u64, data_start as u64, data_len as u64, xxh3_64(&meta), hash.digest()] {
        header.extend(word.to_le_bytes());
    }
    header.extend(xxh3_64(&header).to_le_bytes());
    write_atomically(path, |out| {
        out.write_all(&header)?;
        out.write_all(&meta)?;
        out.write_all(&[0u8; 64][..data_start - HEADER - meta.len()])?;
        for t in &tensors.list {
            let len = t.bytes().len();
            out.write_all(t.bytes())?;
            out.write_all(&[0u8; 64][..aligned(len) - len])?;
        }
        Ok((data_start + data_len) as u64)
    })
}

/// Maps an engine file and checks it: magic, version, lengths and checksums.
///
/// # Errors
/// Says which of these failed, and how to get a good engine.
pub fn read_plan(path: &Path) -> Result<Plan> {
    read(path).map_err(|e| match e.kind() {
        Kind::Io => e,
        _ => e.help("build the engine again from its model: `oxrt build model.onnx -o model.engine`"),
    })
}

fn read(path: &Path) -> Result<Plan> {
    let map = map_file(path)?;
    let place = || path.display();
    let bytes = map.as_ref();
    if !is_engine(bytes) {
        return Err(Error::invalid("not an engine file")).at(place);
    }
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap_or_default());
    if bytes.len() < HEADER {
        return Err(Error::invalid("the engine file is cut off within its header")).at(place);
    }
    let version = u32::from_le_bytes(bytes[8..12].try_into().unwrap_or_default());
    if version != FORMAT_VERSION {
        return Err(Error::unsupported(format!("engine format {version}; this oxrt reads format {FORMAT_VERSION}")))
            .at(place);
    }
    if word(56) != xxh3_64(&bytes[..56]) {
        return Err(Error::invalid("the header of the engine file was altered (checksum)")).at(place);
    }
    let [meta_len, data_start, data_len] = [word(16), word(24), word(32)].map(|x| x as usize);
    let expected = data_start.checked_add(data_len);
    if expected != Some(bytes.len()) || HEADER.checked_add(meta_len).is_none_or(|end| end > data_start) {
        let expected = expected.unwrap_or(usize::MAX);
        let what =
            format!("the engine file is cut off or was altered: {} bytes where {expected} are stated", bytes.len());
        return Err(Error::invalid(what)).at(place);
    }
    let meta = &bytes[HEADER..HEADER + meta_len];
    if xxh3_64(meta) != word(40) {
        return Err(Error::invalid("the metadata of the engine file was altered (checksum)")).at(place);
    }
    if xxh3_64(&bytes[data_start..]) != word(48) {
        return Err(Error::invalid("the weights of the engine file were altered (checksum)")).at(place);
    }
    let json: PlanJson =
        serde_json::from_slice(meta).map_err(|e| Error::invalid(format!("engine metadata: {e}"))).at(place)?;
    let tensors = json
        .tensors
        .iter()
        .map(|t| tensor_from_json(t, map.clone(), data_start))
        .collect::<Result<Vec<_>>>()
        .at(place)?;
    from_json(json, &tensors).at(place)
}
