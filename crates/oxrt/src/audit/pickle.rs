//! What a pickle would do: the names that it imports and calls, read off its opcodes.

use super::{AuditReport, Severity};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Modules whose names rebuild tensors and containers, and do nothing else.
const HARMLESS: &[&str] = &[
    "torch._utils _rebuild_",
    "torch._tensor _rebuild_",
    "torch.storage ",
    "torch.jit._pickle ",
    "torch.serialization _get_layout",
    "torch.nn.parameter Parameter",
    "torch Size",
    "torch device",
    "collections OrderedDict",
    "collections defaultdict",
    "__torch__.",
    "_codecs encode",
    "builtins set",
    "builtins list",
    "builtins dict",
    "builtins bytearray",
    "numpy ndarray",
    "numpy dtype",
    "numpy.core.multiarray _reconstruct",
    "numpy.core.multiarray scalar",
    "numpy._core.multiarray _reconstruct",
    "numpy._core.multiarray scalar",
];

/// Modules through which a pickle runs whatever it likes.
const DANGEROUS: &[&str] = &[
    "os",
    "posix",
    "nt",
    "subprocess",
    "sys",
    "builtins",
    "__builtin__",
    "runpy",
    "shutil",
    "socket",
    "ctypes",
    "importlib",
    "pickle",
    "_pickle",
    "code",
    "commands",
    "pty",
    "webbrowser",
    "urllib",
    "requests",
    "marshal",
    "types",
    "functools",
    "operator",
    "pip",
    "torch.hub",
    "torch.utils.cpp_extension",
];

fn is_harmless(name: &str) -> bool {
    let torch_type = name.strip_prefix("torch ").is_some_and(|n| {
        n.ends_with("Storage")
            || n.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') && {
                ["float", "int", "uint", "bool", "complex", "bfloat", "half", "double", "long", "short", "strided"]
                    .iter()
                    .any(|t| n.starts_with(t))
            }
    });
    torch_type || HARMLESS.iter().any(|h| name.starts_with(h))
}

/// Reads the opcodes of a pickle (one stream after the other) and reports the names that it imports.
pub(super) fn audit(bytes: &[u8], member: &str, report: &mut AuditReport) {
    let (found, calls, end) = scan(bytes);
    if let Err(what) = end {
        report.add(Severity::High, "pickle-damaged", member, what);
    }
    report.fact(&format!("pickle {member} calls"), calls);
    let mut others: BTreeMap<String, usize> = BTreeMap::new();
    for name in found {
        let module = name.split(' ').next().unwrap_or_default();
        let dangerous = DANGEROUS.iter().any(|d| module == *d || module.starts_with(&format!("{d}.")));
        if is_harmless(&name) {
            continue;
        }
        if dangerous || name.contains('?') {
            report.add(
                Severity::High,
                "pickle-code",
                member,
                format!("it imports `{}`: it runs code when it is opened", name.replace(' ', ".")),
            );
        } else {
            *others.entry(name).or_default() += 1;
        }
    }
    for name in others.into_keys() {
        let what = format!("it imports `{}`, which is no part of a tensor", name.replace(' ', "."));
        report.add(Severity::Medium, "pickle-import", member, what);
    }
}

/// Imported names (`module name`; `?` for one that is put together while it runs), number of calls, and how it ended.
fn scan(bytes: &[u8]) -> (BTreeSet<String>, usize, Result<(), String>) {
    let mut names = BTreeSet::new();
    let mut calls = 0;
    let mut p = Scan { bytes, at: 0, strings: Vec::new(), memo: HashMap::new() };
    while p.at < bytes.len() {
        if let Err(what) = p.stream(&mut names, &mut calls) {
            return (names, calls, Err(what));
        }
        // What follows a pickle in an old checkpoint are further pickles, then raw storages.
        if bytes.get(p.at) != Some(&0x80) {
            break;
        }
    }
    (names, calls, Ok(()))
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The last strings that were pushed; `None` for anything else.
    strings: Vec<Option<String>>,
    memo: HashMap<u64, Option<String>>,
}

impl<'a> Scan<'a> {
    fn take(&mut self, n: u64) -> Result<&'a [u8], String> {
        let end = usize::try_from(n).ok().and_then(|n| self.at.checked_add(n)).filter(|&e| e <= self.bytes.len());
        let end = end.ok_or_else(|| format!("an opcode at byte {} states {n} bytes, more than there are", self.at))?;
        let part = &self.bytes[self.at..end];
        self.at = end;
        Ok(part)
    }

    fn number(&mut self, bytes: usize) -> Result<u64, String> {
        let part = self.take(bytes as u64)?;
        Ok(part.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b)))
    }

    fn line(&mut self) -> Result<String, String> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|&b| b == b'\n').ok_or("a line without an end")?;
        self.at += end + 1;
        Ok(String::from_utf8_lossy(&rest[..end]).into_owned())
    }

    fn push(&mut self, s: Option<String>) {
        self.strings.push(s);
        // Only the end is looked at; a hostile file must not make this grow.
        if self.strings.len() > 4096 {
            self.strings.drain(..2048);
        }
    }

    fn string(&mut self, length: usize) -> Result<(), String> {
        let n = self.number(length)?;
        let part = self.take(n)?;
        self.push((n <= 1 << 12).then(|| String::from_utf8_lossy(part).into_owned()));
        Ok(())
    }

    fn stream(&mut self, names: &mut BTreeSet<String>, calls: &mut usize) -> Result<(), String> {
        loop {
            let op = self.take(1)?[0];
            match op {
                b'.' => return Ok(()),
                0x80 => drop(self.take(1)?),
                0x95 => drop(self.take(8)?),
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    names.insert(format!("{module} {name}"));
                    self.push(None);
                }
                b'i' => {
                    let (module, name) = (self.line()?, self.line()?);
                    names.insert(format!("{module} {name}"));
                    *calls += 1;
                    self.push(None);
                }
                0x93 => {
                    let name = self.strings.pop().flatten().unwrap_or_else(|| "?".to_string());
                    let module = self.strings.pop().flatten().unwrap_or_else(|| "?".to_string());
                    names.insert(format!("{module} {name}"));
                    self.push(None);
                }
                b'R' | 0x81 | 0x92 | b'o' => {
                    *calls += 1;
                    self.push(None);
                }
                b'b' => *calls += 1,
                // Strings.
                0x8c | b'U' => self.string(1)?,
                b'X' | b'T' => self.string(4)?,
                0x8d => self.string(8)?,
                b'V' | b'S' => {
                    let s = self.line()?;
                    self.push(Some(s.trim_matches(['\'', '"']).to_string()));
                }
                // Bytes.
                b'C' => self.skip(1)?,
                b'B' => self.skip(4)?,
                0x8e | 0x96 => self.skip(8)?,
                // Numbers.
                b'K' => self.drop_bytes(1)?,
                b'M' => self.drop_bytes(2)?,
                b'J' => self.drop_bytes(4)?,
                b'G' => self.drop_bytes(8)?,
                0x8a => self.skip(1)?,
                0x8b => self.skip(4)?,
                b'I' | b'L' | b'F' | b'P' => {
                    self.line()?;
                    self.push(None);
                }
                // Extension registry: names that only the opening process knows.
                0x82 | 0x83 | 0x84 => {
                    self.take([1, 2, 4][op as usize - 0x82])?;
                    names.insert("? extension".to_string());
                    self.push(None);
                }
                // Memo.
                b'q' | b'r' | b'p' | 0x94 => {
                    let index = match op {
                        b'q' => self.number(1)?,
                        b'r' => self.number(4)?,
                        b'p' => self.line()?.parse().unwrap_or(u64::MAX),
                        _ => self.memo.len() as u64,
                    };
                    if self.memo.len() < 1 << 22 {
                        let top = self.strings.last().cloned().flatten();
                        self.memo.insert(index, top);
                    }
                }
                b'h' | b'j' | b'g' => {
                    let index = match op {
                        b'h' => self.number(1)?,
                        b'j' => self.number(4)?,
                        _ => self.line()?.parse().unwrap_or(u64::MAX),
                    };
                    let s = self.memo.get(&index).cloned().flatten();
                    self.push(s);
                }
                // Pushes without an argument, and what takes from the stack: neither is a string.
                b'N' | 0x88 | 0x89 | b']' | b'}' | b')' | 0x8f | b't' | b'l' | b'd' | 0x85 | 0x86 | 0x87 | 0x91
                | b'Q' | 0x97 | 0x98 => self.push(None),
                b'(' | b'a' | b'e' | b's' | b'u' | 0x90 | b'0' | b'1' | b'2' => {}
                other => return Err(format!("opcode {other:#04x} at byte {} is unknown", self.at - 1)),
            }
        }
    }

    fn skip(&mut self, length: usize) -> Result<(), String> {
        let n = self.number(length)?;
        self.take(n)?;
        self.push(None);
        Ok(())
    }

    fn drop_bytes(&mut self, n: u64) -> Result<(), String> {
        self.take(n)?;
        self.push(None);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::scan;

    #[test]
    fn imports_are_found_however_they_are_written() {
        let names = |bytes: &[u8]| scan(bytes).0.into_iter().collect::<Vec<_>>();
        assert_eq!(names(b"cos\nsystem\n(S'ls'\ntR."), ["os system"]);
        assert_eq!(
            names(b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93\x94\x8c\x02ls\x94\x85\x94R\x94."),
            ["os system"]
        );
        assert_eq!(names(b"\x80\x02X\x02\0\0\0osq\x01X\x06\0\0\0systemq\x02h\x01h\x02\x93."), ["os system"]);
        // Put together while it runs: unknown, and said so.
        assert_eq!(names(b"\x80\x04N\x8c\x06system\x93."), ["? system"]);
        assert!(scan(b"\x80\x04X\xff\xff\xff\x7fos").2.is_err());
        assert!(scan(b"\x80\x04\xf0").2.is_err());
    }
}
