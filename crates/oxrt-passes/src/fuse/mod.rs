//! Rules that make the engine's fused operators.

mod activation;
mod attention;
mod bias;
mod elementwise;
mod gemm;
mod packed_attention;
mod push_reshape;
mod residual;
mod row_moves;
mod select_rows;
mod shared_heads;
mod silu;
mod window_mask;

use crate::driver::Rule;

/// In order of application; they run together with the layout rules.
pub(crate) const RULES: &[Rule] = &[
    silu::RULE,
    push_reshape::TRANSPOSE,
    push_reshape::UNARY,
    window_mask::RULE,
    attention::RULE,
    shared_heads::RULE,
    packed_attention::RULE,
    gemm::MATMUL,
    gemm::GEMM,
    bias::RULE,
    packed_attention::JOIN,
    packed_attention::UNTURN,
    packed_attention::PRODUCT,
    activation::RULE,
    residual::RULE,
];

/// Products of tensors of 16 bits.
pub(crate) const HALVES: [Rule; 2] = [gemm::HALF_MATMUL, gemm::HALF_GEMM];

/// After those: rows that are picked, and such as are still moved more than once.
pub(crate) const MOVES: &[Rule] = &[select_rows::RULE, row_moves::RULE];

/// Last: what is left of elementwise chains.
pub(crate) const ELEMENTWISE: &[Rule] = &[elementwise::RULE];
