//! The conditions on sizes under which a program was traced.
//!
//! A Python branch on a size is decided when the model is exported; the exported program keeps the decision
//! and, as a guard, what it rests on. Sizes that break a guard would take another path in PyTorch, so results
//! for them mean nothing.

use crate::expr::Expr;
use crate::{Dim, Model, Symbol};

/// Key of the conditions in [`Model::metadata`]: one per line, in Python's syntax over the names of the dimensions.
pub const CONDITIONS: &str = "torch.conditions";

/// Whether a condition holds for sizes given by name; what it says of unknown names or functions is passed over.
pub fn holds(condition: &Expr, size: &dyn Fn(&str) -> Option<i64>) -> bool {
    condition.eval(size) != Some(0.0)
}

/// The conditions of a model that the given sizes break.
pub fn broken_conditions(model: &Model, size: &dyn Fn(&str) -> Option<i64>) -> Vec<String> {
    let Some(text) = model.metadata.get(CONDITIONS) else { return Vec::new() };
    let broken = |line: &&str| Expr::parse(line).is_ok_and(|e| !holds(&e, size));
    text.lines().filter(broken).map(str::to_string).collect()
}

/// Puts names or sizes in the place of dimensions, in the conditions of a model.
pub fn substitute_conditions(model: &mut Model, replace: &dyn Fn(&Symbol) -> Option<Dim>) {
    if let Some(text) = model.metadata.get_mut(CONDITIONS) {
        *text = substitute_in(text, replace);
    }
}

/// The same in the text of conditions.
pub fn substitute_in(text: &str, replace: &dyn Fn(&Symbol) -> Option<Dim>) -> String {
    let mut out = String::with_capacity(text.len());
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut rest = text;
    while let Some(start) = rest.find(is_word) {
        let (before, from) = rest.split_at(start);
        let end = from.find(|c| !is_word(c)).unwrap_or(from.len());
        let word = &from[..end];
        out.push_str(before);
        match replace(&Symbol::new(word)).filter(|_| !word.starts_with(|c: char| c.is_ascii_digit())) {
            Some(d) if d.as_symbol().is_some() || d.as_const().is_some_and(|c| c >= 0) => out.push_str(&d.to_string()),
            Some(d) => out.push_str(&format!("({d})")),
            None => out.push_str(word),
        }
        rest = &from[end..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> Model {
        let mut model = Model::default();
        model.metadata.insert(CONDITIONS.into(), "(batch % 2) == 0\nheight > 7\nnonsense(".into());
        model
    }

    #[test]
    fn sizes_are_judged() {
        let model = model();
        let broken = |b, h| broken_conditions(&model, &|n| if n == "batch" { Some(b) } else { Some(h) });
        assert!(broken(4, 8).is_empty());
        assert_eq!(broken(3, 8), ["(batch % 2) == 0"]);
        assert_eq!(broken(3, 7).len(), 2);
    }

    #[test]
    fn names_are_replaced() {
        let mut model = model();
        let new = |s: &Symbol| match s.as_str() {
            "batch" => Some(Dim::symbol("n")),
            "height" => Some(Dim::Const(9)),
            _ => None,
        };
        substitute_conditions(&mut model, &new);
        assert_eq!(model.metadata[CONDITIONS], "(n % 2) == 0\n9 > 7\nnonsense(");
    }
}
