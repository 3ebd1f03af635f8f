//! Finding an operator by name.

use crate::def::OpDef;
use oxrt_tensor::{Error, Result};
use std::collections::HashMap;
use std::sync::{OnceLock, PoisonError, RwLock};

/// The operator called `name` (`Conv`, `oxrt.Conv`, `my_domain.MyOp`), if there is one.
pub fn find(name: &str) -> Option<&'static OpDef> {
    static INDEX: OnceLock<HashMap<&'static str, &'static OpDef>> = OnceLock::new();
    let index = INDEX.get_or_init(|| all().iter().map(|op| (op.name, *op)).collect());
    index.get(name).copied().or_else(|| {
        if !is_custom(name) {
            return None;
        }
        registered().read().unwrap_or_else(PoisonError::into_inner).get(name).copied()
    })
}

/// Every operator of oxrt's own, in name order within its family.
pub fn all() -> &'static [&'static OpDef] {
    static ALL: OnceLock<Vec<&'static OpDef>> = OnceLock::new();
    ALL.get_or_init(|| crate::ops::FAMILIES.concat())
}

fn registered() -> &'static RwLock<HashMap<&'static str, &'static OpDef>> {
    static REGISTERED: OnceLock<RwLock<HashMap<&'static str, &'static OpDef>>> = OnceLock::new();
    REGISTERED.get_or_init(RwLock::default)
}

/// Whether the name is of a domain that is neither ONNX's nor oxrt's.
pub fn is_custom(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(domain, _)| domain != "oxrt" && !domain.starts_with("ai.onnx"))
}

/// Makes an operator of a domain of your own known, with its shape rule and its evaluation, for as long as the process
/// runs. `name` is `<domain>.<operator>`, as in ONNX; a PyTorch operator `ns::op` has the name `ns.op`.
///
/// # Errors
/// When the domain is ONNX's or oxrt's, or the operator is registered already.
pub fn register(op: &'static OpDef) -> Result<()> {
    if !is_custom(op.name) {
        return Err(Error::invalid(format!("`{}` cannot be registered", op.name))
            .help("give it a domain of your own: `my_domain.MyOp`"));
    }
    let mut registered = registered().write().unwrap_or_else(PoisonError::into_inner);
    match registered.insert(op.name, op) {
        None => Ok(()),
        Some(first) => {
            registered.insert(op.name, first);
            Err(Error::invalid(format!("`{}` is registered already", op.name)))
        }
    }
}
