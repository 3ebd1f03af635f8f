//! Operators of `com.microsoft` that have no short form in standard ones. The others are written out when a file is
//! read, by `oxrt-onnx`.

operators! { bifurcation_detector, crop_and_resize, inverse, murmur_hash3, n_gram_repeat_block }
