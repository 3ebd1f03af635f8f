//! Loops over broadcast operands, with as few and as long inner runs as their shapes allow.

/// The common iteration space of an output and its operands, adjacent dimensions merged where every operand agrees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Space {
    /// Sizes, outermost first; never empty.
    pub dims: Vec<usize>,
    /// Per operand, the stride in elements of each dimension; 0 where it is broadcast.
    pub strides: Vec<Vec<usize>>,
}

impl Space {
    /// The space of `output` for contiguous operands of the given shapes, or `None` when one does not broadcast to it.
    pub fn new(output: &[usize], operands: &[&[usize]]) -> Option<Space> {
        let rank = output.len();
        let mut strides = Vec::new();
        for shape in operands {
            let lead = rank.checked_sub(shape.len())?;
            let mut own = vec![0; rank];
            let mut step = 1;
            for d in (0..shape.len()).rev() {
                if shape[d] != 1 {
                    if shape[d] != output[lead + d] {
                        return None;
                    }
                    own[lead + d] = step;
                }
                step *= shape[d];
            }
            strides.push(own);
        }
        Some(Space::with_strides(output, strides))
    }

    /// The space of `output` for operands with any strides.
    pub fn with_strides(output: &[usize], strides: Vec<Vec<usize>>) -> Space {
        let mut space = Space { dims: Vec::new(), strides: vec![Vec::new(); strides.len()] };
        for d in 0..output.len() {
            if output[d] == 1 {
                continue;
            }
            let merge = !space.dims.is_empty()
                && (0..strides.len()).all(|i| {
                    let before = space.strides[i][space.dims.len() - 1];
                    before == strides[i][d] * output[d]
                });
            if merge {
                let last = space.dims.len() - 1;
                space.dims[last] *= output[d];
                for (own, given) in space.strides.iter_mut().zip(&strides) {
                    own[last] = given[d];
                }
            } else {
                space.dims.push(output[d]);
                for (own, given) in space.strides.iter_mut().zip(&strides) {
                    own.push(given[d]);
                }
            }
        }
        if space.dims.is_empty() {
            space.dims.push(1);
            space.strides.iter_mut().for_each(|s| s.push(0));
        }
        space
    }

    /// Elements of the output.
    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Offset of operand `i` at position `index` counted over the first `dims.len() - inner` dimensions.
    #[inline]
    pub fn offset(&self, i: usize, mut index: usize, inner: usize) -> usize {
        let mut offset = 0;
        for d in (0..self.dims.len() - inner).rev() {
            offset += index % self.dims[d] * self.strides[i][d];
            index /= self.dims[d];
        }
        offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dimensions_merge_where_every_operand_agrees() {
        let space = Space::new(&[2, 3, 4], &[&[2, 3, 4], &[2, 3, 4]]).unwrap();
        assert_eq!(space.dims, [24]);
        let space = Space::new(&[2, 3, 4], &[&[2, 3, 4], &[4]]).unwrap();
        assert_eq!((space.dims, space.strides), (vec![6, 4], vec![vec![4, 1], vec![0, 1]]));
        let space = Space::new(&[2, 3, 4, 5], &[&[2, 3, 4, 5], &[3, 1, 1]]).unwrap();
        assert_eq!((space.dims, space.strides), (vec![2, 3, 20], vec![vec![60, 20, 1], vec![0, 1, 0]]));
        let space = Space::new(&[7, 1], &[&[], &[7, 1]]).unwrap();
        assert_eq!((space.dims, space.strides), (vec![7], vec![vec![0], vec![1]]));
        assert_eq!(Space::new(&[1, 1], &[&[1]]).unwrap().dims, [1]);
        assert!(Space::new(&[2, 3], &[&[2]]).is_none());
        assert!(Space::new(&[0, 3], &[&[3]]).unwrap().is_empty());
    }
}
