//! ATen operators: one function per overload (several overloads may share one), listed in [`table`].

pub(crate) mod activation;
pub(crate) mod complex;
pub(crate) mod conv;
pub(crate) mod create;
pub(crate) mod custom;
pub(crate) mod elementwise;
pub(crate) mod formula;
pub(crate) mod hop;
pub(crate) mod index;
pub(crate) mod linalg;
pub(crate) mod linear;
pub(crate) mod loss;
pub(crate) mod matrix;
pub(crate) mod norm;
pub(crate) mod pool;
pub(crate) mod reduce;
pub(crate) mod resize;
pub(crate) mod rnn;
pub(crate) mod shape;
pub(crate) mod special;
pub(crate) mod spectral;
pub(crate) mod sym;
pub(crate) mod table;
pub(crate) mod vision;
pub(crate) mod window;
