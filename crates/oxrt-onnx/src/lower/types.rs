//! When operators learnt element types: what is later than an operator itself.
//! Source: the type constraints of the inputs in the schemas of onnx 1.23.2.

use oxrt_tensor::DType;

/// (first opset, element types, operators that take them from it on, as `Op` for the first input or `Op:2` for input 2)
#[rustfmt::skip]
const LATER: &[(i64, &str, &str)] = &[
    (9, "bool c128 c64 i16 i32 i64 i8 string u16 u32 u64 u8",
     "Flatten"),
    (9, "i16 i32 i64 i8 u16 u32 u64 u8",
     "Greater Less"),
    (9, "i32 i64 u32 u64",
     "Gemm MatMul PRelu"),
    (9, "string",
     "Cast"),
    (11, "f16 f32 f64 i16 i8 u16 u32 u64 u8",
     "Equal"),
    (11, "i16 i32 i64 i8 u16 u32 u64 u8",
     "Pad TopK"),
    (12, "i16 i32 i64 i8 u16 u32 u64 u8",
     "Clip Max Min Pow:1"),
    (12, "i32 i64",
     "Pow"),
    (12, "i8 u8",
     "MaxPool ReduceMax ReduceMin"),
    (13, "bf16",
     "Abs Add ArgMax ArgMin Cast Ceil Clip Concat DepthToSpace Div Dropout Equal Erf Exp Expand Flatten Floor Gather GatherElements \
        GatherND Gemm Greater Hardmax Identity IsNaN LRN Less Log LogSoftmax MatMul Max Mean MeanVarianceNormalization Min Mod Mul Neg \
        NonZero Pow Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum \
        ReduceSumSquare Relu Reshape Resize ScatterElements ScatterND Shape Sigmoid Sign Size Slice Softmax SoftmaxCrossEntropyLoss \
        SpaceToDepth Split Sqrt Squeeze Sub Sum Tanh Tile Transpose Unsqueeze"),
    (13, "bf16 bool c128 c64 string",
     "Pad"),
    (13, "i64",
     "Split:1"),
    (14, "bf16",
     "BatchNormalization"),
    (14, "bf16 f16",
     "CumSum"),
    (14, "i16 i32 i64 i8",
     "Relu"),
    (14, "i16 i8 u16 u8",
     "Add Div Mul Sub"),
    (15, "bf16",
     "Pow:1"),
    (16, "bf16",
     "GreaterOrEqual LeakyRelu LessOrEqual PRelu Scan Where:1 Where:2"),
    (18, "bool c128 c64 f16 f32 f64 i16 i32 i64 i8 string u16 u32 u64 u8",
     "OptionalGetElement OptionalHasElement"),
    (19, "bf16 f16",
     "DequantizeLinear:1 QuantizeLinear"),
    (19, "bf16 f16 i32",
     "QuantizeLinear:1"),
    (19, "f8e4m3fn f8e4m3fnuz f8e5m2 f8e5m2fnuz",
     "Cast CastLike DequantizeLinear Identity QuantizeLinear:2 Reshape Scan Shape Size"),
    (19, "string",
     "Equal"),
    (20, "bf16 f16 f8e4m3fn f8e4m3fnuz f8e5m2 f8e5m2fnuz",
     "IsInf"),
    (20, "bool",
     "ReduceMax ReduceMin"),
    (20, "f8e4m3fn f8e4m3fnuz f8e5m2 f8e5m2fnuz",
     "IsNaN"),
    (21, "bf16 f16",
     "QLinearMatMul:1 QLinearMatMul:4 QLinearMatMul:6"),
    (21, "f8e4m3fn f8e4m3fnuz f8e5m2 f8e5m2fnuz",
     "QLinearMatMul"),
    (21, "f8e4m3fn f8e4m3fnuz f8e5m2 f8e5m2fnuz i4 u4",
     "Flatten Pad Squeeze Transpose Unsqueeze"),
    (21, "i16 i4 u16 u4",
     "DequantizeLinear QuantizeLinear:2"),
    (21, "i4 u4",
     "Cast CastLike Identity Reshape Scan Shape Size"),
    (22, "bf16",
     "Acos Acosh Asin Asinh Atan Atanh AveragePool Bernoulli Conv ConvTranspose Cos Cosh DeformConv Det Elu EyeLike GRU \
        GlobalAveragePool GlobalLpPool GlobalMaxPool GridSample HardSigmoid HardSwish InstanceNormalization LSTM LpNormalization LpPool \
        MaxPool MaxRoiPool MaxUnpool Mish Multinomial NegativeLogLikelihoodLoss RNN RandomNormalLike RandomUniformLike RoiAlign Round Selu \
        Sin Sinh Softplus Softsign Tan ThresholdedRelu"),
    (22, "bf16 f8e4m3fn f8e4m3fnuz f8e5m2 f8e5m2fnuz",
     "Dropout:1"),
    (22, "f8e4m3fn f8e4m3fnuz f8e5m2 f8e5m2fnuz",
     "Dropout"),
    (23, "f4e2m1",
     "Cast CastLike DequantizeLinear Flatten Identity Pad QuantizeLinear:2 Reshape Scan Shape Size Squeeze Transpose Unsqueeze"),
    (24, "bf16",
     "SplitToSequence TopK"),
    (24, "f8e8m0",
     "Cast CastLike DequantizeLinear:1 Flatten Identity Pad QuantizeLinear:1 Reshape Scan Shape Size Squeeze Transpose Unsqueeze"),
    (25, "i2 u2",
     "Cast CastLike DequantizeLinear Flatten Identity Pad QuantizeLinear:2 Reshape Scan Shape Size Squeeze Transpose Unsqueeze"),
    (27, "bf16 f16",
     "Range"),
    (28, "bf16",
     "Compress Einsum OneHot:2 ReverseSequence Unique"),
    (28, "bf16 f16 f64",
     "Celu"),
    (28, "bf16 f4e2m1 f8e4m3fn f8e4m3fnuz f8e5m2 f8e5m2fnuz f8e8m0 i2 i4 u2 u4",
     "Optional OptionalGetElement OptionalHasElement"),
    (28, "i16 i32 i64 i8",
     "BitShift"),
];

/// First opset in which `op` takes `dtype` as input `i`, when that came after the operator.
pub(super) fn since(op: &str, i: usize, dtype: DType) -> Option<i64> {
    let name = if i == 0 { op.to_string() } else { format!("{op}:{i}") };
    let has = |list: &str, word: &str| list.split_whitespace().any(|w| w == word);
    LATER.iter().find(|(_, types, ops)| has(ops, &name) && has(types, dtype.name())).map(|(since, ..)| *since)
}
