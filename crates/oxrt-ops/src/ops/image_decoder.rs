//! <https://onnx.ai/onnx/operators/onnx__ImageDecoder.html>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use oxrt_ir::Dim;
use oxrt_tensor::{DType, Result, Tensor, bail, image};

/// Bytes of an encoded picture to [height, width, channels]: RGB, BGR or grey, one byte each.
pub const OP: OpDef = OpDef::new("ImageDecoder", &[20], 1..=1, infer, eval).examples(&[
    (
        "(u8[17] x) { y = ImageDecoder(x) } => y",
        // PNM: P6, 2 by 1, greatest value 255, two pixels.
        &["x = 80 54 10 50 32 49 10 50 53 53 10 1 2 3 255 128 0"],
        "1 2 3 255 128 0",
    ),
    (
        "(u8[17] x) { y = ImageDecoder<pixel_format=\"Grayscale\">(x) } => y",
        &["x = 80 54 10 50 32 49 10 50 53 53 10 1 2 3 255 128 0"],
        "2 151",
    ),
]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let channels = match ctx.attrs().string_or("pixel_format", "RGB")? {
        "RGB" | "BGR" => 3,
        "Grayscale" => 1,
        other => bail!(invalid, "`pixel_format` {other}; it is RGB, BGR or Grayscale"),
    };
    let dims = vec![ctx.fresh(), ctx.fresh(), Dim::Const(channels)];
    ctx.set(0, DType::U8, Some(dims));
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    if x.dtype() != DType::U8 || x.rank() != 1 {
        bail!(invalid, "an encoded picture is a vector of bytes, found {x:?}");
    }
    let mut picture = image::decode_rgb(x.bytes())?;
    let [h, w, _] = *picture.shape() else { bail!(bug, "a picture of shape {:?}", picture.shape()) };
    let picture = match ctx.attrs().string_or("pixel_format", "RGB")? {
        "RGB" => picture,
        "BGR" => {
            picture.bytes_mut().chunks_exact_mut(3).for_each(|p| p.swap(0, 2));
            picture
        }
        "Grayscale" => {
            // ITU-R BT.601 luma in 16-bit fixed point, rounded, as common decoders have it.
            let luma = |p: &[u8]| ((p[0] as u32 * 19595 + p[1] as u32 * 38470 + p[2] as u32 * 7471 + 0x8000) >> 16) as u8;
            let grey: Vec<u8> = picture.bytes().chunks_exact(3).map(luma).collect();
            Tensor::from_bytes(DType::U8, &[h, w, 1], &grey)?
        }
        other => bail!(invalid, "`pixel_format` {other}; it is RGB, BGR or Grayscale"),
    };
    Ok(vec![picture.into()])
}
