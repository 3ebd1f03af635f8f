//! Loads a plan, binds shapes, runs
