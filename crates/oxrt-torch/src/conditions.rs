//! The conditions on sizes under which a program was traced.
//!
//! A Python branch on a size is decided when the model is exported; the exported program keeps the decision
//! and, as a guard, what it rests on. Sizes that break a guard would take another path in PyTorch, so results
//! for them mean nothing.

use crate::expr::Expr;
use oxrt_ir::Model;

/// Key of the conditions in [`Model::metadata`]: one per line, over the names of the dimensions.
pub const CONDITIONS: &str = "torch.conditions";

/// The conditions of an imported model that the given sizes break.
///
/// `size` gives the size of a dimension by name; conditions over unknown names are passed over.
pub fn broken_conditions(model: &Model, size: &dyn Fn(&str) -> Option<i64>) -> Vec<String> {
    let Some(text) = model.metadata.get(CONDITIONS) else { return Vec::new() };
    let broken = |line: &&str| Expr::parse(line).ok().and_then(|e| e.eval(size)) == Some(0.0);
    text.lines().filter(broken).map(str::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_judged() {
        let mut model = Model::default();
        model.metadata.insert(CONDITIONS.into(), "(batch % 2) == 0\nheight > 7\nnonsense(".into());
        let broken = |b, h| broken_conditions(&model, &|n| if n == "batch" { Some(b) } else { Some(h) });
        assert!(broken(4, 8).is_empty());
        assert_eq!(broken(3, 8), ["(batch % 2) == 0"]);
        assert_eq!(broken(3, 7).len(), 2);
    }
}
