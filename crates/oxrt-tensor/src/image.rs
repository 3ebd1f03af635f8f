//! Pictures to tensors and back (PNG, JPEG, BMP).

use crate::{Context, DType, Error, Result, Tensor, bail};
use image::{ImageBuffer, Luma, Rgb, Rgba};
use std::path::Path;

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
    let mut reader = image::ImageReader::open(path).at(place)?.with_guessed_format().at(place)?;
    let mut limits = image::Limits::default();
    (limits.max_image_width, limits.max_image_height) = (Some(1 << 16), Some(1 << 16));
    reader.limits(limits);
    let picture = reader.decode().map_err(|e| {
        Error::invalid(format!("not a picture that can be read: {e}")).help("PNG, JPEG and BMP files can be read")
    });
    let picture = picture.at(place)?;
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
