//! The list of operators that are lowered. In-place ones (`add_`) are those without the underscore.

use super::{
    activation as act, assertions, complex, complex_functions as cf, composite, conv, create, custom,
    elementwise as ew, fourier, gradient, histogram, hop, index, ldl, linalg, linear, loss, matrix, norm, packed,
    pairs, pool, reduce, resize, rnn, scatter, segment, shape, special, spectral, sym, torchao, training, vision,
    window,
};
use crate::alias::{Shown, View};
use crate::args::Args;
use crate::cx::{Cx, Val};
use oxrt_ir::ValueId;
use oxrt_tensor::Result;
use rustc_hash::FxHashMap;
use std::sync::OnceLock;

/// How an operator is lowered.
#[derive(Clone, Copy)]
pub(crate) enum Rule {
    /// One new tensor.
    One(fn(&mut Cx, &Args) -> Result<ValueId>),
    /// Several new tensors, as a tuple or a list; fewer than stated when the rest is not read.
    Many(fn(&mut Cx, &Args) -> Result<Vec<ValueId>>),
    /// A view of the first argument, or a copy.
    View(fn(&mut Cx, &Args) -> Result<Shown>),
    /// Views of the first argument.
    Views(fn(&mut Cx, &Args) -> Result<Vec<View>>),
    /// Anything, numbers included.
    Vals(for<'a> fn(&mut Cx<'a, '_>, &Args<'a>) -> Result<Vec<Val<'a>>>),
    /// Nothing to do.
    Skip,
}

/// The rule of a target such as `aten.add.Tensor`.
pub(crate) fn find(target: &str) -> Option<Rule> {
    entry(target).map(|(_, rule)| rule)
}

/// The rule of a target, with its name as the table holds it.
pub(crate) fn entry(target: &str) -> Option<(&'static str, Rule)> {
    static INDEX: OnceLock<FxHashMap<&'static str, Rule>> = OnceLock::new();
    INDEX.get_or_init(|| index(TABLE)).get_key_value(target).map(|(&name, &rule)| (name, rule))
}

/// The rule of a target with a complex argument.
pub(crate) fn find_complex(target: &str) -> Option<Rule> {
    static INDEX: OnceLock<FxHashMap<&'static str, Rule>> = OnceLock::new();
    let index = INDEX.get_or_init(|| index(COMPLEX));
    let copied = || target.split_once("_copy.").map(|(name, overload)| format!("{name}.{overload}"));
    index.get(target).copied().or_else(|| {
        let rule = copied().and_then(|t| index.get(&*t).copied());
        rule.filter(|r| matches!(r, Rule::View(_) | Rule::Views(_)))
    })
}

fn index(table: &[(&'static str, Rule)]) -> FxHashMap<&'static str, Rule> {
    {
        let mut index = FxHashMap::default();
        for (names, rule) in table {
            for name in names.split_whitespace() {
                let full = if name.contains('/') { name.replace('/', ".") } else { format!("aten.{name}") };
                // A name without overload means the default one.
                let full =
                    if full.matches('.').count() < 2 && !name.contains('/') { format!("{full}.default") } else { full };
                index.insert(&*full.leak(), *rule);
            }
        }
        index
    }
}

use Rule::{Many, One, Skip, Vals, View as V, Views};

/// Names are of `aten` with the overload `default` unless written out; other namespaces have a `/`.
#[rustfmt::skip]
const TABLE: &[(&str, Rule)] = &[
    // arithmetic
    ("add.Tensor add.Scalar", One(ew::add)),
    ("sub.Tensor sub.Scalar subtract.Tensor subtract.Scalar", One(ew::sub)),
    ("rsub.Scalar rsub.Tensor", One(ew::rsub)),
    ("mul.Tensor mul.Scalar multiply.Tensor multiply.Scalar", One(ew::mul)),
    ("div.Tensor div.Scalar true_divide.Tensor true_divide.Scalar divide.Tensor divide.Scalar", One(ew::div)),
    ("div.Tensor_mode div.Scalar_mode divide.Tensor_mode divide.Scalar_mode", One(ew::div_mode)),
    ("floor_divide floor_divide.Scalar floor_divide.Tensor", One(ew::floor_divide)),
    ("remainder.Tensor remainder.Scalar remainder.Scalar_Tensor", One(ew::remainder)),
    ("fmod.Tensor fmod.Scalar", One(ew::fmod)),
    ("pow.Tensor_Tensor pow.Tensor_Scalar pow.Scalar pow.Tensor", One(ew::pow)),
    ("maximum max.other", One(ew::maximum)),
    ("minimum min.other", One(ew::minimum)),
    ("fmax", One(ew::fmax)),
    ("fmin", One(ew::fmin)),
    ("clamp clamp.Tensor clamp_min clamp_min.Tensor clamp_max clamp_max.Tensor clip clip.Tensor hardtanh", One(ew::clamp)),
    ("addcmul", One(ew::addcmul)),
    ("addcdiv", One(ew::addcdiv)),
    ("lerp.Scalar lerp.Tensor", One(ew::lerp)),
    ("ldexp.Tensor ldexp", One(ew::ldexp)),
    ("hypot", One(ew::hypot)),
    ("atan2 arctan2", One(ew::atan2)),
    ("copysign.Tensor copysign.Scalar", One(ew::copysign)),
    ("heaviside", One(ew::heaviside)),
    ("xlogy.Tensor xlogy.Scalar_Self xlogy.Scalar_Other special_xlogy special_xlogy.self_scalar special_xlogy.other_scalar", One(ew::xlogy)),
    ("logaddexp", One(ew::logaddexp)),
    // unary
    ("abs absolute", One(ew::abs)), ("neg negative", One(ew::neg)), ("sign sgn", One(ew::sign)),
    ("exp", One(ew::exp)), ("exp2 special_exp2", One(ew::exp2)), ("expm1 special_expm1", One(ew::expm1)),
    ("log", One(ew::log)), ("log2", One(ew::log2)), ("log10", One(ew::log10)), ("log1p special_log1p", One(ew::log1p)),
    ("sqrt", One(ew::sqrt)), ("rsqrt", One(ew::rsqrt)), ("square", One(ew::square)), ("reciprocal", One(ew::reciprocal)),
    ("sin", One(ew::sin)), ("cos", One(ew::cos)), ("tan", One(ew::tan)),
    ("asin arcsin", One(ew::asin)), ("acos arccos", One(ew::acos)), ("atan arctan", One(ew::atan)),
    ("sinh", One(ew::sinh)), ("cosh", One(ew::cosh)), ("tanh", One(ew::tanh)),
    ("asinh arcsinh", One(ew::asinh)), ("acosh arccosh", One(ew::acosh)), ("atanh arctanh", One(ew::atanh)),
    ("erf special_erf", One(ew::erf)), ("erfc special_erfc", One(ew::erfc)), ("sigmoid special_expit", One(ew::sigmoid)),
    ("floor", One(ew::floor)), ("ceil", One(ew::ceil)), ("round", One(ew::round)), ("round.decimals special_round", One(ew::round_decimals)),
    ("trunc fix", One(ew::trunc)), ("frac", One(ew::frac)), ("sinc special_sinc", One(ew::sinc)), ("logit special_logit", One(ew::logit)),
    ("isnan", One(ew::isnan)), ("isinf", One(ew::isinf)), ("isfinite", One(ew::isfinite)),
    ("isposinf", One(ew::isposinf)), ("isneginf", One(ew::isneginf)), ("signbit", One(ew::signbit)),
    ("nan_to_num", One(ew::nan_to_num)),
    ("deg2rad", One(composite::deg2rad)), ("rad2deg", One(composite::rad2deg)),
    ("float_power.Tensor_Tensor float_power.Tensor float_power.Scalar float_power.Tensor_Scalar", One(composite::float_power)),
    ("isclose", One(composite::isclose)), ("allclose", Vals(composite::allclose)), ("equal", Vals(composite::equal)), ("isreal", One(composite::isreal)),
    ("addr", One(composite::addr)), ("combinations", One(composite::combinations)), ("sum_to_size", One(composite::sum_to_size)),
    ("cross", One(composite::cross)), ("fliplr", One(composite::fliplr)), ("flipud", One(composite::flipud)),
    ("_softmax_backward_data", One(composite::softmax_backward)),
    ("gradient.scalarint gradient.scalararray gradient.array gradient.scalarrayint gradient.scalarrayarray \
      gradient.tensorarray gradient.tensorarrayint", Many(composite::gradient)),
    // special functions
    ("erfinv special_erfinv", One(special::erfinv)), ("special_ndtri", One(special::ndtri)), ("special_ndtr", One(special::ndtr)),
    ("special_log_ndtr", One(special::log_ndtr)), ("special_erfcx", One(special::erfcx)), ("special_entr", One(special::entr)),
    ("special_xlog1py special_xlog1py.self_scalar special_xlog1py.other_scalar", One(special::xlog1py)),
    ("lgamma special_gammaln", One(special::lgamma)), ("mvlgamma special_multigammaln", One(special::mvlgamma)),
    ("digamma special_psi special_digamma", One(special::digamma)), ("polygamma special_polygamma", One(special::polygamma)),
    ("special_zeta special_zeta.self_scalar special_zeta.other_scalar", One(special::zeta)),
    ("igamma special_gammainc", One(special::igamma)), ("igammac special_gammaincc", One(special::igammac)),
    ("i0 special_i0 special_modified_bessel_i0", One(special::i0)), ("special_i0e", One(special::i0e)),
    ("special_i1 special_modified_bessel_i1", One(special::i1)), ("special_i1e", One(special::i1e)),
    ("special_modified_bessel_k0", One(special::k0)), ("special_modified_bessel_k1", One(special::k1)),
    ("special_scaled_modified_bessel_k0", One(special::k0e)), ("special_scaled_modified_bessel_k1", One(special::k1e)),
    ("special_bessel_j0", One(special::j0)), ("special_bessel_j1", One(special::j1)),
    ("special_bessel_y0", One(special::y0)), ("special_bessel_y1", One(special::y1)),
    ("special_spherical_bessel_j0", One(special::spherical_j0)),
    ("gcd", One(special::gcd)), ("lcm", One(special::lcm)), ("nextafter", One(special::nextafter)),
    ("logaddexp2", One(special::logaddexp2)), ("frexp.Tensor", Many(special::frexp)),
    ("special_chebyshev_polynomial_t special_chebyshev_polynomial_t.x_scalar special_chebyshev_polynomial_t.n_scalar \
      special_shifted_chebyshev_polynomial_t special_shifted_chebyshev_polynomial_t.x_scalar special_shifted_chebyshev_polynomial_t.n_scalar", One(special::chebyshev_t)),
    ("special_chebyshev_polynomial_u special_chebyshev_polynomial_u.x_scalar special_chebyshev_polynomial_u.n_scalar \
      special_shifted_chebyshev_polynomial_u special_shifted_chebyshev_polynomial_u.x_scalar special_shifted_chebyshev_polynomial_u.n_scalar", One(special::chebyshev_u)),
    ("special_chebyshev_polynomial_v special_chebyshev_polynomial_v.x_scalar special_chebyshev_polynomial_v.n_scalar \
      special_shifted_chebyshev_polynomial_v special_shifted_chebyshev_polynomial_v.x_scalar special_shifted_chebyshev_polynomial_v.n_scalar", One(special::chebyshev_v)),
    ("special_chebyshev_polynomial_w special_chebyshev_polynomial_w.x_scalar special_chebyshev_polynomial_w.n_scalar \
      special_shifted_chebyshev_polynomial_w special_shifted_chebyshev_polynomial_w.x_scalar special_shifted_chebyshev_polynomial_w.n_scalar", One(special::chebyshev_w)),
    ("special_hermite_polynomial_h special_hermite_polynomial_h.x_scalar special_hermite_polynomial_h.n_scalar", One(special::hermite_h)),
    ("special_hermite_polynomial_he special_hermite_polynomial_he.x_scalar special_hermite_polynomial_he.n_scalar", One(special::hermite_he)),
    ("special_laguerre_polynomial_l special_laguerre_polynomial_l.x_scalar special_laguerre_polynomial_l.n_scalar", One(special::laguerre)),
    ("special_legendre_polynomial_p special_legendre_polynomial_p.x_scalar special_legendre_polynomial_p.n_scalar", One(special::legendre)),
    // comparison, logic, choice
    ("eq.Tensor eq.Scalar", One(ew::eq)), ("ne.Tensor ne.Scalar not_equal.Scalar not_equal.Tensor", One(ew::ne)),
    ("lt.Tensor lt.Scalar less.Tensor less.Scalar", One(ew::lt)), ("le.Tensor le.Scalar less_equal.Tensor less_equal.Scalar", One(ew::le)),
    ("gt.Tensor gt.Scalar greater.Tensor greater.Scalar", One(ew::gt)), ("ge.Tensor ge.Scalar greater_equal.Tensor greater_equal.Scalar", One(ew::ge)),
    ("logical_and", One(ew::logical_and)), ("logical_or", One(ew::logical_or)),
    ("logical_xor", One(ew::logical_xor)), ("logical_not", One(ew::logical_not)),
    ("bitwise_and.Tensor bitwise_and.Scalar bitwise_and.Scalar_Tensor __and__.Tensor __and__.Scalar", One(ew::bitwise_and)),
    ("bitwise_or.Tensor bitwise_or.Scalar bitwise_or.Scalar_Tensor __or__.Tensor __or__.Scalar", One(ew::bitwise_or)),
    ("bitwise_xor.Tensor bitwise_xor.Scalar bitwise_xor.Scalar_Tensor __xor__.Tensor __xor__.Scalar", One(ew::bitwise_xor)),
    ("bitwise_not", One(ew::bitwise_not)),
    ("__lshift__.Scalar __lshift__.Tensor bitwise_left_shift.Tensor bitwise_left_shift.Tensor_Scalar bitwise_left_shift.Scalar_Tensor", One(ew::left_shift)),
    ("__rshift__.Scalar __rshift__.Tensor bitwise_right_shift.Tensor bitwise_right_shift.Tensor_Scalar bitwise_right_shift.Scalar_Tensor", One(ew::right_shift)),
    ("where.self where.ScalarOther where.ScalarSelf where.Scalar", One(ew::where_)),
    ("masked_fill.Scalar masked_fill.Tensor", One(ew::masked_fill)),
    // copies
    ("_to_copy", One(ew::to_copy)), ("copy", One(ew::copy)), ("fill.Scalar fill.Tensor", One(ew::fill)), ("zero", One(ew::zero)),
    ("clone", One(shape::clone)),
    // activations
    ("relu", One(act::relu)), ("relu6", One(act::relu6)), ("leaky_relu", One(act::leaky_relu)), ("rrelu rrelu_with_noise_functional", Many(act::rrelu)),
    ("prelu _prelu_kernel", One(act::prelu)), ("elu", One(act::elu)), ("selu", One(act::selu)), ("celu", One(act::celu)),
    ("gelu", One(act::gelu)), ("silu", One(act::silu)), ("mish", One(act::mish)), ("softplus", One(act::softplus)),
    ("hardsigmoid", One(act::hardsigmoid)), ("hardswish", One(act::hardswish)), ("log_sigmoid", One(act::log_sigmoid)), ("log_sigmoid_forward", Many(act::log_sigmoid_forward)),
    ("softshrink", One(act::softshrink)), ("hardshrink", One(act::hardshrink)), ("threshold", One(act::threshold)),
    ("glu", One(act::glu)), ("softmax.int _softmax special_softmax", One(act::softmax)),
    ("log_softmax.int _log_softmax special_log_softmax", One(act::log_softmax)), ("_safe_softmax", One(act::safe_softmax)),
    ("native_dropout", Many(act::native_dropout)),
    // views
    ("alias detach lift lift_fresh lift_fresh_copy positive _conj conj conj_physical resolve_conj resolve_neg requires_grad", V(shape::same)),
    ("dropout feature_dropout alpha_dropout feature_alpha_dropout", V(shape::dropout)),
    ("contiguous", V(shape::contiguous)),
    ("to.dtype to.dtype_layout to.device to.other to.prim_Device to.prim_dtype type_as cpu cuda", V(shape::to)),
    ("view _unsafe_view", V(shape::view)),
    ("reshape flatten.using_ints flatten unflatten.int view_as reshape_as ravel _reshape_copy", V(shape::reshape)),
    ("unsqueeze squeeze squeeze.dim squeeze.dims atleast_1d atleast_2d atleast_3d", V(shape::resqueeze)),
    ("permute", V(shape::permute)), ("transpose.int transpose", V(shape::transpose)), ("swapaxes swapdims", V(shape::swapaxes)),
    ("t mT mH adjoint matrix_H", V(shape::matrix_transpose)), ("numpy_T", V(shape::reverse_axes)),
    ("movedim.int movedim.intlist moveaxis.int moveaxis.intlist", V(shape::movedim)),
    ("expand expand_as broadcast_to", V(shape::expand)),
    ("select.int", V(shape::select)), ("slice.Tensor", V(shape::slice)), ("narrow", V(shape::narrow)),
    ("split.Tensor split.sizes split_with_sizes chunk tensor_split.sections tensor_split.indices unsafe_split.Tensor \
      unsafe_chunk split unsafe_split_with_sizes", Views(shape::split)),
    ("unbind.int", Views(shape::unbind)), ("tensor_split.tensor_indices_or_sections", Many(shape::split_at_places)),
    ("hsplit.int hsplit.array vsplit.int vsplit.array dsplit.int dsplit.array", Views(shape::split_along)),
    ("atleast_1d.Sequence atleast_2d.Sequence atleast_3d.Sequence", Many(shape::atleast_each)),
    ("linalg_diagonal", V(matrix::linalg_diagonal)), ("diagflat", One(matrix::diagflat)),
    ("diagonal", V(matrix::diagonal_view)), ("unfold", V(window::unfold_view)), ("as_strided", V(shape::as_strided)), ("as_strided_scatter", One(shape::as_strided_scatter)),
    ("view_as_complex view_as_real", V(shape::complex_view)), ("real", V(shape::real)), ("imag", V(shape::imag)),
    ("view.dtype", One(shape::view_dtype)),
    // joins and orders
    ("cat concat concatenate", One(shape::cat)), ("stack", One(shape::stack)), ("hstack", One(shape::hstack)),
    ("vstack row_stack", One(shape::vstack)), ("dstack", One(shape::dstack)), ("column_stack", One(shape::column_stack)),
    ("repeat tile", One(shape::repeat)), ("repeat_interleave.self_int", One(shape::repeat_interleave)),
    ("repeat_interleave.self_Tensor", One(index::repeat_interleave_tensor)),
    ("flip", One(shape::flip)), ("roll", One(shape::roll)), ("rot90", One(shape::rot90)),
    ("pixel_shuffle", One(shape::pixel_shuffle)), ("pixel_unshuffle", One(shape::pixel_unshuffle)),
    ("channel_shuffle native_channel_shuffle", One(shape::channel_shuffle)),
    ("meshgrid meshgrid.indexing", Many(shape::meshgrid)), ("broadcast_tensors", Many(shape::broadcast_tensors)),
    ("cartesian_prod", One(shape::cartesian_prod)),
    ("slice_scatter", One(shape::slice_scatter)), ("select_scatter", One(shape::select_scatter)),
    ("diagonal_scatter", One(matrix::diagonal_scatter_op)),
    // new tensors
    ("zeros zeros_like new_zeros empty.memory_format empty_like new_empty empty_permuted empty_strided new_empty_strided", One(create::zeros)),
    ("ones ones_like new_ones", One(create::ones)), ("full full_like new_full", One(create::full)),
    ("scalar_tensor", One(create::scalar_tensor)), ("arange arange.start arange.start_step", One(create::arange)),
    ("linspace linspace.Tensor_Tensor linspace.Tensor_Scalar linspace.Scalar_Tensor", One(create::linspace)),
    ("logspace logspace.Tensor_Tensor logspace.Tensor_Scalar logspace.Scalar_Tensor", One(create::logspace)), ("eye eye.m", One(create::eye)),
    ("hann_window hann_window.periodic hamming_window hamming_window.periodic hamming_window.periodic_alpha hamming_window.periodic_alpha_beta \
      blackman_window blackman_window.periodic bartlett_window bartlett_window.periodic kaiser_window kaiser_window.periodic kaiser_window.beta", One(create::window)),
    ("fft_fftfreq fft_rfftfreq", One(create::frequencies)), ("pad_sequence", One(shape::pad_sequence)), ("one_hot", One(create::one_hot)),
    ("rand rand_like", One(create::rand)), ("randn randn_like", One(create::randn)), ("normal.float_float", One(create::normal)),
    ("normal.Tensor_Tensor normal.Tensor_float normal.float_Tensor", One(create::normal_around)),
    ("randint randint.low randint_like randint_like.low_dtype", One(create::randint)), ("random random.from random.to", One(create::random_whole)), ("bernoulli bernoulli.p bernoulli.float bernoulli.Tensor", One(create::bernoulli)),
    ("randperm", One(create::randperm)), ("multinomial", One(create::multinomial)),
    ("uniform", One(create::uniform)), ("cauchy", One(create::cauchy)), ("exponential", One(create::exponential)),
    ("geometric", One(create::geometric)), ("normal log_normal", One(create::normal_like)), ("complex", One(create::complex)), ("polar", One(create::polar)),
    // reductions
    ("sum sum.dim_IntList", One(reduce::sum)), ("prod prod.dim_int", One(reduce::prod)), ("mean mean.dim", One(reduce::mean)),
    ("amax max", One(reduce::amax)), ("amin min", One(reduce::amin)), ("aminmax", Many(reduce::aminmax)),
    ("any any.dim any.dims", One(reduce::any)), ("all all.dim all.dims _is_all_true", One(reduce::all)),
    ("argmax", One(reduce::argmax)), ("argmin", One(reduce::argmin)),
    ("max.dim", Many(reduce::max_dim)), ("min.dim", Many(reduce::min_dim)),
    ("var var.dim var.correction", One(reduce::var)), ("std std.dim std.correction", One(reduce::std)),
    ("var_mean var_mean.dim var_mean.correction", Many(reduce::var_mean)),
    ("std_mean std_mean.dim std_mean.correction", Many(reduce::std_mean)),
    ("logsumexp special_logsumexp", One(reduce::logsumexp)), ("linalg_vector_norm norm.ScalarOpt_dim norm.Scalar norm.ScalarOpt_dtype norm.ScalarOpt_dim_dtype", One(reduce::vector_norm)),
    ("count_nonzero count_nonzero.dim_IntList", One(reduce::count_nonzero)),
    ("nansum", One(reduce::nansum)), ("nanmean", One(reduce::nanmean)),
    ("cumsum", One(reduce::cumsum)), ("cumprod", One(reduce::cumprod)), ("logcumsumexp", One(reduce::logcumsumexp)),
    ("topk", Many(reduce::topk)), ("sort sort.stable", Many(reduce::sort)), ("argsort argsort.stable", One(reduce::argsort)),
    ("msort", One(reduce::msort)), ("kthvalue", Many(reduce::kthvalue)), ("median.dim", Many(reduce::median_dim)),
    ("median", One(reduce::median)), ("diff", One(reduce::diff)),
    ("trapezoid.x trapezoid.dx trapz.x trapz.dx", One(reduce::trapezoid)),
    ("cumulative_trapezoid.x cumulative_trapezoid.dx", One(reduce::cumulative_trapezoid)), ("renorm", One(reduce::renorm)),
    ("quantile quantile.scalar nanquantile nanquantile.scalar", One(composite::quantile)),
    ("cummax", Many(reduce::cummax)), ("cummin", Many(reduce::cummin)),
    ("mode", Many(reduce::mode)), ("nanmedian.dim", Many(reduce::nanmedian_dim)), ("nanmedian", One(reduce::nanmedian)),
    ("histc", One(histogram::histc)), ("histogram.bin_ct histogram.bins_tensor", Many(histogram::histogram)),
    ("histogramdd histogramdd.int_bins histogramdd.TensorList_bins _histogramdd_bin_edges _histogramdd_from_bin_cts \
      _histogramdd_from_bin_tensors", Many(histogram::histogramdd)),
    ("linalg_norm linalg_norm.ord_str", One(reduce::linalg_norm)),
    ("linalg_matrix_norm linalg_matrix_norm.str_ord", One(reduce::matrix_norm)),
    // products
    ("linear", One(linear::linear)), ("matmul __matmul__.Tensor linalg_matmul", One(linear::matmul)), ("mm bmm", One(linear::mm)),
    ("_int_mm", One(linear::int_mm)), ("_weight_int8pack_mm", One(linear::weight_int8pack_mm)),
    ("mv", One(linear::mv)), ("dot", One(linear::dot)), ("vdot", One(linear::vdot)), ("addmm", One(linear::addmm)),
    ("baddbmm", One(linear::baddbmm)), ("addbmm", One(linear::addbmm)), ("addmv", One(linear::addmv)),
    ("outer ger", One(linear::outer)), ("einsum", One(linear::einsum)), ("bilinear", One(linear::bilinear)),
    ("tensordot", One(linear::tensordot)), ("inner", One(linear::inner)), ("linalg_vecdot", One(linear::vecdot)), ("_trilinear", One(linear::trilinear)), ("kron", One(linear::kron)),
    ("scaled_dot_product_attention _scaled_dot_product_flash_attention_for_cpu", Many(linear::attention)),
    ("_native_multi_head_attention", Many(linear::native_multi_head_attention)),
    ("_transformer_encoder_layer_fwd", One(linear::transformer_encoder_layer)),
    // convolution, pooling, normalisation
    ("conv1d conv2d conv3d", One(conv::conv)), ("conv1d.padding conv2d.padding conv3d.padding", One(conv::conv_named_padding)),
    ("conv_transpose1d conv_transpose2d.input conv_transpose3d.input", One(conv::conv_transpose)),
    ("convolution", One(conv::convolution)), ("conv_tbc", One(conv::conv_tbc)),
    ("max_pool1d max_pool2d max_pool3d max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices", Many(pool::max_pool)),
    ("max_unpool2d max_unpool3d", One(pool::max_unpool)),
    ("avg_pool1d avg_pool2d avg_pool3d", One(pool::avg_pool)),
    ("adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d", One(pool::adaptive_avg_pool)),
    ("adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d", Many(pool::adaptive_max_pool)),
    ("batch_norm _native_batch_norm_legit_no_training _native_batch_norm_legit.no_stats native_batch_norm \
      _native_batch_norm_legit cudnn_batch_norm _batch_norm_no_update", Many(norm::batch_norm)),
    ("_batch_norm_with_update", Many(norm::batch_norm_with_update)), ("hash_tensor", One(reduce::hash_tensor)), ("chalf", One(complex::half)),
    ("layer_norm native_layer_norm", Many(norm::layer_norm)), ("rms_norm _fused_rms_norm", Many(norm::rms_norm)),
    ("group_norm native_group_norm", Many(norm::group_norm)), ("instance_norm", One(norm::instance_norm)),
    ("_weight_norm _weight_norm_interface", Many(norm::weight_norm)), ("cosine_similarity", One(norm::cosine_similarity)),
    // indexing
    ("embedding", One(index::embedding)), ("index_select", One(index::index_select)), ("index.Tensor _unsafe_index.Tensor", One(index::index)),
    ("index_put _unsafe_index_put", One(index::index_put)), ("gather", One(index::gather)),
    ("take_along_dim", One(index::take_along_dim)), ("take", One(index::take)),
    ("scatter.src", One(scatter::scatter_src)), ("scatter.reduce scatter.value_reduce", One(scatter::scatter_with)), ("scatter.value", One(scatter::scatter_value)), ("scatter_add", One(scatter::scatter_add)),
    ("scatter_reduce.two", One(scatter::scatter_reduce)), ("index_add", One(scatter::index_add)), ("index_copy", One(scatter::index_copy)),
    ("index_reduce", One(scatter::index_reduce)), ("put", One(scatter::put)), ("_unsafe_masked_index", One(index::unsafe_masked_index)),
    ("_unsafe_masked_index_put_accumulate", One(index::unsafe_masked_index_put)), ("embedding_renorm", One(index::embedding_renorm)),
    ("nonzero_static", One(index::nonzero_static)),
    ("index_fill.int_Scalar index_fill.int_Tensor", One(scatter::index_fill)), ("nonzero argwhere", One(index::nonzero)),
    ("nonzero_numpy where", Many(index::nonzero_numpy)), ("masked_select", One(index::masked_select)),
    ("masked_scatter", One(index::masked_scatter)), ("isin.Tensor_Tensor isin.Tensor_Scalar isin.Scalar_Tensor", One(index::isin)),
    ("searchsorted.Tensor searchsorted.Scalar bucketize.Tensor bucketize.Scalar", One(index::searchsorted)), ("bincount", One(index::bincount)),
    ("embedding_bag.padding_idx embedding_bag _embedding_bag_forward_only _embedding_bag", Many(index::embedding_bag)),
    ("_unique2", Many(index::unique)), ("unique_consecutive", Many(index::unique_consecutive)),
    ("repeat_interleave.Tensor", One(index::repeated_indices)), ("unique_dim", Many(index::unique_dim)),
    ("transformers/grouped_mm_fallback/default", One(index::grouped_mm)),
    // matrices
    ("tril", One(matrix::tril)), ("triu", One(matrix::triu)), ("tril_indices", One(matrix::tril_indices)), ("triu_indices", One(matrix::triu_indices)),
    ("diag_embed", One(matrix::diag_embed)), ("diag", One(matrix::diag)), ("trace", One(matrix::trace)),
    ("fill_diagonal", One(matrix::fill_diagonal)), ("linalg_det _linalg_det det", Many(matrix::det)),
    ("linalg_matrix_power matrix_power", One(matrix::matrix_power)), ("linalg_cross", One(matrix::cross)),
    ("cdist _cdist_forward", One(matrix::cdist)), ("pdist _pdist_forward", One(matrix::pdist)),
    ("pairwise_distance", One(matrix::pairwise_distance)), ("dist", One(matrix::dist)), ("block_diag", One(matrix::block_diag)),
    ("vander linalg_vander", One(matrix::vander)),
    // linear algebra
    ("linalg_inv linalg_inv_ex inverse", Many(linalg::inv)), ("linalg_solve linalg_solve_ex", Many(linalg::solve)),
    ("_linalg_solve_ex", Many(linalg::solve_with_lu)), ("linalg_solve_triangular", One(linalg::solve_triangular)),
    ("triangular_solve", Many(linalg::triangular_solve)), ("cholesky_solve", One(linalg::cholesky_solve)),
    ("cholesky_inverse", One(linalg::cholesky_inverse)), ("linalg_slogdet slogdet _linalg_slogdet", Many(linalg::slogdet)),
    ("logdet", One(linalg::logdet)), ("linalg_lu_factor linalg_lu_factor_ex _lu_with_info", Many(linalg::lu_factor)),
    ("linalg_lu", Many(linalg::lu)), ("lu_unpack", Many(linalg::lu_unpack)), ("linalg_lu_solve lu_solve", One(linalg::lu_solve)),
    ("linalg_cholesky linalg_cholesky_ex cholesky", Many(linalg::cholesky)), ("linalg_qr qr", Many(linalg::qr)),
    ("linalg_householder_product orgqr", One(linalg::householder_product)), ("ormqr", One(linalg::ormqr)), ("geqrf", Many(linalg::geqrf)),
    ("linalg_tensorinv", One(linalg::tensorinv)), ("linalg_tensorsolve", One(linalg::tensorsolve)),
    ("linalg_eigh _linalg_eigh", Many(spectral::eigh)), ("linalg_eigvalsh", One(spectral::eigvalsh)),
    ("linalg_svd _linalg_svd", Many(spectral::svd)), ("svd", Many(spectral::svd_legacy)), ("linalg_svdvals", One(spectral::svdvals)),
    ("linalg_pinv linalg_pinv.atol_rtol_tensor linalg_pinv.atol_rtol_float pinverse", One(spectral::pinv)),
    ("linalg_matrix_rank linalg_matrix_rank.atol_rtol_tensor linalg_matrix_rank.atol_rtol_float linalg_matrix_rank.tol_tensor",
     One(spectral::matrix_rank)),
    ("linalg_cond", One(spectral::cond)), ("linalg_matrix_exp matrix_exp", One(linalg::matrix_exp)),
    ("linalg_ldl_factor linalg_ldl_factor_ex", Many(ldl::factor)), ("linalg_ldl_solve", One(ldl::solve)),
    ("linalg_multi_dot chain_matmul", One(linalg::multi_dot)),
    // images and windows
    ("upsample_nearest1d.vec upsample_nearest2d.vec upsample_nearest3d.vec upsample_nearest1d upsample_nearest2d upsample_nearest3d", One(resize::nearest)),
    ("_upsample_nearest_exact1d.vec _upsample_nearest_exact2d.vec _upsample_nearest_exact3d.vec _upsample_nearest_exact1d \
      _upsample_nearest_exact2d _upsample_nearest_exact3d", One(resize::nearest_exact)),
    ("upsample_linear1d.vec upsample_bilinear2d.vec upsample_trilinear3d.vec upsample_linear1d upsample_bilinear2d \
      upsample_trilinear3d _upsample_bilinear2d_aa.vec _upsample_bilinear2d_aa", One(resize::linear)),
    ("upsample_bicubic2d.vec upsample_bicubic2d _upsample_bicubic2d_aa.vec _upsample_bicubic2d_aa", One(resize::cubic)),
    ("grid_sampler grid_sampler_2d grid_sampler_3d", One(resize::grid_sampler)), ("affine_grid_generator", One(resize::affine_grid)),
    ("pad", One(resize::pad)), ("constant_pad_nd", One(resize::constant_pad)),
    ("reflection_pad1d reflection_pad2d reflection_pad3d", One(resize::reflection_pad)),
    ("replication_pad1d replication_pad2d replication_pad3d", One(resize::replication_pad)),
    // gradients
    ("tanh_backward", One(gradient::tanh_backward)), ("sigmoid_backward", One(gradient::sigmoid_backward)),
    ("threshold_backward", One(gradient::threshold_backward)), ("gelu_backward", One(gradient::gelu_backward)),
    ("silu_backward", One(gradient::silu_backward)), ("mish_backward", One(gradient::mish_backward)),
    ("softplus_backward", One(gradient::softplus_backward)), ("log_sigmoid_backward", One(gradient::log_sigmoid_backward)),
    ("elu_backward", One(gradient::elu_backward)), ("leaky_relu_backward", One(gradient::leaky_relu_backward)),
    ("hardtanh_backward", One(gradient::hardtanh_backward)), ("hardsigmoid_backward", One(gradient::hardsigmoid_backward)),
    ("hardswish_backward", One(gradient::hardswish_backward)), ("hardshrink_backward softshrink_backward", One(gradient::shrink_backward)),
    ("_log_softmax_backward_data", One(gradient::log_softmax_backward)), ("mse_loss_backward", One(gradient::mse_loss_backward)),
    ("smooth_l1_loss_backward", One(gradient::smooth_l1_loss_backward)), ("huber_loss_backward", One(gradient::huber_loss_backward)),
    ("select_backward", One(gradient::select_backward)), ("slice_backward", One(gradient::slice_backward)),
    ("diagonal_backward", One(gradient::diagonal_backward)), ("index_select_backward", One(gradient::index_select_backward)),
    ("value_selecting_reduction_backward", One(gradient::selection_backward)),
    ("embedding_dense_backward embedding_backward", One(gradient::embedding_backward)),
    ("native_layer_norm_backward", Many(gradient::layer_norm_backward)), ("native_group_norm_backward", Many(gradient::group_norm_backward)),
    ("native_batch_norm_backward", Many(gradient::batch_norm_backward)), ("convolution_backward", Many(gradient::convolution_backward)),
    ("avg_pool2d_backward", One(gradient::avg_pool_backward)), ("_adaptive_avg_pool2d_backward", One(gradient::adaptive_avg_pool_backward)),
    ("native_dropout_backward", One(training::native_dropout_backward)),
    ("max_pool2d_with_indices_backward", One(training::max_pool_backward)),
    ("fractional_max_pool2d fractional_max_pool3d", Many(training::fractional_max_pool)),
    ("segment_reduce", One(segment::segment_reduce)), ("_chunk_cat", One(segment::chunk_cat)),
    ("resize resize_as", V(shape::resize)), ("special_airy_ai", One(special::airy_ai)),
    ("linalg_polar", Many(spectral::polar)), ("linalg_matrix_sqrth", One(spectral::matrix_sqrth)),
    ("im2col", One(window::im2col)), ("col2im", One(window::col2im)),
    // recurrent layers
    ("lstm.input lstm.data", Many(rnn::lstm)), ("gru.input gru.data", Many(rnn::gru)),
    ("_pack_padded_sequence", Many(packed::pack)), ("_pad_packed_sequence", Many(packed::pad)), ("rnn_tanh.input", Many(rnn::rnn_tanh)),
    ("rnn_relu.input", Many(rnn::rnn_relu)), ("lstm_cell", Many(rnn::lstm_cell)), ("gru_cell", One(rnn::gru_cell)),
    ("rnn_tanh_cell", One(rnn::rnn_tanh_cell)), ("rnn_relu_cell", One(rnn::rnn_relu_cell)),
    // spectra of real tensors
    ("fft_fft", One(fourier::fft)), ("fft_ifft", One(fourier::ifft)), ("fft_fft2 fft_fftn", One(fourier::fftn)),
    ("fft_ifft2 fft_ifftn", One(fourier::ifftn)), ("fft_rfft fft_rfft2 fft_rfftn _fft_r2c", One(fourier::rfft)),
    ("fft_irfft fft_irfft2 fft_irfftn _fft_c2r", One(fourier::irfft)), ("_fft_c2c", One(fourier::fft_c2c)),
    ("fft_hfft fft_hfft2 fft_hfftn", One(fourier::hfft)), ("fft_ihfft fft_ihfft2 fft_ihfftn", One(fourier::ihfft)), ("fft_fftshift fft_ifftshift", One(fourier::fftshift)), ("stft", One(fourier::stft)), ("istft", One(fourier::istft)),
    ("angle", One(complex::real_angle)),
    // losses
    ("mse_loss", One(loss::mse_loss)), ("l1_loss", One(loss::l1_loss)), ("smooth_l1_loss", One(loss::smooth_l1_loss)),
    ("huber_loss", One(loss::huber_loss)), ("binary_cross_entropy", One(loss::binary_cross_entropy)),
    ("binary_cross_entropy_with_logits", One(loss::binary_cross_entropy_with_logits)), ("kl_div", One(loss::kl_div)),
    ("nll_loss_nd nll_loss nll_loss2d nll_loss_forward nll_loss2d_forward", Many(loss::nll_loss)), ("cross_entropy_loss", One(loss::cross_entropy_loss)),
    ("torch_nn/_linear_cross_entropy_batch_chunked/default torch_nn/_linear_cross_entropy_batch_chunked_no_reduction/default", Many(loss::linear_cross_entropy)),
    ("soft_margin_loss", One(loss::soft_margin_loss)), ("margin_ranking_loss", One(loss::margin_ranking_loss)),
    ("multi_margin_loss", One(loss::multi_margin_loss)), ("multilabel_margin_loss", One(loss::multilabel_margin_loss)),
    ("triplet_margin_loss", One(loss::triplet_margin_loss)), ("hinge_embedding_loss", One(loss::hinge_embedding_loss)),
    ("cosine_embedding_loss", One(loss::cosine_embedding_loss)), ("poisson_nll_loss", One(loss::poisson_nll_loss)),
    // detection and quantization
    ("torchvision/nms/default", One(vision::nms)), ("torchvision/roi_align/default", One(vision::roi_align)),
    ("torchvision/roi_pool/default", Many(vision::roi_pool)), ("torchvision/ps_roi_align/default", Many(vision::ps_roi_align)),
    ("torchvision/ps_roi_pool/default", Many(vision::ps_roi_pool)),
    ("torchvision/deform_conv2d/default", One(vision::deform_conv2d)),
    ("quantized_decomposed/choose_qparams/tensor", Many(vision::choose_qparams)),
    ("quantized_decomposed/quantize_per_tensor/default quantized_decomposed/quantize_per_tensor/tensor", One(vision::quantize_per_tensor)),
    ("quantized_decomposed/dequantize_per_tensor/default quantized_decomposed/dequantize_per_tensor/tensor", One(vision::dequantize_per_tensor)),
    ("quantized_decomposed/quantize_per_channel/default", One(vision::quantize_per_channel)),
    ("quantized_decomposed/dequantize_per_channel/default", One(vision::dequantize_per_channel)),
    ("torchao/choose_qparams_affine/default", Many(torchao::choose_qparams)), ("torchao/quantize_affine/default", One(torchao::quantize)),
    ("torchao/dequantize_affine/default", One(torchao::dequantize)),
    ("fake_quantize_per_tensor_affine fake_quantize_per_tensor_affine.tensor_qparams \
      _fake_quantize_per_tensor_affine_cachemask_tensor_qparams fake_quantize_per_tensor_affine_cachemask", Many(vision::fake_quantize_per_tensor)),
    ("fake_quantize_per_channel_affine fake_quantize_per_channel_affine_cachemask", Many(vision::fake_quantize_per_channel)),
    // sizes
    ("sym_size.int", Vals(sym::sym_size)), ("sym_numel", Vals(sym::sym_numel)), ("sym_stride.int sym_storage_offset", Vals(sym::sym_layout)),
    ("item _local_scalar_dense", Vals(sym::item)),
    ("_operator/add _operator/sub _operator/mul _operator/truediv _operator/floordiv _operator/mod _operator/pow _operator/neg \
      _operator/lshift _operator/rshift math/trunc math/floor math/ceil torch/sym_int torch/sym_float torch/sym_max torch/sym_min \
      torch/sym_sqrt", Vals(sym::arithmetic)),
    ("_operator/eq _operator/ne _operator/lt _operator/le _operator/gt _operator/ge", Vals(sym::comparison)),
    ("_operator/and_ _operator/or_ torch/sym_not", Vals(sym::logic)), ("torch/sym_ite", Vals(sym::ite)),
    // wrappers
    ("higher_order/wrap_with_set_grad_enabled higher_order/invoke_subgraph higher_order/tag_activation_checkpoint \
      higher_order/strict_mode higher_order/hints_wrapper higher_order/wrap higher_order/wrap_activation_checkpoint", Vals(hop::inlined)),
    ("higher_order/wrap_with_autocast", Vals(hop::autocast)),
    ("higher_order/with_effects", Vals(hop::with_effects)),
    ("higher_order/cond", Vals(hop::cond)), ("higher_order/while_loop", Vals(hop::while_loop)),
    ("higher_order/scan", Vals(hop::scan)), ("higher_order/map_impl", Vals(hop::map)),
    ("higher_order/associative_scan", Vals(hop::associative_scan)),
    ("higher_order/auto_functionalized higher_order/auto_functionalized_v2", Vals(custom::auto_functionalized)),
    // assertions
    ("_assert_scalar", Vals(assertions::assert_scalar)), ("_assert_async _assert_async.msg", Vals(assertions::assert_async)),
    ("_functional_assert_async.msg", Vals(assertions::functional_assert_async)),
    ("_assert_tensor_metadata", Vals(assertions::assert_tensor_metadata)),
    ("sym_constrain_range sym_constrain_range_for_size", Vals(assertions::constrain_range)),
    ("_print promote_types result_type.Tensor result_type.Scalar result_type.Scalar_Tensor result_type.Scalar_Scalar", Skip),
    // brackets of torch.vmap, which the walk over the nodes deals with
    ("torch/_functorch/predispatch/lazy_load_decompositions torch/_functorch/predispatch/_vmap_increment_nesting \
      torch/_functorch/predispatch/_add_batch_dim torch/_functorch/predispatch/_remove_batch_dim \
      torch/_functorch/predispatch/_vmap_decrement_nesting", Skip),
];

/// Operators that take complex tensors.
#[rustfmt::skip]
const COMPLEX: &[(&str, Rule)] = &[
    ("mul.Tensor mul.Scalar multiply.Tensor multiply.Scalar", One(complex::mul)), ("add.Tensor add.Scalar", One(complex::add)),
    ("div.Tensor div.Scalar divide.Tensor divide.Scalar true_divide.Tensor true_divide.Scalar", One(complex::div)),
    ("sub.Tensor sub.Scalar subtract.Tensor subtract.Scalar", One(complex::sub)), ("rsub.Scalar rsub.Tensor", One(complex::rsub)),
    ("neg negative", One(complex::neg)), ("abs absolute", One(complex::abs)), ("angle", One(complex::angle)),
    ("conv1d conv2d conv3d conv1d.padding conv2d.padding conv3d.padding", One(complex::conv)),
    ("exp", One(complex::exp)), ("_conj conj conj_physical", One(complex::conj)), ("clone contiguous positive", One(complex::copy)),
    ("log", One(complex::log)), ("sqrt", One(complex::sqrt)), ("square", One(complex::square)), ("reciprocal", One(complex::reciprocal)),
    ("pow.Tensor_Scalar", One(complex::pow)), ("pow.Tensor_Tensor pow.Scalar", One(cf::pow)), ("sin", One(complex::sin)), ("cos", One(complex::cos)), ("sgn", One(complex::sgn)),
    ("eq.Tensor eq.Scalar ne.Tensor ne.Scalar", One(complex::equal)), ("mean mean.dim", One(complex::mean)),
    ("linalg_vector_norm", One(complex::vector_norm)), ("einsum", One(complex::einsum)), ("linear", One(complex::linear)),
    ("outer ger mv dot", One(complex::product)),
    ("to.dtype to.dtype_layout to.device to.other to.prim_Device to.prim_dtype type_as _to_copy", V(complex::to)),
    ("alias detach lift_fresh_copy resolve_conj resolve_neg view_as_real", V(shape::complex_view)),
    ("real", V(shape::real)), ("imag", V(shape::imag)),
    ("view _unsafe_view reshape flatten.using_ints unflatten.int unsqueeze squeeze squeeze.dim squeeze.dims ravel reshape_as view_as \
      atleast_1d atleast_2d atleast_3d", V(complex::reshape)),
    ("diagonal", V(pairs::diagonal)), ("unfold", V(pairs::unfold)), ("as_strided", V(pairs::as_strided)),
    ("tensor_split.sections tensor_split.indices", Views(pairs::tensor_split)),
    ("expand expand_as broadcast_to", V(complex::expand)), ("permute", V(complex::permute)),
    ("transpose.int swapaxes swapdims", V(pairs::transpose)), ("movedim.int movedim.intlist moveaxis.int moveaxis.intlist", V(pairs::movedim)),
    ("t mT matrix_T", V(pairs::swap_last)), ("slice.Tensor", V(pairs::slice)), ("select.int", V(pairs::select)), ("narrow", V(pairs::narrow)),
    ("split.Tensor split.sizes split_with_sizes chunk", Views(pairs::split)), ("unsafe_chunk unsafe_split.Tensor unsafe_split_with_sizes", Many(cf::by_parts)), ("unbind.int", Views(pairs::unbind)),
    ("flip", One(pairs::flip)), ("cat concat concatenate", One(pairs::cat)), ("stack", One(pairs::stack)),
    ("repeat tile", One(pairs::repeat)), 
    ("index.Tensor", One(pairs::index)), ("index_put", One(pairs::index_put)),
    ("gather", One(pairs::gather)), ("where.self where.ScalarOther where.ScalarSelf where.Scalar", One(pairs::where_)), ("masked_fill.Scalar masked_fill.Tensor", One(pairs::masked_fill)),
    ("copy", One(pairs::copy)), ("fill.Scalar fill.Tensor zero", One(pairs::fill)),
    ("zeros_like new_zeros empty_like new_empty", One(create::zeros)), ("ones_like new_ones", One(create::ones)), ("full_like new_full", One(create::full)),
    ("sum sum.dim_IntList", One(complex::total)),
    ("fft_fft", One(fourier::fft)), ("fft_ifft", One(fourier::ifft)), ("fft_fft2 fft_fftn", One(fourier::fftn)),
    ("fft_ifft2 fft_ifftn", One(fourier::ifftn)), ("_fft_c2c", One(fourier::fft_c2c)), ("fft_irfft fft_irfft2 fft_irfftn _fft_c2r", One(fourier::irfft)),
    ("fft_fftshift fft_ifftshift", One(fourier::fftshift)), ("fft_hfft fft_hfft2 fft_hfftn", One(fourier::hfft)), ("istft", One(fourier::istft)),
    ("tan sinh cosh tanh asin arcsin acos arccos atan arctan asinh arcsinh acosh arccosh atanh arctanh log1p special_log1p log2 log10 \
      exp2 special_exp2 expm1 special_expm1 rsqrt sigmoid special_expit", One(cf::function)),
    ("addcmul addcdiv", One(cf::addc)), ("lerp.Scalar lerp.Tensor", One(cf::lerp)), ("logaddexp", One(cf::logaddexp)),
    ("logsumexp", One(cf::logsumexp)), ("dropout feature_dropout alpha_dropout feature_alpha_dropout", V(shape::dropout)),
    ("prod prod.dim_int cumprod", One(cf::prod)), ("isnan isinf isfinite isreal", One(cf::test)),
    ("var var.dim var.correction std std.dim std.correction var_mean var_mean.dim var_mean.correction std_mean std_mean.dim \
      std_mean.correction", Many(cf::spread)),
    ("cumsum roll constant_pad_nd pad tensor_split.tensor_indices_or_sections index_select index_add diff gradient.scalarint gradient.scalararray gradient.array gradient.scalarrayint gradient.scalarrayarray gradient.tensorarray \
      gradient.tensorarrayint trapezoid.x trapezoid.dx trapz.x trapz.dx cumulative_trapezoid.x cumulative_trapezoid.dx sum_to_size \
      diag diag_embed diagflat diagonal_scatter tril triu trace block_diag fill_diagonal combinations cartesian_prod \
      broadcast_tensors fliplr flipud rot90 hstack vstack row_stack dstack column_stack meshgrid meshgrid.indexing repeat_interleave.self_int \
      repeat_interleave.self_Tensor _chunk_cat nan_to_num _unsafe_masked_index _unsafe_masked_index_put_accumulate masked_select masked_scatter take take_along_dim put index_fill.int_Scalar index_fill.int_Tensor \
      index_copy scatter.src scatter.value scatter_add slice_scatter select_scatter pixel_shuffle pixel_unshuffle channel_shuffle \
      as_strided_scatter im2col col2im atleast_1d.Sequence \
      atleast_2d.Sequence atleast_3d.Sequence", Many(cf::by_parts)),
    ("addmm addmv addbmm baddbmm addr vdot inner tensordot kron linalg_vecdot cross linalg_cross", One(cf::by_product)),
    ("logical_not logical_and logical_or logical_xor nonzero argwhere nonzero_numpy count_nonzero count_nonzero.dim_IntList any all any.dim \
      all.dim any.dims all.dims", Many(cf::by_truth)),
    ("norm.Scalar norm.ScalarOpt_dim norm.ScalarOpt_dtype norm.ScalarOpt_dim_dtype", One(cf::by_size)),
    ("linalg_inv linalg_inv_ex inverse linalg_solve linalg_matrix_exp matrix_exp linalg_matrix_power matrix_power", Many(cf::by_embedding)),
    ("mH adjoint matrix_H", One(complex::adjoint)), ("numpy_T", V(complex::reverse_axes)), ("matmul mm bmm", One(complex::matmul)),
];

#[cfg(test)]
pub(crate) fn targets() -> impl Iterator<Item = &'static str> {
    TABLE.iter().flat_map(|(names, _)| names.split_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_target_is_listed_twice() {
        let mut all: Vec<&str> = targets().collect();
        all.sort_unstable();
        let twice: Vec<_> = all.windows(2).filter(|w| w[0] == w[1]).map(|w| w[0]).collect();
        assert!(twice.is_empty(), "{twice:?}");
        assert!(find("aten.add.Tensor").is_some() && find("aten.relu.default").is_some());
        assert!(find("_operator.add").is_some() && find("transformers.grouped_mm_fallback.default").is_some());
    }
}
