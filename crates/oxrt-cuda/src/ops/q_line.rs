//! Tables of bytes that are straight lines between two limits: what a Relu, a Clip or another scale makes of a rounded result. A product's
//! end computes them, which is quicker than looking each byte up.

use oxrt_backend::NodeView;
use oxrt_ops::cast::int_range;
use oxrt_ops::quantised::Linear;
use oxrt_tensor::{DType, Tensor};

/// `table[q]` = the nearest integer to `(q - zero) · ratio`, kept within `least..=most`, plus `out_zero`; halves to even.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Line {
    pub ratio: f32,
    pub out_zero: i64,
    /// Limits without `out_zero`.
    pub least: i64,
    pub most: i64,
    /// Whether the table reaches its limits before the ends of what it is read at.
    pub limits: [bool; 2],
}

/// Largest ratio: what is multiplied by it stays within what single precision counts.
const STEEPEST: f64 = 256.0;

impl Line {
    /// The line that input `table` of a node is for all results of its rounding to `y`, if it is one.
    pub fn of(node: &NodeView, table: usize) -> Option<Line> {
        let y = Linear::from_attrs(node.attrs(), "y").ok().filter(|y| !y.dtype.is_float())?;
        Line::through(&y, node.constant(table)?)
    }

    fn through(y: &Linear, table: &Tensor) -> Option<Line> {
        if !matches!(table.dtype(), DType::U8 | DType::I8) || table.shape() != [256] {
            return None;
        }
        let all = table.to_i64_vec().ok()?;
        let at = |q: i64| all[(q & 255) as usize];
        if !(y.low..=y.high).contains(&y.zero) {
            return None;
        }
        let out_zero = at(y.zero);
        let values = || (y.low..=y.high).map(|q| (q - y.zero, at(q) - out_zero));
        let (least, most) = (values().map(|v| v.1).min()?, values().map(|v| v.1).max()?);
        // Each value says within what the ratio lies; where it is a limit, on one side alone.
        let (mut low, mut high) = (0.0f64, STEEPEST);
        for (x, v) in values().filter(|v| v.0 != 0) {
            let (at_least, at_most) = ((v as f64 - 0.5) / x as f64, (v as f64 + 0.5) / x as f64);
            if v > least {
                if x > 0 { low = low.max(at_least) } else { high = high.min(at_least) }
            }
            if v < most {
                if x > 0 { high = high.min(at_most) } else { low = low.max(at_most) }
            }
        }
        if low > high {
            return None;
        }
        let ratio = ((low + high) / 2.0) as f32;
        // The product of a byte and a number in single precision is exact.
        let line = |x: i64| (x as f64 * f64::from(ratio)).round_ties_even() as i64;
        let right = values().all(|(x, v)| line(x).clamp(least, most) == v);
        let limits = [line(y.low - y.zero) < least, line(y.high - y.zero) > most];
        (right && ratio > 0.0).then_some(Line { ratio, out_zero, least, most, limits })
    }

    /// Whether the limits have to be kept where packing keeps those of the type `out`.
    pub fn bounds(&self, out: DType) -> [bool; 2] {
        let (low, high) = int_range(out);
        let [lowest, highest] = self.limits;
        [lowest && self.least + self.out_zero > low, highest && self.most + self.out_zero < high]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(f: impl Fn(i64) -> i64) -> Tensor {
        let values: Vec<i64> = (0..256).map(|b| f(i64::from(b as u8 as i8))).collect();
        Tensor::from_i64(DType::I8, &[256], &values).unwrap()
    }

    #[test]
    fn lines_are_found_and_nothing_else() {
        let y = Linear::new(0.1, 0, DType::I8);
        let scaled = |q: i64, s: f64| (q as f64 * s).round_ties_even() as i64;
        for s in [0.3071, 0.9731, 1.0, 1.27, 3.0717] {
            let relu = Line::through(&y, &table(|q| scaled(q, s).clamp(0, 127))).unwrap();
            assert_eq!((relu.out_zero, relu.least, relu.limits[0]), (0, 0, true));
            let shifted = Line::through(&y, &table(|q| (scaled(q, s) - 128).clamp(-128, 127))).unwrap();
            assert_eq!((shifted.out_zero, shifted.least, shifted.bounds(DType::I8)[0]), (-128, 0, false));
            let plain = Line::through(&y, &table(|q| scaled(q, s).clamp(-128, 127))).unwrap();
            assert_eq!(plain.bounds(DType::I8), [false, false]);
            assert_eq!(
                Line::through(&y, &table(|q| if q < 0 { scaled(q, s / 8.0) } else { scaled(q, s) }.clamp(-128, 127))),
                None
            );
        }
        assert_eq!(Line::through(&y, &table(|q| q.abs().min(127))), None);
        assert_eq!(Line::through(&y, &table(|q| (-q).clamp(-128, 127))), None);
        // A table that says the same of everything.
        assert!(Line::through(&y, &table(|_| 7)).is_none_or(|l| l.least == 0 && l.most == 0));
    }
}
