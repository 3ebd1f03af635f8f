//! Ranges of dimensions: what the user said, else the model, else a default that is said out loud.

use oxrt_ir::{Dim, Model, Range, Symbol};
use oxrt_plan::{Profile, SizeRange};
use oxrt_tensor::{Error, Result, bail};
use std::collections::{BTreeMap, BTreeSet};

/// `batch=1:8:64`: a range for one dimension, or `batch=4` to fix it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DimSpec {
    pub name: String,
    pub range: SizeRange,
}

impl std::str::FromStr for DimSpec {
    type Err = Error;

    /// `name=min:opt:max`, `name=min..max`, `name=size`; an absent max is no bound.
    fn from_str(text: &str) -> Result<DimSpec> {
        let shape = || {
            Error::invalid(format!("`{text}` is not a dimension"))
                .help("write `--dim batch=1:8:64`, `--dim batch=1..64` or `--dim batch=4`")
        };
        let (name, range) = text.split_once('=').ok_or_else(shape)?;
        let number = |s: &str| s.trim().parse::<i64>().map_err(|_| shape());
        let range = if let Some((min, max)) = range.split_once("..") {
            let min = number(min)?;
            let max = if max.trim().is_empty() { None } else { Some(number(max)?) };
            SizeRange::new(min, default_opt(name, min, max), max)?
        } else {
            let parts: Vec<&str> = range.split(':').collect();
            match parts[..] {
                [size] => SizeRange::new(number(size)?, number(size)?, Some(number(size)?))?,
                [min, opt, max] => {
                    let max = if max.trim().is_empty() { None } else { Some(number(max)?) };
                    SizeRange::new(number(min)?, number(opt)?, max)?
                }
                _ => return Err(shape()),
            }
        };
        if name.trim().is_empty() {
            return Err(shape());
        }
        Ok(DimSpec { name: name.trim().to_string(), range })
    }
}

/// The size tuned for when nobody says: what dimensions of such a name usually have, within the range.
fn default_opt(name: &str, min: i64, max: Option<i64>) -> i64 {
    let has = |words: &[&str]| words.iter().any(|w| name.to_ascii_lowercase().contains(w));
    let usual = if has(&["height", "width", "rows", "columns"]) {
        224
    } else if has(&["seq", "token", "length", "time"]) {
        128
    } else {
        1
    };
    usual.clamp(min, max.unwrap_or(i64::MAX).max(min))
}

/// Profiles over the symbols of the model's inputs. A dimension that every profile fixes to one size is
/// replaced by that size in the model. `usual` are sizes to tune for where nobody says (those of sample inputs).
///
/// # Errors
/// A name that no input has, with the names there are.
pub fn profiles_for(
    model: &mut Model,
    wanted: &[Vec<DimSpec>],
    usual: &BTreeMap<Symbol, i64>,
    notes: &mut Vec<String>,
) -> Result<Vec<Profile>> {
    let mut symbols = BTreeSet::new();
    for &v in &model.graph.inputs {
        model.graph[v].ty.for_each_symbol(&mut |s| {
            symbols.insert(s.clone());
        });
    }
    for spec in wanted.iter().flatten() {
        if !symbols.contains(&Symbol::new(&spec.name)) {
            let names: Vec<&str> = symbols.iter().map(Symbol::as_str).collect();
            let known = if names.is_empty() {
                "it has none: every size is fixed".to_string()
            } else {
                format!("it has {}", names.join(", "))
            };
            return Err(Error::invalid(format!("the model has no dimension `{}`; {known}", spec.name)));
        }
    }
    let base = Profile {
        ranges: symbols
            .iter()
            .map(|s| {
                let r = model.symbols.get(s).unwrap_or_default();
                let fits = |x: &i64| *x >= r.min && r.max.is_none_or(|m| *x <= m);
                let opt = usual.get(s).copied().filter(fits).unwrap_or_else(|| default_opt(s.as_str(), r.min, r.max));
                (s.clone(), SizeRange { min: r.min, opt, max: r.max })
            })
            .collect(),
    };
    for (s, r) in &base.ranges {
        if r.max.is_none() && !wanted.iter().flatten().any(|w| w.name == s.as_str()) {
            notes.push(format!(
                "`{s}` has no upper bound and is tuned for {}; `--dim {s}=min:opt:max` sets both",
                r.opt
            ));
        }
    }
    let mut profiles = Vec::new();
    for list in wanted {
        let mut p = base.clone();
        for spec in list {
            let s = Symbol::new(&spec.name);
            let model_range = model.symbols.get(&s).unwrap_or(Range { min: 0, max: None });
            if spec.range.min < model_range.min || model_range.max.is_some_and(|m| spec.range.max.is_none_or(|x| x > m))
            {
                bail!(invalid, "`{s}` = {} leaves the range {model_range} that the model was exported for", spec.range);
            }
            p.ranges.insert(s, spec.range);
        }
        profiles.push(p);
    }
    if profiles.is_empty() {
        profiles.push(base);
    }
    let fixed = |s: &Symbol| -> Option<Dim> {
        let first = profiles[0].ranges.get(s)?;
        let one = first.max == Some(first.min) && profiles.iter().all(|p| p.ranges.get(s) == Some(first));
        one.then_some(Dim::Const(first.min))
    };
    if symbols.iter().any(|s| fixed(s).is_some()) {
        oxrt_passes::substitute_symbols(model, &fixed)?;
        for p in &mut profiles {
            p.ranges.retain(|_, r| r.max != Some(r.min) || r.min != r.opt);
        }
    }
    Ok(profiles)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_a_range() {
        let range = |t: &str| t.parse::<DimSpec>().map(|d| d.range);
        assert_eq!(range("n=1:8:64").unwrap(), SizeRange { min: 1, opt: 8, max: Some(64) });
        assert_eq!(range("n=2..64").unwrap(), SizeRange { min: 2, opt: 2, max: Some(64) });
        assert_eq!(range("height=2..2048").unwrap().opt, 224);
        assert_eq!(range("n=4").unwrap(), SizeRange { min: 4, opt: 4, max: Some(4) });
        assert_eq!(range("n=1:2:").unwrap().max, None);
        for bad in ["n", "n=", "=4", "n=4:2:8", "n=1:2", "n=x", "n=8..4"] {
            assert!(range(bad).is_err(), "{bad}");
        }
    }
}
