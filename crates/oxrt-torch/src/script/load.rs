//! The object tree of a script (`data.pkl`) and its constants (`constants.pkl`) as script values.

use super::value::{Cell, Heap, Sv};
use crate::cx::Cx;
use crate::pickle::{Id, Pickle, Value};
use oxrt_ir::Tensor;
use oxrt_tensor::{Context, Error, Result, bail};
use rustc_hash::FxHashMap;
use std::rc::Rc;

/// Deepest nesting of modules.
const MAX_DEPTH: usize = 100;

pub(crate) struct Loader<'a> {
    pickle: &'a Pickle,
    memo: FxHashMap<Id, Sv>,
    /// Ids being loaded, to find cycles.
    under_way: Vec<Id>,
}

impl<'a> Loader<'a> {
    pub fn new(pickle: &'a Pickle) -> Loader<'a> {
        Loader { pickle, memo: FxHashMap::default(), under_way: Vec::new() }
    }

    pub fn root(&mut self, cx: &mut Cx<'static, '_>, heap: &mut Heap, path: &str) -> Result<Sv> {
        self.value(cx, heap, self.pickle.root, path)
    }

    fn value(&mut self, cx: &mut Cx<'static, '_>, heap: &mut Heap, id: Id, path: &str) -> Result<Sv> {
        if let Some(v) = self.memo.get(&id) {
            return Ok(v.clone());
        }
        if self.under_way.contains(&id) || self.under_way.len() > MAX_DEPTH {
            bail!(invalid, "the module `{path}` contains itself, or modules nest deeper than {MAX_DEPTH}");
        }
        self.under_way.push(id);
        let v = self.build(cx, heap, id, path);
        self.under_way.pop();
        let v = v?;
        self.memo.insert(id, v.clone());
        Ok(v)
    }

    fn build(&mut self, cx: &mut Cx<'static, '_>, heap: &mut Heap, id: Id, path: &str) -> Result<Sv> {
        let pickle = self.pickle;
        let under = |name: &str| if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
        Ok(match pickle.value(id) {
            Value::None => Sv::None,
            Value::Int(x) => Sv::int(*x),
            Value::Bool(b) => Sv::Bool(*b),
            Value::Float(x) => Sv::Float(*x),
            Value::Text(s) => Sv::Text(s.as_str().into()),
            Value::Tensor(t) => self.tensor(cx, t, path)?,
            Value::Tuple(ids) => {
                let mut items = Vec::new();
                for (i, &id) in ids.iter().enumerate() {
                    items.push(self.value(cx, heap, id, &under(&i.to_string()))?);
                }
                Sv::Tuple(Rc::new(items))
            }
            Value::List(ids) => {
                let mut items = Vec::new();
                for (i, &id) in ids.iter().enumerate() {
                    items.push(self.value(cx, heap, id, &under(&i.to_string()))?);
                }
                heap.list(items)
            }
            Value::Dict(pairs) => {
                let mut out = Vec::new();
                for (k, v) in pairs {
                    let key = self.value(cx, heap, *k, path)?;
                    let name = if let Sv::Text(s) = &key { s.to_string() } else { "item".to_string() };
                    out.push((key, self.value(cx, heap, *v, &under(&name))?));
                }
                Sv::Dict(heap.add(Cell::Dict(out)))
            }
            Value::Object(class, state) => {
                let class: Rc<str> = class.replace(' ', ".").into();
                let mut fields = Vec::new();
                if let Some(state) = state {
                    let Value::Dict(pairs) = pickle.value(*state) else {
                        return Err(Error::unsupported(format!("the module `{path}` ({class}) has a packed state"))
                            .help("quantized modules are not read; export the float model"));
                    };
                    for (k, v) in pairs {
                        let Value::Text(name) = pickle.value(*k) else {
                            bail!(invalid, "an attribute of `{path}` has no name")
                        };
                        fields.push((name.as_str().into(), self.value(cx, heap, *v, &under(name))?));
                    }
                }
                Sv::Object(heap.add(Cell::Object { class, path: path.into(), fields }))
            }
            Value::Shape(..) => bail!(invalid, "a tensor without data"),
            Value::Global(name) => bail!(unsupported, "the class `{name}` as a value"),
            Value::Storage { .. } | Value::Mark => bail!(invalid, "a pickle that holds a bare storage"),
        })
    }

    fn tensor(&mut self, cx: &mut Cx<'static, '_>, t: &Tensor, path: &str) -> Result<Sv> {
        let complex = t.dtype().is_complex();
        let real = crate::import::split_complex(t.clone()).at(|| path.to_string())?;
        let mut name = if path.is_empty() { "constant".to_string() } else { path.to_string() };
        while !cx.taken.insert(name.clone()) {
            name.push('_');
        }
        let v = cx.b.graph.add_constant(&name, real);
        if complex {
            cx.complex.insert(v);
        }
        Ok(Sv::Tensor(cx.new_tensor(v)))
    }
}
