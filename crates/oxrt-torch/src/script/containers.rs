//! Lists, tuples and dicts.

use super::interp::Interp;
use super::numbers::is_number;
use super::value::{Cell, Ref, Sv, same};
use crate::cx::Cx;
use oxrt_ir::{Attrs, Dim, ValueId};
use oxrt_tensor::{Error, Result, bail};
use std::rc::Rc;

impl Interp<'_> {
    pub fn int(&self, v: &Sv) -> Result<Dim> {
        match v {
            Sv::Int(d) => Ok(d.clone()),
            Sv::Bool(b) => Ok(Dim::Const(*b as i64)),
            other => bail!(invalid, "an int is needed, found a {}", other.kind()),
        }
    }

    pub(super) fn const_int(&self, v: &Sv) -> Result<i64> {
        let d = self.int(v)?;
        d.as_const().ok_or_else(|| Error::unsupported(format!("a number `{d}` that depends on the input's sizes")))
    }

    pub fn items(&self, v: &Sv) -> Result<Vec<Sv>> {
        match v {
            Sv::Tuple(items) => Ok(items.to_vec()),
            Sv::NamedTuple(_, items) => Ok(items.iter().map(|f| f.1.clone()).collect()),
            Sv::List(r) => match self.heap.get(*r) {
                Cell::List(items) => Ok(items.clone()),
                _ => bail!(unsupported, "a list whose length is known at run time only"),
            },
            Sv::Dict(r) => match self.heap.get(*r) {
                Cell::Dict(pairs) => Ok(pairs.iter().map(|p| p.0.clone()).collect()),
                _ => bail!(bug, "a dict that is none"),
            },
            other => bail!(invalid, "a list is needed, found a {}", other.kind()),
        }
    }

    /// `list[index]`
    pub fn item(&mut self, cx: &mut Cx<'static, '_>, list: &Sv, index: &Sv) -> Result<Sv> {
        match list {
            Sv::Dict(r) => {
                let Cell::Dict(pairs) = self.heap.get(*r) else { bail!(bug, "a dict that is none") };
                let found = pairs.iter().find(|(k, _)| same(k, index)).map(|p| p.1.clone());
                found.ok_or_else(|| Error::invalid(format!("a dict has no key {index:?}")))
            }
            Sv::List(r) if matches!(self.heap.get(*r), Cell::Sequence(_)) => {
                let Cell::Sequence(seq) = *self.heap.get(*r) else { bail!(bug, "a sequence that is none") };
                let at = self.int(index)?;
                let at = cx.dim_scalar(&at)?;
                let v = cx.call("SequenceAt", &[seq, at])?;
                Ok(Sv::Tensor(cx.new_tensor(v)))
            }
            Sv::Text(s) => {
                let chars: Vec<char> = s.chars().collect();
                let at = self.place_of(index, chars.len())?;
                Ok(Sv::Text(chars[at].to_string().into()))
            }
            Sv::Tensor(_) => self.call_torch(cx, "select", vec![list.clone(), Sv::int(0), index.clone()], Vec::new()),
            _ => {
                let items = self.items(list)?;
                if self.int(index)?.as_const().is_none() {
                    return self.item_at_run_time(cx, &items, index);
                }
                let at = self.place_of(index, items.len())?;
                Ok(items[at].clone())
            }
        }
    }

    /// An element of a list whose place is known at run time only: tensors as a sequence, numbers as a vector.
    pub(super) fn item_at_run_time(&mut self, cx: &mut Cx<'static, '_>, items: &[Sv], index: &Sv) -> Result<Sv> {
        let at = self.int(index)?;
        let at = cx.dim_scalar(&at)?;
        if items.iter().all(|i| matches!(i, Sv::Tensor(_))) && !items.is_empty() {
            let seq = self.sequence_of(cx, items)?;
            let v = cx.call("SequenceAt", &[seq, at])?;
            return Ok(Sv::Tensor(cx.new_tensor(v)));
        }
        if !items.is_empty() && items.iter().all(is_number) {
            let mut parts = Vec::new();
            for i in items {
                let v = self.scalar_value(cx, i)?;
                parts.push(cx.b.unsqueeze(v, &[0])?);
            }
            let all = cx.concat(&parts, 0)?;
            let v = cx.op("Gather", &[all, at], Attrs::new().with("axis", 0))?;
            return self.number_of(cx, v);
        }
        bail!(unsupported, "an index that is known at run time only, into a list of other than tensors and numbers")
    }

    pub fn sequence_of(&mut self, cx: &mut Cx<'static, '_>, items: &[Sv]) -> Result<ValueId> {
        let mut values = Vec::new();
        for i in items {
            let Sv::Tensor(id) = i else { bail!(unsupported, "a list of {} at run time", i.kind()) };
            values.push(cx.read(*id)?);
        }
        cx.call("SequenceConstruct", &values)
    }

    pub(super) fn place_of(&self, index: &Sv, len: usize) -> Result<usize> {
        let i = self.const_int(index)?;
        let at = if i < 0 { i + len as i64 } else { i };
        usize::try_from(at)
            .ok()
            .filter(|&at| at < len)
            .ok_or_else(|| Error::invalid(format!("the index {i} into a list of {len}")))
    }

    pub fn set_item(&mut self, list: &Sv, index: &Sv, v: Sv) -> Result<()> {
        match list {
            Sv::Dict(r) => {
                let Cell::Dict(pairs) = self.heap.get_mut(*r) else { bail!(bug, "a dict that is none") };
                match pairs.iter_mut().find(|(k, _)| same(k, index)) {
                    Some(pair) => pair.1 = v,
                    None => pairs.push((index.clone(), v)),
                }
                Ok(())
            }
            Sv::List(r) => {
                let len = self.items(list)?.len();
                let at = self.place_of(index, len)?;
                let Cell::List(items) = self.heap.get_mut(*r) else { bail!(bug, "a list that is none") };
                items[at] = v;
                Ok(())
            }
            other => bail!(unsupported, "an element of a {} is set", other.kind()),
        }
    }

    pub(super) fn list_mut(&mut self, r: Ref) -> Result<&mut Vec<Sv>> {
        match self.heap.get_mut(r) {
            Cell::List(items) => Ok(items),
            _ => bail!(unsupported, "a list whose length is known at run time only"),
        }
    }

    pub(super) fn slice_items(&self, items: &[Sv], args: &[Sv]) -> Result<Vec<Sv>> {
        let n = items.len() as i64;
        let bound = |v: Option<&Sv>, default: i64| -> Result<i64> {
            match v {
                None | Some(Sv::None) => Ok(default),
                Some(v) => {
                    let i = self.const_int(v)?;
                    Ok(if i < 0 { i + n } else { i }.clamp(0, n))
                }
            }
        };
        let step = match args.get(2) {
            None | Some(Sv::None) => 1,
            Some(v) => self.const_int(v)?,
        };
        if step <= 0 {
            bail!(unsupported, "a slice of a list with step {step}");
        }
        let (from, to) = (bound(args.first(), 0)?, bound(args.get(1), n)?);
        Ok((from..to).step_by(step as usize).map(|i| items[i as usize].clone()).collect())
    }

    pub(super) fn on_dict(&mut self, name: &str, r: Ref, rest: &[Sv]) -> Result<Sv> {
        let Cell::Dict(pairs) = self.heap.get_mut(r) else { bail!(bug, "a dict that is none") };
        let at = rest.first().and_then(|k| pairs.iter().position(|p| same(&p.0, k)));
        Ok(match (name, rest) {
            ("keys", []) => {
                let items = pairs.iter().map(|p| p.0.clone()).collect();
                self.heap.list(items)
            }
            ("values", []) => {
                let items = pairs.iter().map(|p| p.1.clone()).collect();
                self.heap.list(items)
            }
            ("items", []) => {
                let items = pairs.iter().map(|p| Sv::Tuple(Rc::new(vec![p.0.clone(), p.1.clone()]))).collect();
                self.heap.list(items)
            }
            ("get", [_, default @ ..]) => match at {
                Some(i) => pairs[i].1.clone(),
                None => default.first().cloned().unwrap_or(Sv::None),
            },
            ("setdefault", [k, v]) => match at {
                Some(i) => pairs[i].1.clone(),
                None => {
                    pairs.push((k.clone(), v.clone()));
                    v.clone()
                }
            },
            ("pop", [_, default @ ..]) => match at {
                Some(i) => pairs.remove(i).1,
                None => default
                    .first()
                    .cloned()
                    .ok_or_else(|| Error::invalid("a dict lacks the key that it should lose"))?,
            },
            ("Delete", [_]) => {
                let i = at.ok_or_else(|| Error::invalid("a dict lacks the key that it should lose"))?;
                pairs.remove(i);
                Sv::None
            }
            ("clear", []) => {
                pairs.clear();
                Sv::None
            }
            ("update", [Sv::Dict(other)]) => {
                let Cell::Dict(more) = self.heap.get(*other).clone() else { bail!(bug, "a dict that is none") };
                for (k, v) in more {
                    self.set_item(&Sv::Dict(r), &k, v)?;
                }
                Sv::None
            }
            _ => bail!(unsupported, "`{name}` of a dict with {} arguments", rest.len()),
        })
    }
}
