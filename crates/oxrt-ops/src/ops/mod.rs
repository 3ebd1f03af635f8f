//! The list of operators. Adding one: copy a file of the same kind, add a line here.

macro_rules! operators {
    ($($module:ident),* $(,)?) => {
        $(mod $module;)*
        pub(crate) const ALL: &[&crate::OpDef] = &[$(&$module::OP),*];
    };
}

operators! {
    add, concat, hard_swish, less, reshape, shape, unsqueeze,
}
