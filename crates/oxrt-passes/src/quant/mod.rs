//! Rules for graphs with QuantizeLinear and DequantizeLinear: what stands between two of them becomes one operator on bytes.

mod binary;
mod blocks;
mod end;
mod movement;
mod params;
mod pool;
mod product;
mod qlinear;
mod table;
mod weights;

use crate::driver::Rule;

/// In order of application; before the layout is chosen, because convolutions are turned here.
pub(crate) const RULES: &[Rule] = &[
    qlinear::CONV,
    qlinear::MATMUL,
    blocks::PRODUCT,
    blocks::GATHER,
    movement::RAISE,
    movement::SAME,
    movement::RAISE_TABLE,
    product::CONV,
    product::GEMM,
    product::MATMUL,
    product::TRANSPOSED,
    pool::RULE,
    end::BIAS,
    end::ACTIVATION,
    end::QUANTIZE,
    binary::RULE,
    table::RULE,
    end::RESIDUAL,
    end::TABLE,
];

/// Products of floats of 8 bits, and what follows them. For devices that multiply them.
pub(crate) const SMALL_FLOATS: [Rule; 5] =
    [product::SMALL_CONV, product::SMALL_GEMM, movement::SMALL_RAISE, end::SMALL_QUANTIZE, end::SMALL_RESIDUAL];

/// Afterwards: constants that no fused operator took are reals again.
pub(crate) const LEFT_OVER: &[Rule] = &[weights::RULE];
