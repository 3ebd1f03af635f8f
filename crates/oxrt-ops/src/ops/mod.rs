//! The list of operators. Adding one: copy a file of the same kind, add a line here.

macro_rules! operators {
    ($($module:ident),* $(,)?) => {
        $(mod $module;)*
        pub(crate) const ALL: &[&crate::OpDef] = &[$(&$module::OP),*];
    };
}

operators! {
    abs, acos, acosh, add, and, arg_max, arg_min, asin, asinh, atan, atanh, attention, average_pool,
    batch_normalization, bit_shift, bitwise_and, bitwise_not, bitwise_or, bitwise_xor, cast, cast_like, ceil,
    celu, clip, concat, constant, constant_of_shape, conv, conv_transpose, cos, cosh, cum_prod, cum_sum,
    depth_to_space, dequantize_linear, div, dropout, einsum, elu, equal, erf, exp, expand, eye_like, flatten,
    floor, gather, gather_elements, gather_nd, gelu, gemm, global_average_pool, global_max_pool, greater,
    greater_or_equal, grid_sample, group_normalization, gru, hard_sigmoid, hard_swish, hardmax, identity,
    instance_normalization, is_inf, is_nan, layer_normalization, leaky_relu, less, less_or_equal, log,
    log_softmax, lstm, mat_mul, max, max_pool, mean, min, mish, mod_, mul, neg, non_zero, not, one_hot, or,
    oxrt_attention, oxrt_average_pool, oxrt_conv, oxrt_conv_transpose, oxrt_elementwise, oxrt_gemm,
    oxrt_global_average_pool, oxrt_group_norm, oxrt_max_pool, oxrt_resize, p_relu, pad, pow, quantize_linear,
    range, reciprocal, reduce_l1, reduce_l2, reduce_log_sum, reduce_log_sum_exp, reduce_max, reduce_mean,
    reduce_min, reduce_prod, reduce_sum, reduce_sum_square, relu, reshape, resize, rms_normalization, rnn,
    rotary_embedding, round, scatter, scatter_elements, scatter_nd, selu, shape, shrink, sigmoid, sign, sin,
    sinh, size, slice, softmax, softplus, softsign, space_to_depth, split, sqrt, squeeze, sub, sum, swish,
    tan, tanh, thresholded_relu, tile, top_k, transpose, trilu, unsqueeze, r#where, xor,
}
