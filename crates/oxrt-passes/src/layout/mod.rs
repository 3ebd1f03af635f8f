//! Channels-last layout: convolutions and pools are turned, and the turning sinks until it cancels.

mod channels_last;
mod sink;

use crate::driver::Rule;

pub(crate) const RULES: &[Rule] = &[channels_last::CONV, channels_last::NEIGHBOURS, sink::RULE];

/// The same for tensors of 16 bits.
pub(crate) const HALVES: [Rule; 2] = [channels_last::HALF_CONV, channels_last::HALF_NEIGHBOURS];

/// [N, C, spatial…] → [N, spatial…, C]
pub(crate) fn to_last(rank: usize) -> Vec<usize> {
    std::iter::once(0).chain(2..rank).chain([1]).collect()
}

/// [N, spatial…, C] → [N, C, spatial…]
pub(crate) fn to_first(rank: usize) -> Vec<usize> {
    [0, rank - 1].into_iter().chain(1..rank - 1).collect()
}

/// Names a channels-last value after the channels-first one that it stands for, so that both are found by one name.
pub(crate) fn name_after(g: &mut oxrt_ir::Graph, last: oxrt_ir::ValueId, first: oxrt_ir::ValueId) {
    let name = format!("{}{}", g[first].name, crate::CHANNELS_LAST);
    (g[last].name, g[last].made_up) = (name, g[first].made_up);
}
