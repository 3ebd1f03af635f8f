//! The equations of `Einsum`: an axis has a name, and axes of one name go together.

use oxrt_ir::Attrs;
use oxrt_tensor::{Error, Result, bail};

/// The name of an axis.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Label {
    /// The n-th axis of the ellipsis, counted from its end.
    Dots(usize),
    /// A letter.
    Letter(char),
}

/// Labels of each operand of `Einsum`, whose ranks are given, and of the result.
///
/// # Errors
/// When the equation does not fit the ranks or names an axis of the result that no operand has.
pub fn parse(attrs: &Attrs, ranks: &[usize]) -> Result<(Vec<Vec<Label>>, Vec<Label>)> {
    let text = attrs.get_string("equation")?.ok_or_else(|| Error::invalid("the equation is missing"))?;
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let (left, right) = match text.split_once("->") {
        Some((l, r)) => (l, Some(r)),
        None => (&text[..], None),
    };
    let terms: Vec<&str> = left.split(',').collect();
    if terms.len() != ranks.len() {
        bail!(invalid, "`{text}` has {} terms for {} inputs", terms.len(), ranks.len());
    }
    // An ellipsis stands for as many axes as a term has too many.
    let labels = |term: &str, dots: usize| -> Result<Vec<Label>> {
        let letters = |s: &str| -> Result<Vec<Label>> {
            match s.chars().find(|c| !c.is_ascii_alphabetic()) {
                Some(c) => bail!(invalid, "`{c}` in the equation `{text}`"),
                None => Ok(s.chars().map(Label::Letter).collect()),
            }
        };
        match term.split_once("...") {
            Some((a, b)) => Ok([letters(a)?, (0..dots).rev().map(Label::Dots).collect(), letters(b)?].concat()),
            None => letters(term),
        }
    };
    let mut operands = Vec::new();
    let mut most = 0;
    for (term, &rank) in terms.iter().zip(ranks) {
        let named = term.replace("...", "").len();
        let dots = rank.saturating_sub(named);
        let found = labels(term, dots)?;
        if found.len() != rank {
            bail!(invalid, "the term `{term}` does not fit an input of rank {rank}");
        }
        if term.contains("...") {
            most = most.max(dots);
        }
        operands.push(found);
    }
    let result = match right {
        Some(r) => labels(r, most)?,
        None => {
            let all: Vec<Label> = operands.iter().flatten().copied().collect();
            let mut once: Vec<Label> =
                all.iter().copied().filter(|l| all.iter().filter(|m| *m == l).count() == 1).collect();
            once.retain(|l| matches!(l, Label::Letter(_)));
            once.sort_unstable();
            [(0..most).rev().map(Label::Dots).collect(), once].concat()
        }
    };
    let known = |l: &Label| operands.iter().any(|o| o.contains(l));
    if result.iter().enumerate().any(|(i, l)| !known(l) || result[..i].contains(l)) {
        bail!(invalid, "the result of `{text}` names an axis that no input has, or one twice");
    }
    Ok((operands, result))
}
