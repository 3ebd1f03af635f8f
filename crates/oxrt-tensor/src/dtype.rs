//! Element types, with the numbering and the names of ONNX.

use crate::{bf16, f16};
use std::fmt;
use std::str::FromStr;

macro_rules! dtypes {
    ($($variant:ident $onnx:literal $bits:literal $name:literal $doc:literal),* $(,)?) => {
        /// Element type of a tensor. The discriminant is `TensorProto.DataType` of ONNX.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum DType { $(#[doc = $doc] $variant = $onnx),* }

        impl DType {
            pub const ALL: &'static [DType] = &[$(DType::$variant),*];

            /// Bits of one element as stored; 0 for strings.
            pub const fn bits(self) -> usize { match self { $(DType::$variant => $bits),* } }

            /// Short lower-case name, as in the text form: `f32`, `i64`, `bool`.
            pub const fn name(self) -> &'static str { match self { $(DType::$variant => $name),* } }

            /// From the number in `TensorProto.data_type`.
            pub fn from_onnx(number: i32) -> Option<DType> {
                match number { $($onnx => Some(DType::$variant),)* _ => None }
            }
        }

        impl FromStr for DType {
            type Err = ();
            fn from_str(s: &str) -> Result<Self, ()> { match s { $($name => Ok(DType::$variant),)* _ => Err(()) } }
        }
    };
}

dtypes! {
    F32 1 32 "f32" "IEEE binary32",
    U8 2 8 "u8" "unsigned 8-bit integer",
    I8 3 8 "i8" "signed 8-bit integer",
    U16 4 16 "u16" "unsigned 16-bit integer",
    I16 5 16 "i16" "signed 16-bit integer",
    I32 6 32 "i32" "signed 32-bit integer",
    I64 7 64 "i64" "signed 64-bit integer",
    String 8 0 "string" "UTF-8 string",
    Bool 9 8 "bool" "one byte, 0 or 1",
    F16 10 16 "f16" "IEEE binary16",
    F64 11 64 "f64" "IEEE binary64",
    U32 12 32 "u32" "unsigned 32-bit integer",
    U64 13 64 "u64" "unsigned 64-bit integer",
    C64 14 64 "c64" "complex of two f32",
    C128 15 128 "c128" "complex of two f64",
    BF16 16 16 "bf16" "bfloat16",
    F8E4M3FN 17 8 "f8e4m3fn" "float 8, 4-bit exponent, no infinities",
    F8E4M3FNUZ 18 8 "f8e4m3fnuz" "float 8, 4-bit exponent, bias 8, no negative zero",
    F8E5M2 19 8 "f8e5m2" "float 8, 5-bit exponent",
    F8E5M2FNUZ 20 8 "f8e5m2fnuz" "float 8, 5-bit exponent, bias 16, no negative zero",
    U4 21 4 "u4" "unsigned 4-bit integer, two in a byte, low nibble first",
    I4 22 4 "i4" "signed 4-bit integer, two in a byte, low nibble first",
    F4E2M1 23 4 "f4e2m1" "float 4, two in a byte, low nibble first",
    F8E8M0 24 8 "f8e8m0" "power-of-two scale",
    U2 25 2 "u2" "unsigned 2-bit integer, four in a byte",
    I2 26 2 "i2" "signed 2-bit integer, four in a byte",
}

impl DType {
    /// Number in `TensorProto.data_type`.
    pub const fn to_onnx(self) -> i32 {
        self as i32
    }

    /// Bytes that `count` elements take (sub-byte types are packed); 0 for strings.
    pub const fn bytes_for(self, count: usize) -> usize {
        (count * self.bits()).div_ceil(8)
    }

    /// Bytes of one element, when it is a whole number of bytes.
    pub const fn size(self) -> Option<usize> {
        if self.bits() >= 8 { Some(self.bits() / 8) } else { None }
    }

    pub const fn is_float(self) -> bool {
        use DType::*;
        matches!(self, F64 | F32 | F16 | BF16 | F8E4M3FN | F8E4M3FNUZ | F8E5M2 | F8E5M2FNUZ | F8E8M0 | F4E2M1)
    }

    pub const fn is_int(self) -> bool {
        self.is_signed_int() || self.is_unsigned_int()
    }

    pub const fn is_signed_int(self) -> bool {
        matches!(self, DType::I64 | DType::I32 | DType::I16 | DType::I8 | DType::I4 | DType::I2)
    }

    pub const fn is_unsigned_int(self) -> bool {
        matches!(self, DType::U64 | DType::U32 | DType::U16 | DType::U8 | DType::U4 | DType::U2)
    }

    pub const fn is_complex(self) -> bool {
        matches!(self, DType::C64 | DType::C128)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Rust types that are the elements of some [`DType`].
///
/// # Safety
/// Every bit pattern that a tensor of `DTYPE` may hold must be a valid `Self`, and `Self` must have
/// the size of one element. (Bool tensors are normalised to 0/1 when they are made.)
pub unsafe trait Element: Copy + Send + Sync + PartialEq + fmt::Debug + Default + 'static {
    const DTYPE: DType;
}

macro_rules! elements {
    ($($t:ty => $d:ident),*) => { $(
        // SAFETY: plain old data of the stated width.
        unsafe impl Element for $t { const DTYPE: DType = DType::$d; }
    )* };
}
elements!(f64 => F64, f32 => F32, f16 => F16, bf16 => BF16, i64 => I64, i32 => I32, i16 => I16, i8 => I8,
    u64 => U64, u32 => U32, u16 => U16, u8 => U8, bool => Bool);
