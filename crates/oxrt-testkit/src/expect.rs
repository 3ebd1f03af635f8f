//! Lists of cases that are expected to fail, each with its reason. An unexpected pass is a failure too, so a list
//! never says more than the truth.

use oxrt::{Error, Result};
use std::collections::BTreeMap;
use std::path::Path;

/// `case: reason`, one a line; `#` begins a comment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expectations(BTreeMap<String, String>);

impl Expectations {
    pub fn read(path: &Path) -> Result<Expectations> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::from(e).at(path.display().to_string()))?;
        Expectations::parse(&text).map_err(|e| e.at(path.display().to_string()))
    }

    pub fn parse(text: &str) -> Result<Expectations> {
        let mut list = BTreeMap::new();
        for (i, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let pair = line.split_once(": ").filter(|(case, reason)| !case.contains(' ') && !reason.trim().is_empty());
            let Some((case, reason)) = pair else {
                return Err(Error::invalid(format!("`{line}` is not `case: reason`")).at(format!("line {}", i + 1)));
            };
            if list.insert(case.to_string(), reason.trim().to_string()).is_some() {
                return Err(Error::invalid(format!("`{case}` is listed twice")));
            }
        }
        Ok(Expectations(list))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is not as the list says: failures that it does not have, passes and unknown cases that it has.
    pub fn surprises<'a>(
        &self,
        results: impl Iterator<Item = (&'a str, &'a std::result::Result<(), String>)>,
    ) -> Vec<String> {
        let mut left = self.0.clone();
        let mut found = Vec::new();
        for (case, result) in results {
            match (left.remove(case), result) {
                (None, Err(e)) => found.push(format!("{case}: {e}")),
                (Some(reason), Ok(())) => found.push(format!("{case}: passes, though listed ({reason})")),
                (None, Ok(())) | (Some(_), Err(_)) => {}
            }
        }
        found.extend(left.into_keys().map(|case| format!("{case}: listed, but there is no such case")));
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_truth_is_accepted() {
        let list = Expectations::parse("# why\n\na/x: too hard\na/y: also\na/gone: was there\n").unwrap();
        assert_eq!(list.len(), 3);
        let (good, bad) = (Ok(()), Err("boom".to_string()));
        let results = [("a/x", &bad), ("a/y", &good), ("a/z", &bad), ("a/w", &good)];
        let surprises = list.surprises(results.into_iter());
        assert_eq!(surprises.len(), 3, "{surprises:?}");
        assert!(surprises[0].contains("passes, though listed (also)"));
        assert_eq!(surprises[1], "a/z: boom");
        assert!(surprises[2].contains("no such case"));
    }

    #[test]
    fn a_reason_is_needed() {
        assert!(Expectations::parse("a/x").is_err());
        assert!(Expectations::parse("a/x: ").is_err());
        assert!(Expectations::parse("a/x: r\na/x: s").is_err());
    }
}
