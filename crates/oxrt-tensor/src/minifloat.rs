//! Floats of 8 and 4 bits, by decoding tables made from their definition.
//! Source: the ONNX pages "float8" and "float4", and the OCP Microscaling specification for E8M0.

use crate::DType;
use std::sync::OnceLock;

/// Value of one code.
pub fn decode(dtype: DType, code: u8) -> f64 {
    let sign = |bits: u32| if code >> (bits - 1) & 1 == 1 { -1.0 } else { 1.0 };
    let number = |bits: u32, mantissa_bits: u32, bias: i32| {
        let mantissa = (code & ((1 << mantissa_bits) - 1)) as f64;
        let exponent = ((code & ((1u16 << (bits - 1)) - 1) as u8) >> mantissa_bits) as i32;
        let scale = (1u32 << mantissa_bits) as f64;
        let magnitude = if exponent == 0 {
            mantissa / scale * 2f64.powi(1 - bias)
        } else {
            (1.0 + mantissa / scale) * 2f64.powi(exponent - bias)
        };
        sign(bits) * magnitude
    };
    match dtype {
        DType::F8E4M3FN if code & 0x7f == 0x7f => f64::NAN,
        DType::F8E4M3FN => number(8, 3, 7),
        DType::F8E4M3FNUZ if code == 0x80 => f64::NAN,
        DType::F8E4M3FNUZ => number(8, 3, 8),
        DType::F8E5M2 if code & 0x7f > 0x7c => f64::NAN,
        DType::F8E5M2 if code & 0x7f == 0x7c => sign(8) * f64::INFINITY,
        DType::F8E5M2 => number(8, 2, 15),
        DType::F8E5M2FNUZ if code == 0x80 => f64::NAN,
        DType::F8E5M2FNUZ => number(8, 2, 16),
        DType::F8E8M0 if code == 0xff => f64::NAN,
        DType::F8E8M0 => 2f64.powi(code as i32 - 127),
        DType::F4E2M1 => number(4, 1, 1),
        _ => unreachable!("not a minifloat: {dtype}"),
    }
}

/// Nearest code, ties to even; saturates where ONNX's `Cast` with `saturate=1` does.
pub fn encode(dtype: DType, x: f64) -> u8 {
    let table = table(dtype);
    let signed = dtype != DType::F8E8M0;
    let sign_bit = if dtype == DType::F4E2M1 { 0x8 } else { 0x80 };
    if x.is_nan() {
        return match dtype {
            DType::F8E4M3FN | DType::F8E5M2 => 0x7f,
            DType::F8E4M3FNUZ | DType::F8E5M2FNUZ => 0x80,
            DType::F8E8M0 => 0xff,
            _ => 0,
        };
    }
    let magnitude = x.abs();
    // The first entry not below the magnitude, and the one before it.
    let hi = table.partition_point(|&(v, _)| v < magnitude);
    let code = if hi == table.len() {
        table[hi - 1].1
    } else if hi == 0 {
        table[0].1
    } else {
        let ((a, ca), (b, cb)) = (table[hi - 1], table[hi]);
        match (magnitude - a).total_cmp(&(b - magnitude)) {
            std::cmp::Ordering::Less => ca,
            std::cmp::Ordering::Greater => cb,
            std::cmp::Ordering::Equal => {
                if ca & 1 == 0 {
                    ca
                } else {
                    cb
                }
            }
        }
    };
    let unsigned_zero = matches!(dtype, DType::F8E4M3FNUZ | DType::F8E5M2FNUZ) && code == 0;
    if signed && x.is_sign_negative() && !unsigned_zero { code | sign_bit } else { code }
}

/// Finite non-negative values in rising order, with their codes.
fn table(dtype: DType) -> &'static [(f64, u8)] {
    static TABLES: [OnceLock<Vec<(f64, u8)>>; 32] = [const { OnceLock::new() }; 32];
    TABLES[dtype as usize].get_or_init(|| {
        let codes = match dtype {
            DType::F4E2M1 => 0..=7u8,
            DType::F8E8M0 => 0..=254,
            _ => 0..=127,
        };
        let mut t: Vec<_> = codes.map(|c| (decode(dtype, c), c)).filter(|(v, _)| v.is_finite()).collect();
        t.sort_by(|a, b| a.0.total_cmp(&b.0));
        t
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        assert_eq!(decode(DType::F8E4M3FN, 0x7e), 448.0);
        assert_eq!(decode(DType::F8E5M2, 0x7b), 57344.0);
        assert_eq!(decode(DType::F8E4M3FNUZ, 0x7f), 240.0);
        assert_eq!(decode(DType::F4E2M1, 7), 6.0);
        assert_eq!(decode(DType::F8E8M0, 127), 1.0);
    }

    #[test]
    fn every_finite_code_survives_a_round_trip() {
        use DType::*;
        for d in [F8E4M3FN, F8E4M3FNUZ, F8E5M2, F8E5M2FNUZ, F8E8M0, F4E2M1] {
            for c in 0..=if d == F4E2M1 { 15 } else { 255u8 } {
                let v = decode(d, c);
                if v.is_finite() {
                    assert_eq!(encode(d, v), c, "{d} code {c:#x} value {v}");
                }
            }
        }
    }

    #[test]
    fn ties_go_to_even_and_large_values_saturate() {
        assert_eq!(decode(DType::F4E2M1, encode(DType::F4E2M1, 2.5)), 2.0);
        assert_eq!(decode(DType::F4E2M1, encode(DType::F4E2M1, 100.0)), 6.0);
        assert_eq!(decode(DType::F8E4M3FN, encode(DType::F8E4M3FN, 1e9)), 448.0);
    }
}
