//! Rules whose results are standard ONNX.

mod fold_constants;
mod fold_factors;
mod fuse_conv_bn;
mod fuse_division;
mod fuse_gelu;
mod fuse_gemm;
mod fuse_group_norm;
mod fuse_hard_swish;
mod fuse_layer_norm;
mod fuse_pad;
mod inline_branches;
mod merge_batches;
mod merge_casts;
mod merge_common;
mod merge_heads;
mod merge_reshapes;
mod merge_slices;
mod merge_transposes;
mod remove_identities;
mod remove_states;

pub use fold_constants::{Unfolded, unfolded};
pub use remove_states::ZERO_STATES;

use crate::driver::Rule;

/// In order of application.
pub(crate) const RULES: &[Rule] = &[
    fold_constants::SIZES,
    fold_constants::CONSTANTS,
    inline_branches::RULE,
    remove_identities::RULE,
    remove_identities::EMPTY,
    remove_states::RULE,
    merge_casts::RULE,
    merge_transposes::RULE,
    merge_transposes::THROUGH,
    merge_reshapes::RULE,
    merge_reshapes::STATE_SHAPE,
    merge_slices::PARTS,
    merge_slices::CONCATS,
    merge_slices::RULE,
    merge_batches::RULE,
    merge_common::RULE,
    fuse_pad::RULE,
    fuse_conv_bn::RULE,
    fuse_conv_bn::SCALE,
    fuse_layer_norm::RULE,
    fuse_gelu::ERF,
    fuse_gelu::TANH,
    fuse_hard_swish::RULE,
    fuse_gemm::RULE,
    fuse_group_norm::RULE,
    fuse_division::RULE,
    fold_factors::FACTORS,
    fold_factors::SHIFTS,
    merge_heads::JOIN,
    merge_heads::PARTS,
    merge_heads::SINK,
];
