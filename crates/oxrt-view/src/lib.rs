//! Models and engines as a page for a browser: served on this machine, or one file that needs nothing else.
//!
//! [`Document::of_model`] and [`Document::of_plan`] turn a graph into what the page draws; [`Overlay`] adds measured or
//! derived figures per node; [`compare()`] finds what changed between two. [`write_html`] and [`serve`] show them.
//!
//! The page's sources lie in `web/` and are part of the binary; building needs no tool beside the Rust compiler.

mod compare;
mod document;
mod hierarchy;
mod overlay;
mod page;
mod server;
mod weights;

pub use compare::{Comparison, compare};
pub use document::{Document, Weights};
pub use overlay::{Overlay, Unit};
pub use page::{View, html, write_html};
pub use server::{Server, serve};
