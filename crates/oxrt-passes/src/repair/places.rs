//! Parts of a dynamic axis that are named by numbers: slices, pieces, and places that are written.

use super::Walk;
use oxrt_ir::{Dim, NodeId, Tensor, ValueId};
use oxrt_tensor::Result;
use std::collections::BTreeSet;

impl Walk<'_> {
    pub(super) fn slice(&mut self, id: NodeId) -> Result<()> {
        let x = self.dims(id, 0);
        let axes = self.stated(id, 3);
        for i in [1, 2] {
            let Some(stated) = self.stated(id, i) else { continue };
            let mut list = stated.clone();
            for (k, d) in stated.iter().enumerate() {
                let axis = match &axes {
                    Some(a) => a.get(k).and_then(Dim::as_const).unwrap_or(0),
                    None => k as i64,
                };
                let axis = if axis < 0 { axis + x.len() as i64 } else { axis } as usize;
                let (Some(n), Some(size)) = (d.as_const(), x.get(axis)) else { continue };
                let Some(e) = self.at_example(size).filter(|_| self.is_dynamic(size)) else { continue };
                let within = self.within(size, n);
                if n == e && i == 2 {
                    list[k] = Dim::Const(i64::MAX);
                } else if let Some(part) = within {
                    list[k] = part;
                } else if n > 1 && n < e && (n * 2 == e || n * 3 == e || n * 4 == e) {
                    list[k] = size.floor_div(&Dim::Const(e / n));
                }
            }
            if list != stated {
                let which = if i == 1 { "starts" } else { "ends" };
                self.note(id, format!("the {which} {stated:?} of {x:?} should be {list:?}"), true);
                self.restate(id, i, &list)?;
            }
        }
        Ok(())
    }

    /// The symbol of a longer size (`time + 3`) whose example is `n`.
    pub(super) fn within(&self, size: &Dim, n: i64) -> Option<Dim> {
        let mut named = BTreeSet::new();
        size.for_each_symbol(&mut |s| {
            named.insert(s.clone());
        });
        let mut found = self.example.iter().filter(|(s, e)| **e == n && n > 1 && named.contains(s));
        let (s, _) = found.next().filter(|_| size.as_symbol().is_none())?;
        found.next().is_none().then(|| s.clone().into())
    }

    /// Lengths of pieces along a dynamic axis: equal ones are parts of it, else the longest takes what is left.
    pub(super) fn split(&mut self, id: NodeId) -> Result<()> {
        let x = self.dims(id, 0);
        let axis = self.model.graph[id].attrs.int_or("axis", 0)?;
        let axis = if axis < 0 { axis + x.len() as i64 } else { axis };
        let (Some(size), Some(stated)) = (usize::try_from(axis).ok().and_then(|a| x.get(a)), self.stated(id, 1)) else {
            return Ok(());
        };
        let lengths: Option<Vec<i64>> = stated.iter().map(Dim::as_const).collect();
        let (Some(lengths), true) = (lengths, self.is_dynamic(size)) else { return Ok(()) };
        if lengths.len() < 2 || Some(lengths.iter().sum()) != self.at_example(size) {
            return Ok(());
        }
        let mut list = stated.clone();
        let equal = lengths.iter().all(|&n| n == lengths[0]);
        if equal {
            list.fill(size.floor_div(&Dim::Const(lengths.len() as i64)));
        }
        let longest =
            (0..lengths.len()).rev().max_by_key(|&i| lengths[i]).filter(|_| !equal).unwrap_or(lengths.len() - 1);
        let others: Dim = (0..lengths.len()).filter(|&i| i != longest).map(|i| list[i].clone()).sum();
        list[longest] = size.clone() - others;
        self.note(id, format!("the lengths {stated:?} of {size} should be {list:?}"), true);
        self.restate(id, 1, &list)
    }

    /// Writes at places: a mesh that covers a dynamic axis of the example grows with it, a lone last place stays the last.
    pub(super) fn scatter(&mut self, id: NodeId) -> Result<()> {
        let (x, updates) = (self.dims(id, 0), self.dims(id, 2));
        if &*self.model.graph[id].op == "ScatterND" {
            self.scatter_mesh(id, &x, &updates)?;
            self.last_place(id)?;
        }
        let x = self.dims(id, 0);
        if x.len() == updates.len() {
            for (axis, wanted) in updates.iter().enumerate() {
                if self.is_dynamic(wanted) {
                    self.grow_input(id, 0, axis, wanted)?;
                }
            }
        }
        Ok(())
    }

    /// Places that are a constant: along axes where the updates are dynamic, or that a dynamic axis of the data is
    /// covered by.
    pub(super) fn scatter_mesh(&mut self, id: NodeId, x: &[Dim], updates: &[Dim]) -> Result<()> {
        let g = &self.model.graph;
        let Some(places) = g[id].input(1).and_then(|v| g.constant(v)).cloned() else { return Ok(()) };
        let shape = places.shape().to_vec();
        let Some((&depth, mesh)) = shape.split_last() else { return Ok(()) };
        let at = places.to_i64_vec()?;
        for axis in 0..mesh.len() {
            let n = mesh[axis] as i64;
            let inner: usize = mesh[axis + 1..].iter().product::<usize>() * depth;
            // The coordinate that runs from 0 along this axis of the mesh.
            let runs = |k: usize| (0..n as usize).all(|i| at[i * inner + k] == i as i64);
            let Some(k) = (0..depth).find(|&k| n > 1 && runs(k)) else { continue };
            let wanted = updates.get(axis).filter(|d| self.is_dynamic(d)).or(x.get(k).filter(|d| self.is_dynamic(d)));
            let Some(wanted) = wanted.filter(|d| self.at_example(d) == Some(n)).cloned() else { continue };
            self.grow_input(id, 1, axis, &wanted)?;
            self.grow_input(id, 0, k, &wanted)?;
            self.grow_input(id, 2, axis, &wanted)?;
        }
        Ok(())
    }

    /// A coordinate that is one number, the last of a dynamic axis in the example.
    pub(super) fn last_place(&mut self, id: NodeId) -> Result<()> {
        let x = self.dims(id, 0);
        let g = &self.model.graph;
        // Of a chain of writes each names its own place: a loop that was unrolled.
        let chained = |v: Option<ValueId>| v.and_then(|v| g.producer(v)).is_some_and(|n| &*n.op == "ScatterND");
        let read_on = g[id].outputs()[0].is_some_and(|v| g[v].users().iter().any(|&u| &*g[u].op == "ScatterND"));
        let before = g[id].input(0);
        let lone = !(read_on || chained(before) && self.writes_a_number(before));
        let Some(maker) = g[id].input(1).and_then(|v| g[v].producer()).map(|p| p.0) else { return Ok(()) };
        if &*g[maker].op != "Concat" || !lone {
            return Ok(());
        }
        for k in 0..g[maker].inputs().len() {
            let Some(e) = x.get(k).filter(|d| self.is_dynamic(d)).and_then(|d| self.at_example(d)) else { continue };
            let g = &self.model.graph;
            // Through what only spreads the number.
            let mut path = vec![(maker, k)];
            let number = loop {
                let (node, i) = path[path.len() - 1];
                let Some(v) = g[node].input(i) else { break None };
                if let Some(t) = g.constant(v) {
                    break Some(t.clone());
                }
                match g[v].producer() {
                    Some((p, _)) if matches!(&*g[p].op, "Expand" | "Unsqueeze" | "Reshape") => path.push((p, 0)),
                    _ => break None,
                }
            };
            let Some(t) = number.filter(|t| !t.is_empty()) else { continue };
            let values = t.to_i64_vec()?;
            if e <= 1 || values.iter().any(|&n| n != e - 1) {
                continue;
            }
            self.note(id, format!("the place {} of {} should be the last", e - 1, x[k]), true);
            let (node, i) = path[path.len() - 1];
            let mut b = self.builder(id);
            let last = b.constant(Tensor::from_i64(t.dtype(), t.shape(), &vec![-1; values.len()])?);
            self.model.graph.set_input(node, i, Some(last));
        }
        Ok(())
    }

    /// Whether the places of the `ScatterND` that makes `v` hold a coordinate that is one number.
    pub(super) fn writes_a_number(&self, v: Option<ValueId>) -> bool {
        let g = &self.model.graph;
        let Some(places) = v.and_then(|v| g.producer(v)).and_then(|n| n.input(1)) else { return false };
        let Some(concat) = g.producer(places) else { return g.constant(places).is_some_and(|t| t.len() == 1) };
        concat.inputs().iter().flatten().any(|&c| {
            let mut v = c;
            loop {
                if let Some(t) = g.constant(v) {
                    return t.len() == 1;
                }
                match g.producer(v) {
                    Some(n) if matches!(&*n.op, "Expand" | "Unsqueeze") => match n.input(0) {
                        Some(x) => v = x,
                        None => return false,
                    },
                    _ => return false,
                }
            }
        })
    }
}
