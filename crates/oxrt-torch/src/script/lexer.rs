//! Tokens of a `code/*.py` file. Indentation becomes [`Token::Indent`] and [`Token::Dedent`].

use super::ast::Line;
use oxrt_tensor::{Error, Result, bail};
use std::rc::Rc;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    Name(Rc<str>),
    Int(i64),
    Float(f64),
    Imaginary(f64),
    Text(Rc<str>),
    /// One of `( ) [ ] { } , : = . - + * ; ->`
    Sign(&'static str),
    Newline,
    Indent,
    Dedent,
    End,
}

const SIGNS: &[&str] = &["->", "(", ")", "[", "]", "{", "}", ",", ":", "=", ".", "-", "+", "*", ";"];

/// Tokens with their places.
pub(crate) fn tokens(text: &str) -> Result<Vec<(Token, Line)>> {
    let mut out = Vec::new();
    let mut indents = vec![0usize];
    let mut depth = 0usize;
    let bytes = text.as_bytes();
    let (mut at, mut line) = (0usize, 1u32);
    let mut line_start = true;
    while at < bytes.len() {
        let here = |at: usize| Line { number: line, byte: at as u32 };
        if line_start && depth == 0 {
            let width = bytes[at..].iter().take_while(|&&b| b == b' ').count();
            at += width;
            match bytes.get(at) {
                None => break,
                Some(b'\n') | Some(b'\r') | Some(b'#') => {}
                Some(_) => indent(width, &mut indents, &mut out, here(at))?,
            }
        }
        line_start = false;
        let Some(&b) = bytes.get(at) else { break };
        match b {
            b'\n' => {
                if depth == 0 && !matches!(out.last(), None | Some((Token::Newline | Token::Indent | Token::Dedent, _)))
                {
                    out.push((Token::Newline, here(at)));
                }
                line += 1;
                at += 1;
                line_start = true;
            }
            b' ' | b'\t' | b'\r' => at += 1,
            b'#' => at += bytes[at..].iter().take_while(|&&b| b != b'\n').count(),
            b'"' | b'\'' => {
                let (value, len) = string(&text[at..]).ok_or_else(|| bad(line, "text without end"))?;
                out.push((Token::Text(value.into()), here(at)));
                at += len;
            }
            b'0'..=b'9' => {
                let (token, len) = number(&text[at..]).ok_or_else(|| bad(line, "not a number"))?;
                out.push((token, here(at)));
                at += len;
            }
            b if b == b'_' || b.is_ascii_alphabetic() => {
                let len = bytes[at..].iter().take_while(|&&b| b == b'_' || b.is_ascii_alphanumeric()).count();
                out.push((Token::Name(text[at..at + len].into()), here(at)));
                at += len;
            }
            _ => {
                let Some(sign) = SIGNS.iter().copied().find(|s| text[at..].starts_with(s)) else {
                    return Err(bad(line, &format!("the character {:?}", text[at..].chars().next().unwrap_or(' '))));
                };
                match sign {
                    "(" | "[" | "{" => depth += 1,
                    ")" | "]" | "}" => depth = depth.saturating_sub(1),
                    _ => {}
                }
                out.push((Token::Sign(sign), here(at)));
                at += sign.len();
            }
        }
    }
    let end = Line { number: line, byte: at as u32 };
    if !matches!(out.last(), None | Some((Token::Newline, _))) {
        out.push((Token::Newline, end));
    }
    out.extend(indents.iter().skip(1).map(|_| (Token::Dedent, end)));
    out.push((Token::End, end));
    Ok(out)
}

fn bad(line: u32, what: &str) -> Error {
    Error::invalid(format!("line {line}: {what}"))
}

fn indent(width: usize, indents: &mut Vec<usize>, out: &mut Vec<(Token, Line)>, at: Line) -> Result<()> {
    let now = indents.last().copied().unwrap_or(0);
    if width > now {
        if indents.len() > 200 {
            bail!(invalid, "line {}: blocks nested deeper than 200", at.number);
        }
        indents.push(width);
        out.push((Token::Indent, at));
        return Ok(());
    }
    while indents.last().is_some_and(|&w| w > width) {
        indents.pop();
        out.push((Token::Dedent, at));
    }
    if indents.last() != Some(&width) {
        bail!(invalid, "line {}: the indentation of {width} fits no block", at.number);
    }
    Ok(())
}

/// Integers, floats and imaginary numbers; the length that was read.
fn number(text: &str) -> Option<(Token, usize)> {
    let bytes = text.as_bytes();
    let digits = |from: usize| bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    let mut len = digits(0);
    let mut float = false;
    if bytes.get(len) == Some(&b'.') {
        float = true;
        len += 1 + digits(len + 1);
    }
    if matches!(bytes.get(len), Some(b'e' | b'E')) {
        let sign = matches!(bytes.get(len + 1), Some(b'+' | b'-')) as usize;
        let n = digits(len + 1 + sign);
        if n > 0 {
            float = true;
            len += 1 + sign + n;
        }
    }
    let value = &text[..len];
    if matches!(bytes.get(len), Some(b'j')) {
        return Some((Token::Imaginary(value.parse().ok()?), len + 1));
    }
    if float {
        return Some((Token::Float(value.parse().ok()?), len));
    }
    // -9223372036854775808 is written as a sign and a number that only an unsigned one holds.
    let value: u64 = value.parse().ok()?;
    Some((Token::Int(i64::try_from(value).unwrap_or(i64::MIN)), len))
}

/// A quoted text with its escapes resolved; the length that was read.
fn string(text: &str) -> Option<(String, usize)> {
    let quote = text.chars().next()?;
    let mut bytes: Vec<u8> = Vec::new();
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((i, c)) = chars.next() {
        if c == quote {
            return Some((String::from_utf8_lossy(&bytes).into_owned(), i + c.len_utf8()));
        }
        if c != '\\' {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let (_, e) = chars.next()?;
        match e {
            'n' => bytes.push(b'\n'),
            't' => bytes.push(b'\t'),
            'r' => bytes.push(b'\r'),
            'a' => bytes.push(7),
            'b' => bytes.push(8),
            'f' => bytes.push(12),
            'v' => bytes.push(11),
            'x' => {
                let (_, a) = chars.next()?;
                let (_, b) = chars.next()?;
                bytes.push((a.to_digit(16)? * 16 + b.to_digit(16)?) as u8);
            }
            '0'..='7' => {
                let mut value = e.to_digit(8)?;
                for _ in 0..2 {
                    let Some(d) = chars.peek().and_then(|(_, c)| c.to_digit(8)) else { break };
                    value = value * 8 + d;
                    chars.next();
                }
                bytes.push(value as u8);
            }
            other => bytes.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_numbers_and_text() {
        let all: Vec<Token> = tokens("if x:\n  y = 1.5e-05\nelse:\n  pass\nz = \"a\\n\\\"\\303\\251\"\n")
            .unwrap()
            .into_iter()
            .map(|t| t.0)
            .collect();
        assert_eq!(all.iter().filter(|t| **t == Token::Indent).count(), 2);
        assert_eq!(all.iter().filter(|t| **t == Token::Dedent).count(), 2);
        assert!(all.contains(&Token::Float(1.5e-5)));
        assert!(all.contains(&Token::Text("a\n\"é".into())));
        assert!(tokens("x = \"abc").is_err());
        assert!(tokens("x = ?").is_err());
    }
}
