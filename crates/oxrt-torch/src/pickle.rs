//! Reads the pickles of `torch.save`: a closed set of opcodes and names, never an interpreter of code.
//!
//! Containers, numbers, text, tensors and, for TorchScript, the attributes of module objects are rebuilt;
//! any other class is kept as an opaque name when it is only mentioned, and refused when the pickle wants
//! to call it.

use crate::archive::{Archive, Span};
use crate::weights::strided;
use oxrt_tensor::{Context, DType, Error, Result, Tensor, bail};
use rustc_hash::FxHashMap;

/// Place of a value in [`Pickle::values`].
pub(crate) type Id = usize;

/// Values beyond this are a sign of a hostile pickle.
const MAX_VALUES: usize = 10_000_000;

#[derive(Clone, Debug)]
pub(crate) enum Value {
    None,
    Int(i64),
    Bool(bool),
    Float(f64),
    Text(String),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Tensor(Tensor),
    /// A tensor of which the file keeps type and sizes alone: the inputs of a traced module.
    Shape(DType, Vec<usize>),
    /// An object of a TorchScript class, `module name`, and its state.
    Object(String, Option<Id>),
    /// `module name`.
    Global(String),
    Storage {
        dtype: Option<DType>,
        key: String,
    },
    Mark,
}

pub(crate) struct Pickle {
    values: Vec<Value>,
    pub root: Id,
}

/// A nested value without references, for callers.
#[derive(Clone, Debug)]
pub(crate) enum Tree {
    Leaf(Value),
    Tuple(Vec<Tree>),
    List(Vec<Tree>),
    Dict(Vec<(Tree, Tree)>),
}

impl Pickle {
    /// Reads `data.pkl` of a torch.save archive.
    pub fn load(archive: &Archive) -> Result<Pickle> {
        let name = (archive.names.iter().find(|n| *n == "data.pkl" || n.ends_with("/data.pkl")))
            .ok_or_else(|| Error::invalid("no `data.pkl`: not a file of torch.save"))?;
        Pickle::load_member(archive, name.strip_suffix(".pkl").unwrap_or_default())
    }

    /// Reads the pickle `<stem>.pkl`, whose storages are the members `<stem>/<key>`.
    pub fn load_member(archive: &Archive, stem: &str) -> Result<Pickle> {
        Pickle::load_named(archive, &format!("{stem}.pkl"), stem)
    }

    /// Reads the pickle `name`, whose storages are the members `<stem>/<key>`.
    pub fn load_named(archive: &Archive, name: &str, stem: &str) -> Result<Pickle> {
        Pickle::parse(&archive.contents(name)?, archive, stem, name)
    }

    fn parse(bytes: &[u8], archive: &Archive, stem: &str, name: &str) -> Result<Pickle> {
        let memo = FxHashMap::default();
        let mut m = Machine { bytes, at: 0, stack: Vec::new(), memo, values: Vec::new(), archive, stem };
        let root = m.run().at(|| format!("byte {} of the pickle `{name}`", m.at))?;
        Ok(Pickle { values: m.values, root })
    }

    pub fn value(&self, id: Id) -> &Value {
        &self.values[id]
    }

    pub fn tree(&self) -> Result<Tree> {
        // Shared values are written out in each place: a few times the file, not two to the number of its lines.
        let mut budget = self.values.len().saturating_mul(16).saturating_add(1024).min(MAX_VALUES);
        self.subtree(self.root, 0, &mut budget)
    }

    fn subtree(&self, id: Id, depth: usize, budget: &mut usize) -> Result<Tree> {
        if depth > 64 || *budget == 0 {
            bail!(invalid, "the pickle nests too deeply or refers to itself");
        }
        *budget -= 1;
        let mut all =
            |ids: &[Id]| -> Result<Vec<Tree>> { ids.iter().map(|&i| self.subtree(i, depth + 1, budget)).collect() };
        Ok(match &self.values[id] {
            Value::Tuple(ids) => Tree::Tuple(all(ids)?),
            Value::List(ids) => Tree::List(all(ids)?),
            Value::Dict(pairs) => {
                let keys = all(&pairs.iter().map(|p| p.0).collect::<Vec<_>>())?;
                let values = all(&pairs.iter().map(|p| p.1).collect::<Vec<_>>())?;
                Tree::Dict(keys.into_iter().zip(values).collect())
            }
            leaf => Tree::Leaf(leaf.clone()),
        })
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Id>,
    memo: FxHashMap<u32, Id>,
    values: Vec<Value>,
    archive: &'a Archive,
    /// Where the storages lie: `<stem>/<key>`.
    stem: &'a str,
}

impl Machine<'_> {
    fn take(&mut self, n: usize) -> Result<&[u8]> {
        let part = self.at.checked_add(n).and_then(|end| self.bytes.get(self.at..end));
        let Some(part) = part else { bail!(invalid, "the pickle ends too early") };
        self.at += n;
        Ok(part)
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into().expect("N bytes were taken"))
    }

    fn line(&mut self) -> Result<String> {
        let rest = &self.bytes[self.at..];
        let Some(len) = rest.iter().position(|&b| b == b'\n') else { bail!(invalid, "a line without end") };
        let line = String::from_utf8_lossy(&rest[..len]).into_owned();
        self.at += len + 1;
        Ok(line)
    }

    fn text(&mut self, n: usize) -> Result<()> {
        let text = String::from_utf8_lossy(self.take(n)?).into_owned();
        self.push(Value::Text(text))
    }

    fn push(&mut self, value: Value) -> Result<()> {
        if self.values.len() >= MAX_VALUES {
            bail!(invalid, "the pickle holds more than {MAX_VALUES} values");
        }
        self.values.push(value);
        self.stack.push(self.values.len() - 1);
        Ok(())
    }

    fn pop(&mut self) -> Result<Id> {
        self.stack.pop().ok_or_else(|| Error::invalid("the pickle takes more values than it made"))
    }

    fn pop_n(&mut self, n: usize) -> Result<Vec<Id>> {
        if self.stack.len() < n {
            bail!(invalid, "the pickle takes more values than it made");
        }
        Ok(self.stack.split_off(self.stack.len() - n))
    }

    fn pop_mark(&mut self) -> Result<Vec<Id>> {
        let Some(at) = self.stack.iter().rposition(|&i| matches!(self.values[i], Value::Mark)) else {
            bail!(invalid, "the pickle closes a list that it never opened")
        };
        let items = self.stack.split_off(at + 1);
        self.stack.pop();
        Ok(items)
    }

    fn top(&self) -> Result<Id> {
        self.stack.last().copied().ok_or_else(|| Error::invalid("the pickle reads an empty stack"))
    }

    fn recall(&mut self, key: u32) -> Result<()> {
        let Some(&id) = self.memo.get(&key) else { bail!(invalid, "the pickle recalls the unknown value {key}") };
        self.stack.push(id);
        Ok(())
    }

    fn append(&mut self, items: Vec<Id>) -> Result<()> {
        let top = self.top()?;
        match &mut self.values[top] {
            Value::List(list) => list.extend(items),
            _ => bail!(unsupported, "the pickle appends to something other than a list"),
        }
        Ok(())
    }

    fn set_items(&mut self, items: Vec<Id>) -> Result<()> {
        let top = self.top()?;
        if !items.len().is_multiple_of(2) {
            bail!(invalid, "a key without value");
        }
        match &mut self.values[top] {
            Value::Dict(d) => d.extend(items.chunks_exact(2).map(|p| (p[0], p[1]))),
            _ => bail!(unsupported, "the pickle sets items of something other than a dict"),
        }
        Ok(())
    }

    fn run(&mut self) -> Result<Id> {
        loop {
            let op = self.take(1)?[0];
            match op {
                0x80 => drop(self.take(1)?),
                0x95 => drop(self.take(8)?),
                b'.' => return self.pop(),
                b'(' => self.push(Value::Mark)?,
                b'N' => self.push(Value::None)?,
                0x88 | 0x89 => self.push(Value::Bool(op == 0x88))?,
                b'K' => {
                    let x = self.take(1)?[0];
                    self.push(Value::Int(x as i64))?;
                }
                b'M' => {
                    let x = u16::from_le_bytes(self.number()?);
                    self.push(Value::Int(x as i64))?;
                }
                b'J' => {
                    let x = i32::from_le_bytes(self.number()?);
                    self.push(Value::Int(x as i64))?;
                }
                0x8a => {
                    let n = self.take(1)?[0] as usize;
                    let raw = self.take(n)?;
                    if n > 8 {
                        bail!(unsupported, "an integer of {n} bytes");
                    }
                    let fill = if raw.last().is_some_and(|b| b & 0x80 != 0) { 0xff } else { 0 };
                    let mut le = [fill; 8];
                    le[..n].copy_from_slice(raw);
                    self.push(Value::Int(i64::from_le_bytes(le)))?;
                }
                b'G' => {
                    let x = f64::from_be_bytes(self.number()?);
                    self.push(Value::Float(x))?;
                }
                b'X' => {
                    let n = u32::from_le_bytes(self.number()?) as usize;
                    self.text(n)?;
                }
                0x8c => {
                    let n = self.take(1)?[0] as usize;
                    self.text(n)?;
                }
                b')' => self.push(Value::Tuple(Vec::new()))?,
                0x85..=0x87 => {
                    let items = self.pop_n((op - 0x84) as usize)?;
                    self.push(Value::Tuple(items))?;
                }
                b't' => {
                    let items = self.pop_mark()?;
                    self.push(Value::Tuple(items))?;
                }
                b']' => self.push(Value::List(Vec::new()))?,
                b'}' => self.push(Value::Dict(Vec::new()))?,
                b'a' => {
                    let item = self.pop()?;
                    self.append(vec![item])?;
                }
                b'e' => {
                    let items = self.pop_mark()?;
                    self.append(items)?;
                }
                b's' => {
                    let items = self.pop_n(2)?;
                    self.set_items(items)?;
                }
                b'u' => {
                    let items = self.pop_mark()?;
                    self.set_items(items)?;
                }
                b'q' => {
                    let key = self.take(1)?[0] as u32;
                    self.memo.insert(key, self.top()?);
                }
                b'r' => {
                    let key = u32::from_le_bytes(self.number()?);
                    self.memo.insert(key, self.top()?);
                }
                0x94 => {
                    self.memo.insert(self.memo.len() as u32, self.top()?);
                }
                b'h' => {
                    let key = self.take(1)?[0] as u32;
                    self.recall(key)?;
                }
                b'j' => {
                    let key = u32::from_le_bytes(self.number()?);
                    self.recall(key)?;
                }
                b'c' => {
                    let name = format!("{} {}", self.line()?, self.line()?);
                    self.push(Value::Global(name))?;
                }
                0x93 => {
                    let pair = self.pop_n(2)?;
                    let (Value::Text(m), Value::Text(n)) = (&self.values[pair[0]], &self.values[pair[1]]) else {
                        bail!(invalid, "a class name that is not text")
                    };
                    let name = format!("{m} {n}");
                    self.push(Value::Global(name))?;
                }
                b'Q' => {
                    let id = self.pop()?;
                    let storage = self.storage(id)?;
                    self.push(storage)?;
                }
                b'R' => {
                    let args = self.pop()?;
                    let function = self.pop()?;
                    let value = self.call(function, args)?;
                    self.push(value)?;
                }
                // An object of a class: of TorchScript's own namespace only, and nothing of it is called.
                0x81 => {
                    let pair = self.pop_n(2)?;
                    match &self.values[pair[0]] {
                        Value::Global(class) if class.starts_with("__torch__") => {
                            let class = class.clone();
                            self.push(Value::Object(class, None))?;
                        }
                        Value::Global(class) => {
                            return Err(Error::unsupported(format!(
                                "the pickle makes a `{}`",
                                class.replace(' ', ".")
                            ))
                            .help("only tensors, numbers, text and containers are read; no code is executed"));
                        }
                        _ => bail!(invalid, "the pickle makes an object of something other than a class"),
                    }
                }
                // State of an object; dicts and tensors have none that matters.
                b'b' => {
                    let state = self.pop()?;
                    let top = self.top()?;
                    if let Value::Object(_, slot) = &mut self.values[top] {
                        *slot = Some(state);
                    }
                }
                _ => {
                    return Err(Error::unsupported(format!("the pickle uses the opcode {op:#04x}"))
                        .help("only tensors, numbers, text, tuples, lists and dicts are read"));
                }
            }
        }
    }

    fn items(&self, id: Id) -> Result<Vec<Id>> {
        match &self.values[id] {
            Value::Tuple(ids) | Value::List(ids) => Ok(ids.clone()),
            _ => bail!(invalid, "a tuple is needed"),
        }
    }

    fn ints(&self, id: Id) -> Result<Vec<i64>> {
        let int = |i: Id| match self.values[i] {
            Value::Int(x) => Ok(x),
            _ => Err(Error::invalid("an integer is needed")),
        };
        self.items(id)?.into_iter().map(int).collect()
    }

    /// `('storage', torch.FloatStorage, key, device, number of elements)`.
    fn storage(&self, id: Id) -> Result<Value> {
        let parts = self.items(id)?;
        let [tag, class, key, ..] = parts[..] else { bail!(invalid, "a storage without key") };
        match (&self.values[tag], &self.values[class], &self.values[key]) {
            (Value::Text(t), Value::Global(class), Value::Text(key)) if t == "storage" => {
                Ok(Value::Storage { dtype: storage_dtype(class)?, key: key.clone() })
            }
            _ => bail!(invalid, "a reference to something other than a storage"),
        }
    }

    fn call(&self, function: Id, args: Id) -> Result<Value> {
        let Value::Global(name) = &self.values[function] else { bail!(invalid, "the pickle calls a value") };
        let args = self.items(args)?;
        match (name.as_str(), &args[..]) {
            ("collections OrderedDict", []) => Ok(Value::Dict(Vec::new())),
            ("collections OrderedDict", [pairs]) => {
                let pairs = self.items(*pairs)?;
                let pair = |i: Id| match self.items(i)?[..] {
                    [k, v] => Ok((k, v)),
                    _ => Err(Error::invalid("a pair is needed")),
                };
                Ok(Value::Dict(pairs.into_iter().map(pair).collect::<Result<_>>()?))
            }
            ("torch Size", [items]) => Ok(Value::Tuple(self.items(*items)?)),
            ("torch device", _) => Ok(Value::None),
            (
                "torch.jit._pickle build_intlist"
                | "torch.jit._pickle build_doublelist"
                | "torch.jit._pickle build_boollist"
                | "torch.jit._pickle build_tensorlist",
                [items],
            ) => Ok(Value::List(self.items(*items)?)),
            ("torch.jit._pickle restore_type_tag", [value, ..]) => Ok(self.values[*value].clone()),
            ("torch._utils _rebuild_parameter", [data, ..]) => Ok(self.values[*data].clone()),
            ("torch._utils _rebuild_tensor_v2", [storage, offset, sizes, strides, ..]) => {
                let Value::Storage { dtype: Some(dtype), ref key } = self.values[*storage] else {
                    bail!(unsupported, "a tensor over a storage without element type")
                };
                self.tensor(dtype, key, *offset, *sizes, *strides)
            }
            ("torch._utils _rebuild_tensor_v3", [storage, offset, sizes, strides, _, _, dtype, ..]) => {
                let (Value::Storage { key, .. }, Value::Global(dtype)) = (&self.values[*storage], &self.values[*dtype])
                else {
                    bail!(invalid, "a tensor without storage or element type")
                };
                let Some(d) = torch_dtype(dtype) else { bail!(unsupported, "the element type {dtype}") };
                self.tensor(d, key, *offset, *sizes, *strides)
            }
            (name, _) => Err(Error::unsupported(format!("the pickle calls `{}`", name.replace(' ', ".")))
                .help("only tensors, numbers, text, tuples, lists and dicts are read; no code is executed")),
        }
    }

    fn tensor(&self, dtype: DType, key: &str, offset: Id, sizes: Id, strides: Id) -> Result<Value> {
        let Value::Int(offset) = self.values[offset] else { bail!(invalid, "the storage offset is no number") };
        let offset = usize::try_from(offset).map_err(|_| Error::invalid("a negative storage offset"))?;
        let sizes = (self.ints(sizes)?.into_iter())
            .map(|n| usize::try_from(n).map_err(|_| Error::invalid("a negative size")))
            .collect::<Result<Vec<_>>>()?;
        let strides = self.ints(strides)?;
        let span: Span = self.archive.get(&format!("{}/{key}", self.stem))?;
        if span.len == 0 && self.stem.ends_with("traced_inputs") {
            return Ok(Value::Shape(dtype, sizes));
        }
        strided(self.archive, span, dtype, &sizes, &strides, offset).map(Value::Tensor)
    }
}

fn storage_dtype(class: &str) -> Result<Option<DType>> {
    Ok(Some(match class {
        "torch FloatStorage" => DType::F32,
        "torch DoubleStorage" => DType::F64,
        "torch HalfStorage" => DType::F16,
        "torch BFloat16Storage" => DType::BF16,
        "torch LongStorage" => DType::I64,
        "torch IntStorage" => DType::I32,
        "torch ShortStorage" => DType::I16,
        "torch CharStorage" => DType::I8,
        "torch ByteStorage" => DType::U8,
        "torch BoolStorage" => DType::Bool,
        "torch ComplexFloatStorage" => DType::C64,
        "torch ComplexDoubleStorage" => DType::C128,
        "torch.storage UntypedStorage" | "torch UntypedStorage" => return Ok(None),
        other => bail!(unsupported, "the storage class {other}"),
    }))
}

fn torch_dtype(name: &str) -> Option<DType> {
    Some(match name {
        "torch uint16" => DType::U16,
        "torch uint32" => DType::U32,
        "torch uint64" => DType::U64,
        "torch float8_e4m3fn" => DType::F8E4M3FN,
        "torch float8_e5m2" => DType::F8E5M2,
        "torch float8_e4m3fnuz" => DType::F8E4M3FNUZ,
        "torch float8_e5m2fnuz" => DType::F8E5M2FNUZ,
        "torch float8_e8m0fnu" => DType::F8E8M0,
        _ => return None,
    })
}
