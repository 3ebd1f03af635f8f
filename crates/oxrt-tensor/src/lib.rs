//! Element types, host tensors and views, .npy/.npz and image files
