//! Pictures to tensors and back (PNG, JPEG, BMP), and decoding of what `ImageDecoder` may be given.

use crate::{Context, DType, Error, Result, Tensor, bail};
use image::{DynamicImage, ImageBuffer, Luma, Rgb, Rgba};
use std::path::Path;

/// Longest side of a picture that is decoded.
const MAX_SIDE: u32 = 1 << 16;
/// Most pixels of a picture that is decoded: a few bytes may claim any size.
const MAX_PIXELS: u64 = 1 << 28;

/// How a tensor of rank 3 or 4 holds a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// [N, channels, height, width]
    Nchw,
    /// [N, height, width, channels]
    Nhwc,
}

/// Whether a path has the extension of a picture that can be read and written.
pub fn is_image(path: &Path) -> bool {
    let ext = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    matches!(ext.as_str(), "png" | "jpg" | "jpeg" | "bmp")
}

/// Reads a picture as [1, channels, height, width] or [1, height, width, channels]. Floating-point
/// elements are in 0..1, bytes in 0..255. One channel is luma, three are RGB, four RGBA.
pub fn read_image(path: &Path, channels: usize, layout: Layout, dtype: DType) -> Result<Tensor> {
    let place = || path.display();
    let picture = decode(&std::fs::read(path).at(place)?).at(place)?;
    let (w, h) = (picture.width() as usize, picture.height() as usize);
    let pixels: Vec<u8> = match channels {
        1 => picture.into_luma8().into_raw(),
        3 => picture.into_rgb8().into_raw(),
        4 => picture.into_rgba8().into_raw(),
        c => bail!(unsupported, "a picture as input of {c} channels"),
    };
    let values: Vec<u8> = match layout {
        Layout::Nhwc => pixels,
        Layout::Nchw => (0..channels).flat_map(|c| pixels.iter().skip(c).step_by(channels).copied()).collect(),
    };
    let shape = match layout {
        Layout::Nchw => [1, channels, h, w],
        Layout::Nhwc => [1, h, w, channels],
    };
    let scaled: Vec<f64> = match dtype {
        DType::U8 => return Tensor::from_bytes(DType::U8, &shape, &values),
        d if d.is_float() => values.iter().map(|&v| v as f64 / 255.0).collect(),
        d => bail!(unsupported, "a picture as {d} elements"),
    };
    Tensor::from_f64(dtype, &shape, &scaled)
}

/// Decodes a picture in memory to bytes [height, width, 3] of red, green, blue: BMP, JPEG, JPEG 2000, PNG, PNM,
/// TIFF or WebP, told apart by their first bytes.
///
/// # Errors
/// Other formats, damaged files, and sizes beyond 2¹⁶ a side or 2²⁸ pixels.
pub fn decode_rgb(bytes: &[u8]) -> Result<Tensor> {
    let picture = decode(bytes)?.into_rgb8();
    let (w, h) = (picture.width() as usize, picture.height() as usize);
    Tensor::from_bytes(DType::U8, &[h, w, 3], &picture.into_raw())
}

fn decode(bytes: &[u8]) -> Result<DynamicImage> {
    if let Some(picture) = decode_jpeg2000(bytes) {
        return picture;
    }
    if bytes.starts_with(b"\xff\xd8")
        && let Some((w, h, pixels)) = crate::jpeg::decode(bytes)?
    {
        let picture = ImageBuffer::<Rgb<u8>, _>::from_raw(w as u32, h as u32, pixels).map(Into::into);
        return picture.ok_or_else(|| Error::bug("a JPEG picture with missing pixels"));
    }
    let mut reader = image::ImageReader::new(std::io::Cursor::new(bytes)).with_guessed_format()?;
    let mut limits = image::Limits::default();
    (limits.max_image_width, limits.max_image_height) = (Some(MAX_SIDE), Some(MAX_SIDE));
    reader.limits(limits);
    reader.decode().map_err(|e| {
        Error::invalid(format!("not a picture that can be read: {e}"))
            .help("BMP, JPEG, JPEG 2000, PNG, PNM, TIFF and WebP can be read")
    })
}

/// `None` when the bytes are not JPEG 2000.
fn decode_jpeg2000(bytes: &[u8]) -> Option<Result<DynamicImage>> {
    let container = bytes.starts_with(b"\0\0\0\x0cjP  ");
    (container || bytes.starts_with(b"\xff\x4f\xff\x51")).then(|| {
        let failed = |e: hayro_jpeg2000::DecodeError| Error::invalid(format!("a damaged JPEG 2000 picture: {e}"));
        let picture = hayro_jpeg2000::Image::new(bytes, &Default::default()).map_err(failed)?;
        let (w, h) = (picture.width(), picture.height());
        if w > MAX_SIDE || h > MAX_SIDE || w as u64 * h as u64 > MAX_PIXELS {
            bail!(unsupported, "a JPEG 2000 picture of {w}x{h}");
        }
        let mut context = hayro_jpeg2000::DecoderContext::default();
        let pixels = picture.decode(&mut context).map_err(failed)?.data_u8();
        let from =
            |raw: Option<DynamicImage>| raw.ok_or_else(|| Error::invalid("a JPEG 2000 picture with missing pixels"));
        match pixels.len() as u64 / (w as u64 * h as u64).max(1) {
            1 => from(ImageBuffer::<Luma<u8>, _>::from_raw(w, h, pixels).map(Into::into)),
            3 => from(ImageBuffer::<Rgb<u8>, _>::from_raw(w, h, pixels).map(Into::into)),
            4 if picture.has_alpha() => from(ImageBuffer::<Rgba<u8>, _>::from_raw(w, h, pixels).map(Into::into)),
            n => bail!(unsupported, "a JPEG 2000 picture of {n} channels"),
        }
    })
}

/// Writes the first picture of a tensor of rank 2 to 4. Floating-point elements are taken to be in 0..1
/// and are clamped.
pub fn write_image(path: &Path, t: &Tensor) -> Result<()> {
    let shape = match t.shape() {
        [n, rest @ ..] if *n > 0 && rest.len() == 3 => rest,
        s if s.len() == 2 || s.len() == 3 => s,
        s => bail!(invalid, "a tensor of shape {s:?} is not a picture"),
    };
    let colours = |c: usize| matches!(c, 1 | 3 | 4);
    let (layout, c, h, w) = match *shape {
        [h, w] => (Layout::Nchw, 1, h, w),
        [c, h, w] if colours(c) => (Layout::Nchw, c, h, w),
        [h, w, c] if colours(c) => (Layout::Nhwc, c, h, w),
        _ => bail!(invalid, "shape {:?} has no axis of 1, 3 or 4 channels", t.shape()),
    };
    let values = t.to_f64_vec()?;
    let scale = if t.dtype().is_float() { 255.0 } else { 1.0 };
    let byte = |v: f64| (v * scale).round().clamp(0.0, 255.0) as u8;
    let n = c * h * w;
    let pixels: Vec<u8> = match layout {
        Layout::Nhwc => values[..n].iter().map(|&v| byte(v)).collect(),
        Layout::Nchw => (0..n).map(|i| byte(values[i % c * h * w + i / c])).collect(),
    };
    let (w, h) = (w as u32, h as u32);
    let picture: image::DynamicImage = match c {
        1 => ImageBuffer::<Luma<u8>, _>::from_raw(w, h, pixels).map(Into::into),
        3 => ImageBuffer::<Rgb<u8>, _>::from_raw(w, h, pixels).map(Into::into),
        _ => ImageBuffer::<Rgba<u8>, _>::from_raw(w, h, pixels).map(Into::into),
    }
    .ok_or_else(|| Error::invalid("an empty picture"))?;
    let format = image::ImageFormat::from_path(path).map_err(|_| {
        Error::invalid(format!("{}: not the name of a picture file", path.display())).help("use .png, .jpg or .bmp")
    })?;
    // Alpha has no place in JPEG.
    let picture = if format == image::ImageFormat::Jpeg && c == 4 { picture.into_rgb8().into() } else { picture };
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).map_err(|e| Error::invalid(e.to_string()))?;
    crate::write_atomically(path, |out| Ok(std::io::Write::write_all(out, bytes.get_ref())?))
}
