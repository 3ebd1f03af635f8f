//! The oxrt command
fn main() {}
