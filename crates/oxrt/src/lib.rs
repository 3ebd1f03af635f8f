//! The public facade: open, simplify, build, run
