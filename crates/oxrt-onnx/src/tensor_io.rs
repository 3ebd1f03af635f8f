//! `TensorProto` and its siblings, to and from host values.

use crate::proto::{MapProto, OptionalProto, SequenceProto, StringStringEntryProto, TensorProto};
use bytes::Bytes;
use oxrt_ops::Datum;
use oxrt_tensor::{Context, DType, Error, Mapped, Result, Tensor, bail, map_file, num_elements};
use prost::Message;
use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

/// Opens the files of external data, each once, and only inside the folder of the model.
pub(crate) struct ExternalData {
    folder: Option<PathBuf>,
    files: HashMap<String, Mapped>,
}

impl ExternalData {
    /// `folder: None` refuses external data (a model that came as bytes has no folder).
    pub fn new(folder: Option<&Path>) -> Self {
        ExternalData { folder: folder.map(Path::to_path_buf), files: HashMap::new() }
    }

    /// Path of a location, refused when it leaves the folder.
    fn resolve(&self, location: &str) -> Result<PathBuf> {
        let Some(folder) = &self.folder else {
            bail!(unsupported, "external data `{location}` of a model that was not read from a file");
        };
        let relative = Path::new(location);
        let inside = !location.is_empty()
            && relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        let path = folder.join(relative);
        // A link inside the folder may still point outside.
        let escapes = || {
            let (Ok(real), Ok(root)) = (path.canonicalize(), folder.canonicalize()) else { return false };
            !real.starts_with(root)
        };
        if !inside || escapes() {
            return Err(Error::invalid(format!("external data `{location}` leaves the folder of the model")).help(
                "external data must lie beside the model or below it; move the file there and save the model again",
            ));
        }
        Ok(path)
    }

    fn open(&mut self, location: &str) -> Result<Mapped> {
        if let Some(m) = self.files.get(location) {
            return Ok(m.clone());
        }
        let path = self.resolve(location)?;
        let map = map_file(&path).map_err(|e| e.help("copy the external data file beside the model"))?;
        self.files.insert(location.to_string(), map.clone());
        Ok(map)
    }

    fn tensor(&mut self, t: &TensorProto, dtype: DType, shape: &[usize]) -> Result<Tensor> {
        let entry = |key: &str| t.external_data.iter().find(|e| e.key == key).map(|e| e.value.as_str());
        let number = |key: &str| match entry(key) {
            None => Ok(None),
            Some(v) => match v.parse::<usize>() {
                Ok(n) => Ok(Some(n)),
                Err(_) => Err(Error::invalid(format!("external data `{key}` is `{v}`, not a number"))),
            },
        };
        let location = entry("location").ok_or_else(|| Error::invalid("external data without a location"))?;
        let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
        let want = dtype.bytes_for(num_elements(shape)?);
        if length.is_some_and(|l| l != want) {
            bail!(
                invalid,
                "{dtype} tensor of shape {shape:?} needs {want} bytes, external data states {}",
                length.unwrap_or(0)
            );
        }
        if want == 0 {
            return Tensor::from_bytes(dtype, shape, &[]);
        }
        let file = self.open(location)?;
        Tensor::from_shared(dtype, shape, file, offset).at(|| format!("external data {location}"))
    }
}

/// Locations of the external data entries of a tensor.
pub(crate) fn location_of(entries: &[StringStringEntryProto]) -> Option<&str> {
    entries.iter().find(|e| e.key == "location").map(|e| e.value.as_str())
}

pub(crate) fn shape_of(t: &TensorProto) -> Result<Vec<usize>> {
    let shape = t.dims.iter().map(|&d| usize::try_from(d)).collect::<Result<Vec<_>, _>>();
    let shape = shape.map_err(|_| Error::invalid(format!("negative size in the shape {:?}", t.dims)))?;
    num_elements(&shape)?;
    Ok(shape)
}

/// Any storage form: raw bytes, typed fields, strings, external data.
pub(crate) fn tensor_from_proto(t: &TensorProto, external: &mut ExternalData) -> Result<Tensor> {
    let place = || format!("tensor \"{}\"", t.name);
    tensor_inner(t, external).at(place)
}

fn tensor_inner(t: &TensorProto, external: &mut ExternalData) -> Result<Tensor> {
    let dtype = DType::from_onnx(t.data_type)
        .ok_or_else(|| Error::unsupported(format!("the element type number {}", t.data_type)))?;
    let shape = shape_of(t)?;
    let n = num_elements(&shape)?;
    if t.data_location == 1 {
        return external.tensor(t, dtype, &shape);
    }
    if dtype == DType::String {
        let strings = t.string_data.iter().map(|b| String::from_utf8_lossy(b).into_owned()).collect();
        return Tensor::from_strings(&shape, strings);
    }
    if let Some(raw) = &t.raw_data
        && (!raw.is_empty() || n == 0)
    {
        if raw.len() != dtype.bytes_for(n) {
            bail!(invalid, "{dtype} of shape {shape:?} needs {} bytes, raw_data has {}", dtype.bytes_for(n), raw.len());
        }
        return Tensor::from_shared(dtype, &shape, raw.clone(), 0);
    }
    let count = |have: usize, want: usize| -> Result<()> {
        if have != want {
            bail!(invalid, "{dtype} of shape {shape:?} needs {want} stored values, found {have}");
        }
        Ok(())
    };
    Ok(match dtype {
        DType::F32 | DType::C64 => {
            count(t.float_data.len(), n * if dtype == DType::C64 { 2 } else { 1 })?;
            let bytes: Vec<u8> = t.float_data.iter().flat_map(|x| x.to_le_bytes()).collect();
            Tensor::from_bytes(dtype, &shape, &bytes)?
        }
        DType::F64 | DType::C128 => {
            count(t.double_data.len(), n * if dtype == DType::C128 { 2 } else { 1 })?;
            let bytes: Vec<u8> = t.double_data.iter().flat_map(|x| x.to_le_bytes()).collect();
            Tensor::from_bytes(dtype, &shape, &bytes)?
        }
        DType::I64 => {
            count(t.int64_data.len(), n)?;
            Tensor::from_slice(&shape, &t.int64_data)
        }
        DType::U64 | DType::U32 => {
            count(t.uint64_data.len(), n)?;
            let values: Vec<i64> = t.uint64_data.iter().map(|&x| x as i64).collect();
            Tensor::from_i64(dtype, &shape, &values)?
        }
        DType::F16 | DType::BF16 => {
            count(t.int32_data.len(), n)?;
            let bytes: Vec<u8> = t.int32_data.iter().flat_map(|&x| (x as u16).to_le_bytes()).collect();
            Tensor::from_bytes(dtype, &shape, &bytes)?
        }
        // Sub-byte types keep one packed byte in each int32.
        d if d.bits() <= 8 && (d.bits() < 8 || d.is_float()) => {
            count(t.int32_data.len(), d.bytes_for(n))?;
            let bytes: Vec<u8> = t.int32_data.iter().map(|&x| x as u8).collect();
            Tensor::from_bytes(dtype, &shape, &bytes)?
        }
        _ => {
            count(t.int32_data.len(), n)?;
            let values: Vec<i64> = t.int32_data.iter().map(|&x| x as i64).collect();
            Tensor::from_i64(dtype, &shape, &values)?
        }
    })
}

/// Header of a tensor: everything but its elements. Strings are small and included.
pub(crate) fn tensor_header(name: &str, t: &Tensor) -> TensorProto {
    let strings = t.strings().unwrap_or_default();
    TensorProto {
        name: name.to_string(),
        data_type: t.dtype().to_onnx(),
        dims: t.shape().iter().map(|&d| d as i64).collect(),
        string_data: strings.iter().map(|s| Bytes::copy_from_slice(s.as_bytes())).collect(),
        ..TensorProto::default()
    }
}

pub(crate) fn tensor_to_proto(name: &str, t: &Tensor) -> TensorProto {
    let mut proto = tensor_header(name, t);
    if t.dtype() != DType::String {
        proto.raw_data = Some(Bytes::copy_from_slice(t.bytes()));
    }
    proto
}

/// What a `.pb` file of a test case holds; the file itself does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PbKind {
    Tensor,
    Sequence,
    Optional,
    Map,
}

impl PbKind {
    /// The kind that stores values of type `ty`.
    pub fn of(ty: &oxrt_ir::ValueType) -> PbKind {
        match ty {
            oxrt_ir::ValueType::Sequence(_) => PbKind::Sequence,
            oxrt_ir::ValueType::Optional(_) => PbKind::Optional,
            oxrt_ir::ValueType::Map(..) => PbKind::Map,
            _ => PbKind::Tensor,
        }
    }
}

/// Reads a `.pb` file holding a tensor, sequence or optional.
pub fn load_datum(path: &Path, kind: PbKind) -> Result<Datum> {
    let bytes = std::fs::read(path).at(|| path.display())?;
    datum_from_pb(&bytes, kind).at(|| path.display())
}

pub fn datum_from_pb(bytes: &[u8], kind: PbKind) -> Result<Datum> {
    let bytes = Bytes::copy_from_slice(bytes);
    let decode_error = |e: prost::DecodeError| Error::invalid(format!("not a {kind:?} message: {e}"));
    let mut external = ExternalData::new(None);
    match kind {
        PbKind::Tensor => {
            let t = TensorProto::decode(bytes).map_err(decode_error)?;
            Ok(tensor_from_proto(&t, &mut external)?.into())
        }
        PbKind::Sequence => sequence(&SequenceProto::decode(bytes).map_err(decode_error)?, &mut external),
        PbKind::Optional => optional(&OptionalProto::decode(bytes).map_err(decode_error)?, &mut external),
        PbKind::Map => map(&MapProto::decode(bytes).map_err(decode_error)?, &mut external),
    }
}

fn sequence(s: &SequenceProto, external: &mut ExternalData) -> Result<Datum> {
    let tensors = s.tensor_values.iter().map(|t| Ok(tensor_from_proto(t, external)?.into()));
    let mut items = tensors.collect::<Result<Vec<Datum>>>()?;
    for x in &s.sequence_values {
        items.push(sequence(x, external)?);
    }
    for x in &s.map_values {
        items.push(map(x, external)?);
    }
    for x in &s.optional_values {
        items.push(optional(x, external)?);
    }
    Ok(Datum::Sequence(items))
}

/// Values are tensors of one element each.
fn map(m: &MapProto, external: &mut ExternalData) -> Result<Datum> {
    let keys = if m.string_keys.is_empty() && m.key_type != DType::String.to_onnx() {
        Tensor::from_slice(&[m.keys.len()], &m.keys)
    } else {
        let words = m.string_keys.iter().map(|b| String::from_utf8_lossy(b).into_owned()).collect();
        Tensor::from_strings(&[m.string_keys.len()], words)?
    };
    let items = m.values.as_ref().map_or(&[][..], |v| &v.tensor_values);
    let each = items.iter().map(|t| tensor_from_proto(t, external)?.reshaped(&[1]));
    let each = each.collect::<Result<Vec<_>>>().map_err(|e| e.at("a value of a map"))?;
    if each.len() != keys.len() {
        bail!(invalid, "a map of {} keys and {} values", keys.len(), each.len());
    }
    let values = match &each.iter().collect::<Vec<_>>()[..] {
        [] => Tensor::zeros(DType::F32, &[0]),
        some if some.iter().all(|t| t.dtype() == some[0].dtype()) => oxrt_ops::copy::concat(some, 0)?,
        _ => bail!(invalid, "a map with values of several types"),
    };
    Ok(Datum::Map { keys, values })
}

fn optional(o: &OptionalProto, external: &mut ExternalData) -> Result<Datum> {
    let inner = if let Some(t) = &o.tensor_value {
        Some(tensor_from_proto(t, external)?.into())
    } else if let Some(s) = &o.sequence_value {
        Some(sequence(s, external)?)
    } else if let Some(x) = &o.optional_value {
        Some(optional(x, external)?)
    } else {
        None
    };
    Ok(Datum::Optional(inner.map(Box::new)))
}

/// Bytes of the `.pb` message for a value.
pub fn datum_to_pb(name: &str, datum: &Datum) -> Vec<u8> {
    match datum {
        Datum::Tensor(t) => tensor_to_proto(name, t).encode_to_vec(),
        Datum::Sequence(_) => sequence_proto(name, datum).encode_to_vec(),
        Datum::Optional(_) => optional_proto(name, datum).encode_to_vec(),
        Datum::Map { keys, values } => map_proto(name, keys, values).encode_to_vec(),
    }
}

fn map_proto(name: &str, keys: &Tensor, values: &Tensor) -> MapProto {
    let words = keys.strings().unwrap_or_default();
    let each = (0..values.len()).filter_map(|i| oxrt_ops::copy::select(values, &[], std::iter::once(i)).ok());
    let items = SequenceProto {
        elem_type: 1,
        tensor_values: each.map(|t| tensor_to_proto("", &t)).collect(),
        ..SequenceProto::default()
    };
    MapProto {
        name: name.to_string(),
        key_type: keys.dtype().to_onnx(),
        keys: keys.get_slice::<i64>().unwrap_or_default().to_vec(),
        string_keys: words.iter().map(|s| Bytes::copy_from_slice(s.as_bytes())).collect(),
        values: Some(items),
    }
}

fn sequence_proto(name: &str, datum: &Datum) -> SequenceProto {
    let mut out = SequenceProto { name: name.to_string(), elem_type: 1, ..SequenceProto::default() };
    let Datum::Sequence(items) = datum else { return out };
    for item in items {
        match item {
            Datum::Tensor(t) => out.tensor_values.push(tensor_to_proto("", t)),
            Datum::Sequence(_) => {
                out.elem_type = 3;
                out.sequence_values.push(sequence_proto("", item));
            }
            Datum::Optional(_) => {
                out.elem_type = 5;
                out.optional_values.push(optional_proto("", item));
            }
            Datum::Map { keys, values } => {
                out.elem_type = 4;
                out.map_values.push(map_proto("", keys, values));
            }
        }
    }
    out
}

fn optional_proto(name: &str, datum: &Datum) -> OptionalProto {
    let mut out = OptionalProto { name: name.to_string(), ..OptionalProto::default() };
    let Datum::Optional(Some(inner)) = datum else { return out };
    match &**inner {
        Datum::Tensor(t) => {
            out.elem_type = 1;
            out.tensor_value = Some(tensor_to_proto("", t));
        }
        Datum::Sequence(_) => {
            out.elem_type = 3;
            out.sequence_value = Some(sequence_proto("", inner));
        }
        Datum::Optional(_) => {
            out.elem_type = 5;
            out.optional_value = Some(Box::new(optional_proto("", inner)));
        }
        // The format has no optional of a map.
        Datum::Map { .. } => {}
    }
    out
}
