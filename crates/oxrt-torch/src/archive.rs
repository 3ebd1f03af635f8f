//! ZIP archives as torch writes them: stored members inside a mapped file, found without copying.
//!
//! Only what torch writes is read: no encryption, one disk, tensors stored. The code of a TorchScript archive
//! is deflated; such members are unpacked on demand, within [`MAX_UNPACKED`]. Sizes are those of the central
//! directory (local headers of torch carry zeros), the place of the data comes from the local header
//! (its extra field holds the alignment padding and differs from the central one).

use oxrt_tensor::{Error, Mapped, Result, bail};
use rustc_hash::FxHashMap;
use std::borrow::Cow;
use std::io::Read;

/// A member: where its bytes lie in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub start: usize,
    pub len: usize,
}

/// ZIP compression methods.
const STORED: u16 = 0;
const DEFLATED: u16 = 8;

/// An entry of the directory: where its bytes lie, and how many they are unpacked.
struct Member {
    span: Span,
    unpacked: usize,
}

/// An archive in (part of) a mapped file.
#[derive(Clone)]
pub(crate) struct Archive {
    map: Mapped,
    members: FxHashMap<String, Span>,
    /// Deflated members: their packed bytes, and the size that the directory states.
    packed: FxHashMap<String, (Span, usize)>,
    /// Member names in directory order.
    pub names: Vec<String>,
}

const HELP: &str = "the file is damaged or not written by torch; save it again with `torch.export.save`";

/// Largest deflated member that is unpacked: code, never weights.
const MAX_UNPACKED: usize = 256 << 20;

/// Members beyond this are a sign of a hostile directory, not of a model.
const MAX_MEMBERS: u64 = 4_000_000;

fn read<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    let part = at.checked_add(N).and_then(|end| bytes.get(at..end));
    part.and_then(|p| p.try_into().ok())
        .ok_or_else(|| Error::invalid(format!("the archive ends at byte {}, inside a header", bytes.len())).help(HELP))
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16> {
    Ok(u16::from_le_bytes(read(bytes, at)?))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    Ok(u32::from_le_bytes(read(bytes, at)?))
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64> {
    Ok(u64::from_le_bytes(read(bytes, at)?))
}

fn to_usize(x: u64, what: &str) -> Result<usize> {
    usize::try_from(x).map_err(|_| Error::invalid(format!("{what} {x} is too large")).help(HELP))
}

impl Archive {
    /// The archive that fills the whole file.
    pub fn open(map: Mapped) -> Result<Archive> {
        let len = map.as_ref().len();
        Archive::open_span(map, Span { start: 0, len })
    }

    /// An archive stored inside another one.
    pub fn open_nested(&self, span: Span) -> Result<Archive> {
        Archive::open_span(self.map.clone(), span)
    }

    fn open_span(map: Mapped, span: Span) -> Result<Archive> {
        let all: &[u8] = map.as_ref();
        let bytes = (span.start.checked_add(span.len))
            .and_then(|end| all.get(span.start..end))
            .ok_or_else(|| Error::bug("an archive outside its file"))?;
        let (count, directory, directory_end) = find_directory(bytes)?;
        let (mut members, mut packed) = (FxHashMap::default(), FxHashMap::default());
        let mut names = Vec::new();
        let mut at = directory;
        for _ in 0..count {
            if at >= directory_end {
                return Err(Error::invalid("the archive's directory is shorter than it says").help(HELP));
            }
            let (name, member, method, next) = read_entry(bytes, at)?;
            at = next;
            if name.ends_with('/') {
                continue;
            }
            let Member { span: place, unpacked } = member;
            let place = Span { start: span.start + place.start, len: place.len };
            let twice = match method {
                STORED => members.insert(name.clone(), place).is_some() || packed.contains_key(&name),
                _ => packed.insert(name.clone(), (place, unpacked)).is_some() || members.contains_key(&name),
            };
            if twice {
                return Err(Error::invalid(format!("the archive holds `{name}` twice")).help(HELP));
            }
            names.push(name);
        }
        Ok(Archive { map, members, packed, names })
    }

    pub fn map(&self) -> &Mapped {
        &self.map
    }

    pub fn find(&self, name: &str) -> Option<Span> {
        self.members.get(name).copied()
    }

    /// A member that must be there.
    pub fn get(&self, name: &str) -> Result<Span> {
        self.find(name).ok_or_else(|| match self.packed.contains_key(name) {
            true => Error::unsupported(format!("`{name}` is compressed in the archive"))
                .help("torch stores members uncompressed; unpack the archive and pack it again with `zip -0`"),
            false => Error::invalid(format!("the archive has no `{name}`")).help(HELP),
        })
    }

    pub fn bytes(&self, span: Span) -> &[u8] {
        // Spans were checked against the file when the directory was read.
        self.map.as_ref().get(span.start..span.start + span.len).unwrap_or_default()
    }

    /// The bytes of a member, unpacked where it is deflated.
    pub fn contents(&self, name: &str) -> Result<Cow<'_, [u8]>> {
        let Some(&(span, len)) = self.packed.get(name) else { return Ok(self.bytes(self.get(name)?).into()) };
        if len > MAX_UNPACKED {
            bail!(unsupported, "`{name}` unpacks to {len} bytes, more than {MAX_UNPACKED}");
        }
        // The stated size is not trusted: no more than it is read, and room grows with what is there.
        let mut out = Vec::new();
        let read = flate2::read::DeflateDecoder::new(self.bytes(span)).take(len as u64 + 1).read_to_end(&mut out);
        if read.is_err() || out.len() != len {
            return Err(Error::invalid(format!("`{name}` does not unpack to the {len} bytes it claims")).help(HELP));
        }
        Ok(out.into())
    }

    pub fn text(&self, name: &str) -> Result<&str> {
        std::str::from_utf8(self.bytes(self.get(name)?))
            .map_err(|_| Error::invalid(format!("`{name}` is not UTF-8 text")).help(HELP))
    }
}

/// Number of entries, start and end of the central directory.
fn find_directory(bytes: &[u8]) -> Result<(u64, usize, usize)> {
    const END: [u8; 4] = *b"PK\x05\x06";
    if !bytes.starts_with(b"PK") {
        return Err(Error::invalid("not a ZIP archive, so not a `.pt2` file")
            .help("make one with `torch.export.save(torch.export.export(model, args), \"model.pt2\")`"));
    }
    // The end record is 22 bytes and a comment of at most 65535.
    let lowest = bytes.len().saturating_sub(22 + 65535);
    let end = (lowest..=bytes.len().saturating_sub(22)).rev().find(|&at| bytes[at..].starts_with(&END));
    let Some(end) = end else {
        return Err(Error::invalid("the archive has no directory at its end: it is cut short")
            .help("copy or download the file again; it was not written completely"));
    };
    let mut count = u16_at(bytes, end + 10)? as u64;
    let mut size = u32_at(bytes, end + 12)? as u64;
    let mut start = u32_at(bytes, end + 16)? as u64;
    if end >= 20 && bytes[end - 20..].starts_with(b"PK\x06\x07") {
        let record = to_usize(u64_at(bytes, end - 12)?, "the offset of the directory")?;
        if bytes.get(record..).is_some_and(|b| b.starts_with(b"PK\x06\x06")) {
            count = u64_at(bytes, record + 32)?;
            size = u64_at(bytes, record + 40)?;
            start = u64_at(bytes, record + 48)?;
        }
    }
    let stop = start.checked_add(size).filter(|&stop| stop <= bytes.len() as u64);
    let Some(stop) = stop else {
        bail!(invalid, "the archive's directory ({size} bytes at {start}) lies outside the file")
    };
    // Every entry takes at least 46 bytes.
    if count > MAX_MEMBERS || count * 46 > size {
        bail!(invalid, "the archive's directory of {size} bytes cannot hold the {count} members it claims");
    }
    Ok((count, to_usize(start, "the directory offset")?, to_usize(stop, "the directory end")?))
}

/// Name, data and method of the entry at `at`, and where the next one starts.
fn read_entry(bytes: &[u8], at: usize) -> Result<(String, Member, u16, usize)> {
    if !bytes[at..].starts_with(b"PK\x01\x02") {
        return Err(Error::invalid(format!("no archive entry at byte {at}")).help(HELP));
    }
    let flags = u16_at(bytes, at + 8)?;
    let method = u16_at(bytes, at + 10)?;
    let mut packed = u32_at(bytes, at + 20)? as u64;
    let mut len = u32_at(bytes, at + 24)? as u64;
    let name_len = u16_at(bytes, at + 28)? as usize;
    let extra_len = u16_at(bytes, at + 30)? as usize;
    let comment_len = u16_at(bytes, at + 32)? as usize;
    let mut local = u32_at(bytes, at + 42)? as u64;
    let name_at = at + 46;
    let extra_at = name_at + name_len;
    let next = extra_at + extra_len + comment_len;
    let (Some(name), Some(extra)) = (bytes.get(name_at..extra_at), bytes.get(extra_at..extra_at + extra_len)) else {
        return Err(Error::invalid("the archive's directory ends inside an entry").help(HELP));
    };
    let name = String::from_utf8_lossy(name).into_owned();
    // Zip64: the fields that are all ones follow in the extra field with id 1, in this order.
    let mut field = extra;
    while let [a, b, c, d, rest @ ..] = field {
        let (id, size) = (u16::from_le_bytes([*a, *b]), u16::from_le_bytes([*c, *d]) as usize);
        let Some(body) = rest.get(..size) else { break };
        if id == 1 {
            let mut place = 0;
            for value in [&mut len, &mut packed, &mut local] {
                if *value == u32::MAX as u64 {
                    *value = u64_at(body, place)?;
                    place += 8;
                }
            }
        }
        field = &rest[size..];
    }
    if !(method == STORED && packed == len || method == DEFLATED) {
        return Err(Error::unsupported(format!("`{name}` is compressed in the archive (method {method})"))
            .help("torch stores members uncompressed; unpack the archive and pack it again with `zip -0`"));
    }
    if flags & 1 != 0 {
        return Err(Error::unsupported(format!("`{name}` is encrypted")));
    }
    let local = to_usize(local, "the offset of a member")?;
    if !bytes.get(local..).is_some_and(|b| b.starts_with(b"PK\x03\x04")) {
        return Err(Error::invalid(format!("`{name}` does not start at byte {local} of the archive")).help(HELP));
    }
    let skip = 30 + u16_at(bytes, local + 26)? as usize + u16_at(bytes, local + 28)? as usize;
    let unpacked = to_usize(len, "the size of a member")?;
    let len = to_usize(packed, "the size of a member")?;
    let start = local + skip;
    if start.checked_add(len).is_none_or(|end| end > bytes.len()) {
        return Err(Error::invalid(format!("`{name}` needs {len} bytes at {start}, the file has {}", bytes.len()))
            .help("copy or download the file again; it is cut short"));
    }
    Ok((name, Member { span: Span { start, len }, unpacked }, method, next))
}
