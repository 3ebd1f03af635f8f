//! Fields of a protobuf message, without a copy.

/// One field.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Fixed,
}

/// Walks the fields of a message; `Err` says what is wrong with it and where.
pub(crate) fn fields<'a>(
    bytes: &'a [u8],
    mut each: impl FnMut(u32, Field<'a>) -> Result<(), String>,
) -> Result<(), String> {
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        let tag = varint(bytes, &mut at).ok_or_else(|| format!("a tag is cut off at byte {start}"))?;
        let number = u32::try_from(tag >> 3).map_err(|_| format!("field number {} at byte {start}", tag >> 3))?;
        let field = match tag & 7 {
            0 => Field::Number(varint(bytes, &mut at).ok_or_else(|| format!("a number is cut off at byte {start}"))?),
            1 => take(bytes, &mut at, 8, number, start).map(|_| Field::Fixed)?,
            5 => take(bytes, &mut at, 4, number, start).map(|_| Field::Fixed)?,
            2 => {
                let n = varint(bytes, &mut at).ok_or_else(|| format!("a length is cut off at byte {start}"))?;
                Field::Bytes(take(bytes, &mut at, n, number, start)?)
            }
            w => return Err(format!("wire type {w} of field {number} at byte {start}")),
        };
        each(number, field)?;
    }
    Ok(())
}

fn take<'a>(bytes: &'a [u8], at: &mut usize, n: u64, number: u32, start: usize) -> Result<&'a [u8], String> {
    let end = usize::try_from(n).ok().and_then(|n| at.checked_add(n)).filter(|&e| e <= bytes.len());
    let left = bytes.len() - *at;
    let end = end.ok_or_else(|| format!("field {number} at byte {start} states {n} bytes, {left} are left"))?;
    let part = &bytes[*at..end];
    *at = end;
    Ok(part)
}

pub(crate) fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
