//! The list of operators. Adding one: copy a file of the same kind, add a line here.

macro_rules! operators {
    ($($module:ident),* $(,)?) => {
        $(mod $module;)*
        pub(crate) const ALL: &[&crate::OpDef] = &[$(&$module::OP),*];
    };
}

operators! {
    abs, acos, acosh, add, and, asin, asinh, atan, atanh, bit_shift, bitwise_and, bitwise_not, bitwise_or,
    bitwise_xor, cast, cast_like, ceil, celu, clip, concat, constant, constant_of_shape, cos, cosh, div, elu,
    equal, erf, exp, expand, flatten, floor, gather, gather_elements, gather_nd, gelu, greater,
    greater_or_equal, hard_sigmoid, hard_swish, identity, is_inf, is_nan, leaky_relu, less, less_or_equal,
    log, max, mean, min, mish, mod_, mul, neg, not, or, p_relu, pad, pow, range, reciprocal, relu, reshape,
    round, scatter, scatter_elements, scatter_nd, selu, shape, shrink, sigmoid, sign, sin, sinh, size, slice,
    softplus, softsign, split, sqrt, squeeze, sub, sum, swish, tan, tanh, thresholded_relu, tile, transpose,
    unsqueeze, r#where, xor,
}
