//! Products and convolutions of floats of 8 bits (e4m3) with constant weights: the kernels of bytes ([`super::q_stream`],
//! [`super::q_product`], [`super::depthwise`]), which sum in single precision here. Their results in reals are of any width.

use super::q_product::{fused_supports, is_small, load_fused, pack_fused};
use super::q_stream::{load, pack, streams};
use super::{Entry, depthwise, require};
use crate::backend::Ctx;
use oxrt_backend::NodeView;

const OPS: &[&str] = &["oxrt.QGemm", "oxrt.QConv"];

stream_entries!("f8", OPS, small_streams, mixes: true, narrow: false);
pub(super) const DEPTHWISE: Entry =
    Entry::new("f8_depthwise", &["oxrt.QConv"], small_depthwise, depthwise::pack_bytes, depthwise::load_bytes);
pub(super) const PLAIN: Entry = Entry::new("f8_plain", OPS, supports, pack_fused, load_fused);

fn supports(ctx: &Ctx, node: &NodeView) -> Option<()> {
    require(is_small(node))?;
    fused_supports(ctx, node)
}

fn small_streams(ctx: &Ctx, node: &NodeView) -> Option<()> {
    require(is_small(node))?;
    streams(ctx, node)
}

fn small_depthwise(ctx: &Ctx, node: &NodeView) -> Option<()> {
    require(is_small(node))?;
    depthwise::byte_filters(ctx, node)
}
