//! PyTorch exported programs: .pt2 reader and ATen lowering
