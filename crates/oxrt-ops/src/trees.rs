//! Forests of decision trees, from the attributes of both generations of operators.

use crate::ml::Rows;
use oxrt_ir::Attrs;
use oxrt_tensor::{Error, Result, Tensor, bail};
use std::collections::HashMap;

#[derive(Clone, Copy)]
enum Child {
    Node(usize),
    Leaf(usize),
}

enum Test {
    AtMost,
    Below,
    AtLeast,
    Above,
    Equal,
    Different,
    Member(Vec<f64>),
}

struct Node {
    feature: usize,
    test: Test,
    value: f64,
    yes: Child,
    no: Child,
    /// Where a missing value (NaN) goes.
    missing_yes: bool,
}

pub struct Forest {
    pub targets: usize,
    roots: Vec<Child>,
    nodes: Vec<Node>,
    /// (target, weight) of each leaf.
    leaves: Vec<Vec<(usize, f64)>>,
}

impl Forest {
    /// Combined votes: [rows, targets].
    pub fn scores(&self, x: &Rows, combine: &str, base: &[f64]) -> Result<Vec<f64>> {
        let join: fn(f64, f64) -> f64 = match combine {
            "SUM" | "AVERAGE" => |a, b| a + b,
            "MIN" => f64::min,
            "MAX" => f64::max,
            other => bail!(invalid, "the aggregate function `{other}` is unknown"),
        };
        if let Some(n) = self.nodes.iter().find(|n| n.feature >= x.columns) {
            bail!(invalid, "a tree asks for feature {} of {}", n.feature, x.columns);
        }
        let mut out = Vec::with_capacity(crate::copy::checked_len(&[x.rows, self.targets])?);
        for i in 0..x.rows {
            let mut votes: Vec<Option<f64>> = vec![None; self.targets];
            for &root in &self.roots {
                for &(target, weight) in &self.leaves[self.leaf(root, x.row(i))?] {
                    votes[target] = Some(votes[target].map_or(weight, |v| join(v, weight)));
                }
            }
            let share = if combine == "AVERAGE" { self.roots.len().max(1) as f64 } else { 1.0 };
            out.extend(votes.iter().enumerate().map(|(t, v)| v.unwrap_or(0.0) / share + base.get(t).unwrap_or(&0.0)));
        }
        Ok(out)
    }

    fn leaf(&self, root: Child, row: &[f64]) -> Result<usize> {
        let mut at = root;
        // A tree cannot be deeper than it has nodes; a graph with a cycle could.
        for _ in 0..=self.nodes.len() {
            let node = match at {
                Child::Leaf(l) => return Ok(l),
                Child::Node(n) => &self.nodes[n],
            };
            let v = row[node.feature];
            let yes = match &node.test {
                _ if v.is_nan() && node.missing_yes => true,
                Test::AtMost => v <= node.value,
                Test::Below => v < node.value,
                Test::AtLeast => v >= node.value,
                Test::Above => v > node.value,
                Test::Equal => v == node.value,
                Test::Different => v != node.value,
                Test::Member(set) => set.contains(&v),
            };
            at = if yes { node.yes } else { node.no };
        }
        bail!(invalid, "a tree has a cycle")
    }

    /// Whether all leaves vote for the same class.
    pub fn votes_for_one(&self) -> bool {
        let mut votes = self.leaves.iter().flatten().map(|v| v.0);
        let first = votes.next();
        votes.all(|v| Some(v) == first)
    }

    pub fn all_positive(&self) -> bool {
        self.leaves.iter().flatten().all(|v| v.1 >= 0.0)
    }

    fn check(&self) -> Result<()> {
        let child = |c: &Child| match *c {
            Child::Node(n) => n < self.nodes.len(),
            Child::Leaf(l) => l < self.leaves.len(),
        };
        let linked = self.roots.iter().chain(self.nodes.iter().flat_map(|n| [&n.yes, &n.no])).all(child);
        if !linked || self.leaves.iter().flatten().any(|v| v.0 >= self.targets) {
            bail!(invalid, "the trees name nodes, leaves or targets that are not there");
        }
        Ok(())
    }
}

fn place(v: i64) -> Result<usize> {
    usize::try_from(v).map_err(|_| Error::invalid(format!("the index {v} is negative")))
}

/// A list of floats, or its form as a tensor.
fn floats(attrs: &Attrs, name: &str) -> Result<Vec<f64>> {
    let list = attrs.get_floats(name)?.into_iter().flatten().map(|&v| v as f64).collect::<Vec<_>>();
    match attrs.get_tensor(&format!("{name}_as_tensor"))? {
        Some(t) if list.is_empty() => t.to_f64_vec(),
        _ => Ok(list),
    }
}

pub fn base_values(attrs: &Attrs) -> Result<Vec<f64>> {
    floats(attrs, "base_values")
}

/// The trees of `TreeEnsemble`.
pub fn modern(attrs: &Attrs) -> Result<Forest> {
    let ints = |name: &str| attrs.ints_or(name, &[]);
    let numbers = |name: &str| -> Result<Vec<f64>> {
        Ok(attrs.get_tensor(name)?.map(Tensor::to_f64_vec).transpose()?.unwrap_or_default())
    };
    let (features, modes, splits) = (ints("nodes_featureids")?, numbers("nodes_modes")?, numbers("nodes_splits")?);
    let (yes, no) = (ints("nodes_truenodeids")?, ints("nodes_falsenodeids")?);
    let (yes_leaf, no_leaf) = (ints("nodes_trueleafs")?, ints("nodes_falseleafs")?);
    let missing = ints("nodes_missing_value_tracks_true")?;
    let n = features.len();
    if [modes.len(), splits.len(), yes.len(), no.len(), yes_leaf.len(), no_leaf.len()].iter().any(|&l| l != n) {
        bail!(invalid, "the lists `nodes_…` differ in length");
    }
    // Sets of members follow each other, with NaN between them.
    let members = numbers("membership_values")?;
    let mut sets = members.split(|v| v.is_nan());
    let child = |id: i64, leaf: i64| place(id).map(if leaf != 0 { Child::Leaf } else { Child::Node });
    let mut nodes = Vec::with_capacity(n);
    for i in 0..n {
        nodes.push(Node {
            feature: place(features[i])?,
            test: match modes[i] as i64 {
                0 => Test::AtMost,
                1 => Test::Below,
                2 => Test::AtLeast,
                3 => Test::Above,
                4 => Test::Equal,
                5 => Test::Different,
                6 => Test::Member(sets.next().unwrap_or_default().to_vec()),
                other => bail!(invalid, "the node mode {other} is unknown"),
            },
            value: splits[i],
            yes: child(yes[i], yes_leaf[i])?,
            no: child(no[i], no_leaf[i])?,
            missing_yes: missing.get(i).is_some_and(|&m| m != 0),
        });
    }
    let (ids, weights) = (ints("leaf_targetids")?, numbers("leaf_weights")?);
    let leaves = ids.iter().zip(&weights).map(|(&t, &w)| Ok(vec![(place(t)?, w)])).collect::<Result<_>>()?;
    let roots = ints("tree_roots")?.iter().map(|&r| Ok(Child::Node(place(r)?))).collect::<Result<_>>()?;
    let targets = place(attrs.int_or("n_targets", 1)?)?;
    let forest = Forest { targets, roots, nodes, leaves };
    forest.check()?;
    Ok(forest)
}

/// The trees of `TreeEnsembleRegressor` (`prefix` target) and `TreeEnsembleClassifier` (class).
pub fn classic(attrs: &Attrs, prefix: &str, targets: usize) -> Result<Forest> {
    let ints = |name: &str| attrs.ints_or(name, &[]);
    let (trees, ids) = (ints("nodes_treeids")?, ints("nodes_nodeids")?);
    let modes = attrs.get_strings("nodes_modes")?.cloned().unwrap_or_default();
    let (features, values) = (ints("nodes_featureids")?, floats(attrs, "nodes_values")?);
    let (yes, no) = (ints("nodes_truenodeids")?, ints("nodes_falsenodeids")?);
    let missing = ints("nodes_missing_value_tracks_true")?;
    let n = trees.len();
    if [ids.len(), modes.len(), features.len(), values.len(), yes.len(), no.len()].iter().any(|&l| l != n) {
        bail!(invalid, "the lists `nodes_…` differ in length");
    }
    let mut places: HashMap<(i64, i64), Child> = HashMap::new();
    let (mut branches, mut leaves) = (0, 0);
    for i in 0..n {
        let counter = if modes[i] == "LEAF" { &mut leaves } else { &mut branches };
        let child = if modes[i] == "LEAF" { Child::Leaf(*counter) } else { Child::Node(*counter) };
        *counter += 1;
        if places.insert((trees[i], ids[i]), child).is_some() {
            bail!(invalid, "node {} of tree {} is there twice", ids[i], trees[i]);
        }
    }
    let find = |tree: i64, id: i64| {
        let found = places.get(&(tree, id)).copied();
        found.ok_or_else(|| Error::invalid(format!("tree {tree} has no node {id}")))
    };
    let mut nodes = Vec::with_capacity(branches);
    let mut roots = Vec::new();
    let mut last = None;
    for i in 0..n {
        if last != Some(trees[i]) {
            last = Some(trees[i]);
            roots.push(find(trees[i], ids[i])?);
        }
        let test = match modes[i].as_str() {
            "LEAF" => continue,
            "BRANCH_LEQ" => Test::AtMost,
            "BRANCH_LT" => Test::Below,
            "BRANCH_GTE" => Test::AtLeast,
            "BRANCH_GT" => Test::Above,
            "BRANCH_EQ" => Test::Equal,
            "BRANCH_NEQ" => Test::Different,
            other => bail!(invalid, "the node mode `{other}` is unknown"),
        };
        nodes.push(Node {
            feature: place(features[i])?,
            test,
            value: values[i],
            yes: find(trees[i], yes[i])?,
            no: find(trees[i], no[i])?,
            missing_yes: missing.get(i).is_some_and(|&m| m != 0),
        });
    }
    let list = |end: &str| ints(&format!("{prefix}_{end}"));
    let (of_tree, of_node, ids) = (list("treeids")?, list("nodeids")?, list("ids")?);
    let weights = floats(attrs, &format!("{prefix}_weights"))?;
    if [of_node.len(), ids.len(), weights.len()].iter().any(|&l| l != of_tree.len()) {
        bail!(invalid, "the lists `{prefix}_…` differ in length");
    }
    let mut votes = vec![Vec::new(); leaves];
    for i in 0..of_tree.len() {
        if let Child::Leaf(l) = find(of_tree[i], of_node[i])? {
            votes[l].push((place(ids[i])?, weights[i]));
        }
    }
    let forest = Forest { targets, roots, nodes, leaves: votes };
    forest.check()?;
    Ok(forest)
}
