//! ZIP archives (`.pt2`, `.pt`, `.npz`), by their directory alone: names, sizes, overlaps, and the pickles inside.

use super::{AuditReport, Severity, pickle, printable};
use std::collections::HashMap;

/// A member may unpack to this many times its packed size; text comes to about 20, zeros to 1000.
const RATIO: u64 = 200;

struct Entry {
    name: String,
    method: u16,
    flags: u16,
    packed: u64,
    unpacked: u64,
    header: u64,
    mode: u32,
}

fn le(bytes: &[u8], at: usize, n: usize) -> Option<u64> {
    Some(bytes.get(at..at.checked_add(n)?)?.iter().rev().fold(0, |x, &b| x << 8 | u64::from(b)))
}

pub(super) fn audit(bytes: &[u8], r: &mut AuditReport) {
    let Some(entries) = directory(bytes) else {
        return r.add(
            Severity::High,
            "damaged",
            "",
            "the directory of the archive is missing, cut off or points outside",
        );
    };
    let (mut total, mut seen) = (0u64, HashMap::new());
    let mut spans: Vec<(u64, u64, usize)> = Vec::new();
    for (i, e) in entries.iter().enumerate() {
        let name = e.name.as_str();
        total = total.saturating_add(e.unpacked);
        if name.starts_with('/')
            || name.contains('\\')
            || name.as_bytes().get(1) == Some(&b':')
            || name.split('/').any(|p| p == "..")
        {
            r.add(Severity::High, "member-path", name, "a member that would be written outside of the folder");
        }
        if e.mode >> 12 == 0o12 {
            r.add(Severity::High, "member-symlink", name, "a symbolic link");
        }
        if *seen.entry(name).and_modify(|n| *n += 1).or_insert(1) == 2 {
            r.add(
                Severity::High,
                "member-twice",
                name,
                "two members of this name: readers disagree on which they take",
            );
        }
        if e.flags & 1 != 0 {
            r.add(Severity::Medium, "encrypted", name, "it cannot be looked into");
        }
        if e.unpacked > e.packed.saturating_mul(RATIO) && e.unpacked > 1 << 20 {
            r.add(Severity::High, "zip-bomb", name, format!("{} bytes unpack to {}", e.packed, e.unpacked));
        }
        if e.method == 0 && e.packed != e.unpacked {
            r.add(
                Severity::High,
                "length-mismatch",
                name,
                format!("stored as it is, yet {} bytes and {}", e.packed, e.unpacked),
            );
        }
        if [".so", ".dll", ".dylib", ".exe", ".cubin", ".o"].iter().any(|x| name.ends_with(x)) {
            r.add(Severity::High, "native-code", name, "a library or program for a machine");
        }
        let Some((start, local)) = data_of(bytes, e) else {
            r.add(Severity::High, "damaged", name, "its data lies outside of the file");
            continue;
        };
        if local != name {
            r.add(
                Severity::High,
                "name-mismatch",
                name,
                format!("at its place the archive calls it `{}`", printable(&local)),
            );
        }
        spans.push((e.header, start + e.packed, i));
        if (name.ends_with(".pkl") || name.ends_with(".pickle")) && e.method == 0 && e.flags & 1 == 0 {
            pickle::audit(&bytes[start as usize..(start + e.packed) as usize], name, r);
        } else if name.ends_with(".pkl") {
            r.add(Severity::Medium, "packed-pickle", name, "a compressed pickle, which was not looked into");
        }
    }
    spans.sort_unstable();
    for pair in spans.windows(2) {
        if pair[1].0 < pair[0].1 {
            let what = format!("it shares bytes with `{}`", entries[pair[0].2].name);
            r.add(Severity::High, "overlap", entries[pair[1].2].name.as_str(), what);
        }
    }
    if total > (bytes.len() as u64).saturating_mul(RATIO) {
        r.add(Severity::High, "zip-bomb", "", format!("a file of {} bytes unpacks to {total}", bytes.len()));
    }
    let code = entries.iter().filter(|e| e.name.ends_with(".py")).count();
    if code > 0 {
        r.fact("python files", code);
    }
    r.fact("members", entries.len());
    r.fact("bytes unpacked", total);
    if entries.iter().any(|e| e.name.ends_with("data.pkl")) {
        r.fact("reader", "oxrt reads its pickles by a closed list of names and executes nothing");
    }
}

/// Start of a member's bytes, and its name by its local header.
fn data_of(bytes: &[u8], e: &Entry) -> Option<(u64, String)> {
    let at = usize::try_from(e.header).ok()?;
    if bytes.get(at..at.checked_add(4)?)? != b"PK\x03\x04" {
        return None;
    }
    let (name, extra) = (le(bytes, at + 26, 2)? as usize, le(bytes, at + 28, 2)? as usize);
    let text = String::from_utf8_lossy(bytes.get(at + 30..at + 30 + name)?).into_owned();
    let start = (at + 30 + name + extra) as u64;
    (start.checked_add(e.packed)? <= bytes.len() as u64).then_some((start, text))
}

fn directory(bytes: &[u8]) -> Option<Vec<Entry>> {
    let tail = bytes.len().saturating_sub(22 + 65535);
    let end = (tail..bytes.len().saturating_sub(21)).rev().find(|&i| bytes[i..].starts_with(b"PK\x05\x06"))?;
    let (mut count, mut start) = (le(bytes, end + 10, 2)?, le(bytes, end + 16, 4)?);
    if count == 0xffff || start == 0xffff_ffff || le(bytes, end + 12, 4)? == 0xffff_ffff {
        let locator = end.checked_sub(20).filter(|&l| bytes[l..].starts_with(b"PK\x06\x07"))?;
        let wide = usize::try_from(le(bytes, locator + 8, 8)?).ok()?;
        if !bytes.get(wide..)?.starts_with(b"PK\x06\x06") {
            return None;
        }
        (count, start) = (le(bytes, wide + 32, 8)?, le(bytes, wide + 48, 8)?);
    }
    let mut at = usize::try_from(start).ok()?;
    let mut entries = Vec::new();
    // Each entry takes 46 bytes at least: the count cannot ask for more than the file has.
    for _ in 0..count.min(bytes.len() as u64 / 46 + 1) {
        if !bytes.get(at..)?.starts_with(b"PK\x01\x02") {
            return None;
        }
        let word = |k: usize, n: usize| le(bytes, at + k, n);
        let (name, extra, comment) = (word(28, 2)? as usize, word(30, 2)? as usize, word(32, 2)? as usize);
        let mut e = Entry {
            name: String::from_utf8_lossy(bytes.get(at + 46..at + 46 + name)?).into_owned(),
            method: word(10, 2)? as u16,
            flags: word(8, 2)? as u16,
            packed: word(20, 4)?,
            unpacked: word(24, 4)?,
            header: word(42, 4)?,
            mode: (word(38, 4)? >> 16) as u32,
        };
        // Sizes of more than 32 bits stand in the extra field, those that are needed, in this order.
        let mut extras = bytes.get(at + 46 + name..at + 46 + name + extra)?;
        while extras.len() >= 4 {
            let (id, len) = (le(extras, 0, 2)?, le(extras, 2, 2)? as usize);
            let body = extras.get(4..4 + len)?;
            if id == 1 {
                let mut next = 0;
                for field in [&mut e.unpacked, &mut e.packed, &mut e.header] {
                    if *field == 0xffff_ffff {
                        *field = le(body, next, 8)?;
                        next += 8;
                    }
                }
            }
            extras = &extras[4 + len..];
        }
        entries.push(e);
        at += 46 + name + extra + comment;
    }
    Some(entries)
}
