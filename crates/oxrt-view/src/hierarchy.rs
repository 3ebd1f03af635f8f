//! The hierarchy of a graph: module paths where they are known, else the parts of node names, and below that repeated
//! blocks, so that no level is too long to look at.

use std::collections::HashMap;

/// Children of one group beyond which it is cut into blocks.
const LONGEST_LEVEL: usize = 48;
/// Longest repeated block that is looked for.
const LONGEST_BLOCK: usize = 512;

/// Groups in order of appearance; the first is the whole model. Parents stand before their children.
#[derive(Clone, Debug, Default)]
pub(crate) struct Groups {
    pub parent: Vec<usize>,
    pub label: Vec<String>,
}

impl Groups {
    pub fn new(root: &str) -> Groups {
        Groups { parent: vec![0], label: vec![root.to_string()] }
    }

    pub fn add(&mut self, parent: usize, label: String) -> usize {
        self.parent.push(parent);
        self.label.push(label);
        self.parent.len() - 1
    }
}

/// The path of a node: its module, else all but the last part of its name.
pub(crate) fn path<'a>(module: &'a str, name: &'a str) -> Vec<&'a str> {
    if !module.is_empty() {
        return split(module);
    }
    match name.trim_matches('/').rsplit_once('/') {
        Some((path, _)) => path.split('/').filter(|p| !p.is_empty()).collect(),
        None => Vec::new(),
    }
}

/// Parts of a module path; a number belongs to what it counts: `layers.3` is one part.
fn split(module: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    let bytes = module.as_bytes();
    for (i, _) in module.match_indices('.') {
        let digits = module[i + 1..].split('.').next().unwrap_or_default();
        let number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        if !number && i > start {
            parts.push(&module[start..i]);
            start = i + 1;
        }
    }
    if start < bytes.len() {
        parts.push(&module[start..]);
    }
    parts
}

/// Puts nodes, given as (path, operator) in order of execution, under `root`. Returns the group of each.
pub(crate) fn assign(groups: &mut Groups, root: usize, nodes: &[(Vec<&str>, &str)]) -> Vec<usize> {
    let first = groups.parent.len();
    // A group around a single node says no more than the node's name: paths end before it.
    let mut trie: HashMap<(usize, &str), usize> = HashMap::new();
    let mut below: Vec<usize> = vec![0];
    for (path, _) in nodes {
        let mut at = 0;
        for part in path {
            at = *trie.entry((at, *part)).or_insert_with(|| {
                below.push(0);
                below.len() - 1
            });
            below[at] += 1;
        }
    }
    // The group of each place of the trie that has one.
    let mut made: HashMap<usize, usize> = HashMap::from([(0, root)]);
    let mut of = Vec::with_capacity(nodes.len());
    for (path, _) in nodes {
        let (mut at, mut group) = (0, root);
        let mut label = String::new();
        for (i, part) in path.iter().enumerate() {
            at = trie[&(at, *part)];
            if below[at] < 2 {
                break;
            }
            label = if label.is_empty() { part.to_string() } else { format!("{label}.{part}") };
            // A group that holds one other group and nothing else is one with it.
            if path.get(i + 1).is_some_and(|next| below[trie[&(at, *next)]] == below[at]) {
                continue;
            }
            group = *made.entry(at).or_insert_with(|| groups.add(group, std::mem::take(&mut label)));
            label.clear();
        }
        of.push(group);
    }
    // Long levels are cut into blocks, the blocks too when they are long.
    let mut queue: Vec<usize> = std::iter::once(root).chain(first..groups.parent.len()).collect();
    let mut members: HashMap<usize, Vec<usize>> = HashMap::new();
    of.iter().enumerate().for_each(|(n, &g)| members.entry(g).or_default().push(n));
    while let Some(group) = queue.pop() {
        let Some(list) = members.remove(&group).filter(|l| l.len() > LONGEST_LEVEL) else { continue };
        let ops: Vec<&str> = list.iter().map(|&n| nodes[n].1).collect();
        for block in blocks(&ops) {
            if block.len == list.len() {
                continue;
            }
            let child = groups.add(group, block.label);
            let inside: Vec<usize> = list[block.start..block.start + block.len].to_vec();
            inside.iter().for_each(|&n| of[n] = child);
            members.insert(child, inside);
            queue.push(child);
        }
    }
    of
}

#[derive(Debug, PartialEq)]
struct Block {
    start: usize,
    len: usize,
    label: String,
}

/// Cuts a sequence of operators: the repeated block that covers most, once per repetition, and pieces of what is left.
fn blocks(ops: &[&str]) -> Vec<Block> {
    let mut out = Vec::new();
    match repeated(ops) {
        Some((start, period, count)) => {
            plain(&mut out, 0, start, "before");
            // So many repetitions that they are too long a level themselves are put together.
            let together = count.div_ceil(LONGEST_LEVEL).max(1);
            let mut k = 0;
            while k < count {
                let n = together.min(count - k);
                let label = if n == 1 { format!("block {k}") } else { format!("blocks {k}–{}", k + n - 1) };
                out.push(Block { start: start + k * period, len: n * period, label });
                k += n;
            }
            plain(&mut out, start + count * period, ops.len(), "after");
        }
        None => {
            let size = ops.len().div_ceil(LONGEST_LEVEL).max(LONGEST_LEVEL / 2);
            let mut at = 0;
            while at < ops.len() {
                let len = size.min(ops.len() - at);
                out.push(Block { start: at, len, label: format!("nodes {at}–{}", at + len - 1) });
                at += len;
            }
        }
    }
    out
}

/// What stands beside repeated blocks stays where it is while it is short.
fn plain(out: &mut Vec<Block>, start: usize, end: usize, label: &str) {
    if end > start + LONGEST_LEVEL / 4 {
        out.push(Block { start, len: end - start, label: label.to_string() });
    }
}

/// (start, period, count ≥ 3) of the repetition that covers most of the sequence, the shortest among equals.
fn repeated(ops: &[&str]) -> Option<(usize, usize, usize)> {
    let mut best: Option<(usize, usize, usize)> = None;
    for period in 2..=(ops.len() / 3).min(LONGEST_BLOCK) {
        let mut run = 0;
        for i in 0..=ops.len() - period {
            if i < ops.len() - period && ops[i] == ops[i + period] {
                run += 1;
                continue;
            }
            let count = run / period + 1;
            let covered = count * period;
            if count >= 3 && best.is_none_or(|(_, p, c)| covered > p * c + p * c / 8) {
                best = Some((i - run, period, count));
            }
            run = 0;
        }
    }
    // A repetition that covers little explains little.
    best.filter(|(_, p, c)| 3 * p * c >= ops.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_with_what_they_count() {
        assert_eq!(path("encoder.layers.3.attention", "x"), ["encoder", "layers.3", "attention"]);
        assert_eq!(path("", "/encoder/layer.0/Add"), ["encoder", "layer.0"]);
        assert!(path("", "Add_12").is_empty());
        assert_eq!(path("0.1", "x"), ["0.1"]);
    }

    #[test]
    fn a_group_in_a_group_that_holds_nothing_else_is_one_with_it() {
        let node = |p: &'static str| (path(p, ""), "Op");
        let mut groups = Groups::new("model");
        let nodes = ["0.convolutional", "0.convolutional", "net.encoder.a", "net.encoder.a", "net.encoder.b"].map(node);
        assign(&mut groups, 0, &nodes);
        assert_eq!(groups.label[1..], ["0.convolutional", "net.encoder", "a"]);
    }

    #[test]
    fn repeated_blocks_are_found() {
        let one = ["Conv", "Relu", "Conv", "Add", "Relu"];
        let mut ops = vec!["Conv", "MaxPool"];
        (0..20).for_each(|_| ops.extend(one));
        ops.push("Gemm");
        assert_eq!(repeated(&ops).map(|(_, p, c)| (p, c)), Some((5, 20)));
        let mut groups = Groups::new("model");
        let nodes: Vec<_> = ops.iter().map(|op| (Vec::new(), *op)).collect();
        let of = assign(&mut groups, 0, &nodes);
        assert_eq!(of[0], 0);
        assert!(groups.label.iter().any(|l| l == "block 19"), "{:?}", groups.label);
        assert_eq!(of.iter().filter(|&&g| g == of[50]).count(), 5);
    }

    #[test]
    fn a_long_level_without_repetition_is_cut_too() {
        let names: Vec<String> = (0..5000).map(|i| format!("Op{}", (i * i) % 997)).collect();
        let nodes: Vec<_> = names.iter().map(|op| (Vec::new(), op.as_str())).collect();
        let mut groups = Groups::new("model");
        let of = assign(&mut groups, 0, &nodes);
        for g in 0..groups.parent.len() {
            let children = (1..groups.parent.len()).filter(|&c| groups.parent[c] == g).count();
            let nodes = of.iter().filter(|&&x| x == g).count();
            assert!(
                children + nodes <= 2 * LONGEST_LEVEL + 8,
                "{} has {children} groups and {nodes} nodes",
                groups.label[g]
            );
        }
    }
}
