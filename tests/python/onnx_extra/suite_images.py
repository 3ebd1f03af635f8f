"""`ImageDecoder` on what Pillow writes, with the pixels that Pillow reads."""
import io
import itertools

import numpy as np
from core import make_model
from onnx import helper
from PIL import Image


def picture(w, h):
    y, x = np.mgrid[0:h, 0:w]
    noise = np.random.default_rng(w * h).integers(0, 40, [h, w, 3])
    return np.clip(np.stack([x * 255 / w, y * 255 / h, (x + y) * 3 % 256], -1) + noise, 0, 255).astype(np.uint8)


def case(s, name, image, **how):
    file = io.BytesIO()
    image.save(file, **how)
    data = np.frombuffer(file.getvalue(), np.uint8)
    for fmt, read in [("RGB", lambda i: np.array(i.convert("RGB"))), ("BGR", lambda i: np.array(i.convert("RGB"))[:, :, ::-1]),
                      ("Grayscale", lambda i: np.array(i.convert("RGB").convert("L"))[:, :, None])]:
        node = helper.make_node("ImageDecoder", ["data"], ["y"], pixel_format=fmt)
        model = make_model([node], [helper.make_tensor_value_info("data", 2, ["bytes"])], ["y"], 20, ir=9)
        s.model(f"{name}_{fmt}", model, {"data": data}, [np.ascontiguousarray(read(Image.open(io.BytesIO(file.getvalue()))))], rtol=0, atol=0)


def make(s):
    for (w, h), sampling, progressive, quality in itertools.product([(32, 32), (17, 9), (1, 1), (50, 37)], (0, 1, 2), (False, True), (40, 95)):
        case(s, f"jpeg_{w}x{h}_{sampling}_{int(progressive)}_{quality}", Image.fromarray(picture(w, h)), format="jpeg", subsampling=sampling,
             progressive=progressive, quality=quality)
    case(s, "jpeg_restart", Image.fromarray(picture(50, 37)), format="jpeg", restart_marker_blocks=2)
    case(s, "jpeg_optimised", Image.fromarray(picture(50, 37)), format="jpeg", optimize=True)
    for progressive in (False, True):
        case(s, f"jpeg_grey_{int(progressive)}", Image.fromarray(picture(33, 20)).convert("L"), format="jpeg", progressive=progressive)
    for fmt in ("png", "bmp", "tiff", "ppm", "jpeg2000"):
        case(s, fmt, Image.fromarray(picture(33, 20)), format=fmt)
        case(s, f"{fmt}_grey", Image.fromarray(picture(33, 20)).convert("L"), format=fmt)
    case(s, "png_palette", Image.fromarray(picture(33, 20)).quantize(16), format="png")
    case(s, "webp_lossless", Image.fromarray(picture(33, 20)), format="webp", lossless=True)
    case(s, "webp_lossy", Image.fromarray(picture(33, 20)), format="webp", quality=80)
    case(s, "tiff_lzw", Image.fromarray(picture(33, 20)), format="tiff", compression="tiff_lzw")
