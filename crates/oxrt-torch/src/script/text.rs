//! Text.

use super::interp::Interp;
use super::value::Sv;
use oxrt_tensor::{Result, bail};
use std::rc::Rc;

fn text(v: &Sv) -> Result<Rc<str>> {
    match v {
        Sv::Text(s) => Ok(s.clone()),
        other => bail!(invalid, "text is needed, found a {}", other.kind()),
    }
}

impl Interp<'_> {
    pub fn show(&self, v: &Sv) -> String {
        match v {
            Sv::None => "None".into(),
            Sv::Int(d) => d.to_string(),
            Sv::Float(x) if x.fract() == 0.0 && x.abs() < 1e16 => format!("{x:.1}"),
            Sv::Float(x) => x.to_string(),
            Sv::Bool(b) => if *b { "True" } else { "False" }.into(),
            Sv::Text(s) | Sv::Device(s) => s.to_string(),
            Sv::List(_) | Sv::Tuple(_) => {
                let items = self.items(v).unwrap_or_default();
                let items: Vec<String> = items.iter().map(|i| self.show(i)).collect();
                if matches!(v, Sv::List(_)) {
                    format!("[{}]", items.join(", "))
                } else {
                    format!("({})", items.join(", "))
                }
            }
            other => format!("<{}>", other.kind()),
        }
    }

    pub(super) fn format(&self, args: &[Sv]) -> Result<String> {
        let pattern = text(args.first().unwrap_or(&Sv::None))?;
        let mut out = String::new();
        let mut values = args[1..].iter();
        let mut rest = &*pattern;
        while let Some(at) = rest.find('{') {
            out.push_str(&rest[..at]);
            let Some(end) = rest[at..].find('}') else { break };
            out.push_str(&values.next().map(|v| self.show(v)).unwrap_or_default());
            rest = &rest[at + end + 1..];
        }
        out.push_str(rest);
        Ok(out)
    }

    pub(super) fn on_text(&mut self, name: &str, s: &str, args: &[Sv]) -> Result<Option<Sv>> {
        let arg = |i: usize| args.get(i).and_then(|v| text(v).ok());
        let owned = |s: String| Sv::Text(s.into());
        Ok(Some(match name {
            "len" => Sv::int(s.chars().count() as i64),
            "lower" => owned(s.to_lowercase()),
            "upper" => owned(s.to_uppercase()),
            "strip" => owned(s.trim().to_string()),
            "lstrip" => owned(s.trim_start().to_string()),
            "rstrip" => owned(s.trim_end().to_string()),
            "startswith" => Sv::Bool(s.starts_with(&*arg(0).unwrap_or_default())),
            "endswith" => Sv::Bool(s.ends_with(&*arg(0).unwrap_or_default())),
            "find" => Sv::int(s.find(&*arg(0).unwrap_or_default()).map_or(-1, |i| i as i64)),
            "__contains__" => Sv::Bool(s.contains(&*arg(0).unwrap_or_default())),
            "replace" => owned(s.replace(&*arg(0).unwrap_or_default(), &arg(1).unwrap_or_default())),
            "isdigit" => Sv::Bool(!s.is_empty() && s.chars().all(|c| c.is_ascii_digit())),
            "split" => {
                let parts: Vec<Sv> = match arg(0) {
                    Some(sep) => s.split(&*sep).map(|p| Sv::Text(p.into())).collect(),
                    None => s.split_whitespace().map(|p| Sv::Text(p.into())).collect(),
                };
                self.heap.list(parts)
            }
            "join" => {
                let parts = self.items(args.first().unwrap_or(&Sv::None))?;
                let parts = parts.iter().map(text).collect::<Result<Vec<_>>>()?;
                owned(parts.join(s))
            }
            "add" => owned(format!("{s}{}", arg(0).unwrap_or_default())),
            "mul" => owned(s.repeat(self.const_int(args.first().unwrap_or(&Sv::None))?.clamp(0, 1 << 16) as usize)),
            "ord" => Sv::int(s.chars().next().map_or(0, |c| c as i64)),
            "slice" => {
                let chars: Vec<Sv> = s.chars().map(|c| Sv::Text(c.to_string().into())).collect();
                let part = self.slice_items(&chars, args)?;
                owned(part.iter().map(|c| self.show(c)).collect())
            }
            "list" => {
                let chars: Vec<Sv> = s.chars().map(|c| Sv::Text(c.to_string().into())).collect();
                self.heap.list(chars)
            }
            _ => return Ok(None),
        }))
    }
}
