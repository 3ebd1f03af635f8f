//! The list of operators. Adding one: copy a file of the same kind, add a line here.

macro_rules! operators {
    ($($module:ident),* $(,)?) => {
        $(mod $module;)*
        pub(crate) const ALL: &[&crate::OpDef] = &[$(&$module::OP),*];
    };
}

mod contrib;

/// The operators of all families.
pub(crate) const FAMILIES: &[&[&crate::OpDef]] = &[ALL, contrib::ALL];

operators! {
    abs, acos, acosh, adagrad, adam, add, affine_grid, and, arg_max, arg_min, array_feature_extractor, asin,
    asinh, atan, atanh, attention, average_pool, batch_normalization, bernoulli, binarizer, bit_cast,
    bit_shift, bitwise_and, bitwise_not, bitwise_or, bitwise_xor, blackman_window, cast, cast_like, cast_map,
    category_mapper, causal_conv_with_state, ceil, celu, center_crop_pad, clip, col2_im, compress, concat,
    concat_from_sequence, constant, constant_of_shape, conv, conv_integer, conv_transpose, cos, cosh,
    cum_prod, cum_sum, deform_conv, depth_to_space, dequantize_linear, det, dict_vectorizer, dft, div, dropout,
    dynamic_quantize_linear, einsum, elu, equal, erf, exp, expand, eye_like, feature_vectorizer, flatten,
    flex_attention, floor, gather, gather_elements, gather_nd, gelu, gemm, global_average_pool,
    global_lp_pool, global_max_pool, greater, greater_or_equal, grid_sample, group_normalization, gru,
    hamming_window, hann_window, hard_sigmoid, hard_swish, hardmax, identity, r#if, image_decoder, imputer,
    instance_normalization, is_inf, is_nan, label_encoder, layer_normalization, leaky_relu, less,
    less_or_equal, linear_attention, linear_classifier, linear_regressor, log, log_softmax, r#loop,
    lp_normalization, lp_pool, lrn, lstm, mat_mul, mat_mul_integer, max, max_pool, max_roi_pool, max_unpool,
    mean, mean_variance_normalization, mel_weight_matrix, min, mish, mod_, momentum, mul, multinomial, neg,
    negative_log_likelihood_loss, non_max_suppression, non_zero, normalizer, not, one_hot, one_hot_encoder,
    optional, optional_get_element, optional_has_element, or, oxrt_assert, oxrt_attention, oxrt_average_pool, oxrt_block_gemm, oxrt_conv,
    oxrt_conv_transpose, oxrt_elementwise, oxrt_gather_blocks, oxrt_gemm, oxrt_global_average_pool, oxrt_group_norm,
    oxrt_lookup, oxrt_max_pool, oxrt_norm_factors, oxrt_norm_gemm, oxrt_q_binary, oxrt_q_conv, oxrt_q_gemm, oxrt_q_global_average_pool,
    oxrt_q_mat_mul, oxrt_resize, p_relu, pad, pow, q_linear_conv, q_linear_mat_mul, quantize_linear,
    random_normal, random_normal_like, random_uniform, random_uniform_like, range, reciprocal, reduce_l1,
    reduce_l2, reduce_log_sum, reduce_log_sum_exp, reduce_max, reduce_mean, reduce_min, reduce_prod,
    reduce_sum, reduce_sum_square, regex_full_match, relu, reshape, resize, reverse_sequence,
    rms_normalization, rnn, roi_align, rotary_embedding, round, scaler, scan, scatter, scatter_elements,
    scatter_nd, selu, sequence_at, sequence_construct, sequence_empty, sequence_erase, sequence_insert,
    sequence_length, sequence_map, shape, shrink, sigmoid, sign, sin, sinh, size, slice, softmax,
    softmax_cross_entropy_loss, softplus, softsign, space_to_depth, split, split_to_sequence, sqrt, squeeze,
    stft, svm_classifier, svm_regressor, string_concat, string_normalizer, string_split, sub, sum, swi_glu, swish, tan, tanh, tensor_scatter,
    tf_idf_vectorizer, thresholded_relu, tile, top_k, transpose, tree_ensemble, tree_ensemble_classifier,
    tree_ensemble_regressor, trilu, unique, unsqueeze, r#where, xor, zip_map,
}
