//! Sizes of symbols from the shapes of inputs.

use crate::engine::Port;
use oxrt_ir::{Dim, Symbol, ValueType};
use oxrt_plan::Profile;
use oxrt_tensor::{DType, Error, Result, TensorView, bail};
use std::collections::BTreeMap;

pub(crate) type Sizes = BTreeMap<Symbol, i64>;

/// Value of a dimension; `None` while one of its symbols is unknown.
pub(crate) fn eval(d: &Dim, sizes: &Sizes) -> Option<i64> {
    d.eval(&|s| sizes.get(s).copied())
}

/// Shape of a tensor type; `None` while it depends on unknown symbols.
pub(crate) fn shape_of(ty: &ValueType, sizes: &Sizes) -> Option<Vec<usize>> {
    ty.dims()?.iter().map(|d| usize::try_from(eval(d, sizes)?).ok()).collect()
}

/// Checks inputs against the ports and finds the size of every symbol.
///
/// # Errors
/// Wrong count, element type, rank or size: names the input, the axis, and both values.
pub(crate) fn solve(ports: &[Port], inputs: &[(DType, &[usize])]) -> Result<Sizes> {
    if ports.len() != inputs.len() {
        let names: Vec<&str> = ports.iter().map(|p| p.name.as_str()).collect();
        bail!(invalid, "the engine takes {} inputs ({}), given {}", ports.len(), names.join(", "), inputs.len());
    }
    let mut sizes = Sizes::new();
    let mut origin: BTreeMap<&Symbol, String> = BTreeMap::new();
    let mut later: Vec<(&Dim, i64, String)> = Vec::new();
    for (port, &(dtype, shape)) in ports.iter().zip(inputs) {
        let Some(ty) = port.ty.as_tensor() else { continue };
        let name = &port.name;
        if dtype != ty.dtype {
            return Err(Error::invalid(format!("input `{name}` takes {} elements, given {dtype}", ty.dtype))
                .help(format!("convert the data to {} first", ty.dtype)));
        }
        let Some(dims) = &ty.dims else { continue };
        if dims.len() != shape.len() {
            bail!(invalid, "input `{name}` has rank {} ({ty}), given shape {shape:?}", dims.len());
        }
        for (axis, (d, &size)) in dims.iter().zip(shape).enumerate() {
            let size = size as i64;
            let place = format!("axis {axis} of input `{name}`");
            match (d.as_const(), d.as_symbol()) {
                (Some(c), _) if c != size => bail!(invalid, "{place} has size {c}, given {size} (shape {shape:?})"),
                (Some(_), _) => {}
                (None, Some(s)) => match sizes.get(s) {
                    Some(&known) if known != size => {
                        bail!(invalid, "{place} is `{s}` = {known} by {}, given {size}", origin[s])
                    }
                    Some(_) => {}
                    None => {
                        sizes.insert(s.clone(), size);
                        origin.insert(s, place);
                    }
                },
                (None, None) => later.push((d, size, place)),
            }
        }
    }
    for (d, size, place) in later {
        match eval(d, &sizes).or_else(|| solve_one(d, size, &mut sizes)) {
            Some(v) if v == size => {}
            Some(v) => bail!(invalid, "{place} is `{d}` = {v}, given {size}"),
            None => bail!(invalid, "{place} is `{d}`, which {size} cannot be"),
        }
    }
    Ok(sizes)
}

/// Solves `c*s + k = size` for the one unknown symbol of a dimension.
fn solve_one(d: &Dim, size: i64, sizes: &mut Sizes) -> Option<i64> {
    let known = d.substitute(&|s| sizes.get(s).map(|&x| Dim::Const(x)));
    let (terms, constant) = known.sum_of_products();
    let [(c, [oxrt_ir::Atom::Symbol(s)])] = terms[..] else { return None };
    if c == 0 || (size - constant) % c != 0 {
        return None;
    }
    sizes.insert(s.clone(), (size - constant) / c);
    eval(d, sizes)
}

/// The tightest profile that holds the sizes.
///
/// # Errors
/// Names input dimension, value and range when none does.
pub(crate) fn choose_profile(profiles: &[Profile], sizes: &Sizes) -> Result<usize> {
    let fitting = (0..profiles.len()).filter(|&i| profiles[i].violation(sizes).is_none());
    if let Some(best) = fitting.min_by(|&a, &b| profiles[a].width().total_cmp(&profiles[b].width())) {
        return Ok(best);
    }
    let Some((symbol, range, size)) = profiles.first().and_then(|p| p.violation(sizes)) else { return Ok(0) };
    let max = range.max.map_or("unbounded".to_string(), |m| m.to_string());
    let others = if profiles.len() > 1 {
        format!(" (and none of the {} other profiles fits)", profiles.len() - 1)
    } else {
        String::new()
    };
    Err(Error::invalid(format!(
        "`{symbol}` is {size}, outside the range {} to {max} that the engine was built for{others}",
        range.min
    ))
    .help(format!(
        "build again with `--dim {symbol}={}:{}:{}`",
        range.min.min(size),
        range.opt,
        range.max.unwrap_or(size).max(size)
    )))
}

/// The (type, shape) pairs of views.
pub(crate) fn shapes<'a>(inputs: &[TensorView<'a>]) -> Vec<(DType, &'a [usize])> {
    inputs.iter().map(|t| (t.dtype(), t.shape())).collect()
}
