//! Finding an operator by name.

use crate::def::OpDef;
use std::collections::HashMap;
use std::sync::OnceLock;

/// The operator called `name` (`Conv`, `oxrt.Conv`), if there is one.
pub fn find(name: &str) -> Option<&'static OpDef> {
    static INDEX: OnceLock<HashMap<&'static str, &'static OpDef>> = OnceLock::new();
    INDEX.get_or_init(|| all().iter().map(|op| (op.name, *op)).collect()).get(name).copied()
}

/// Every operator, in name order within its family.
pub fn all() -> &'static [&'static OpDef] {
    static ALL: OnceLock<Vec<&'static OpDef>> = OnceLock::new();
    ALL.get_or_init(|| crate::ops::FAMILIES.concat())
}
