//! Graph rewrites: simplify, fuse, layout
