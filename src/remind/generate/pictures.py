"""Any picture file into upright sRGB of one size, with a sentence for every liberty that was taken. All through Pillow.

Source: our choice of Pillow over PyAV, which reads our videos. PyAV drops alpha and so shows the colours that lie
hidden under it, and cannot read float TIFF, animated WebP and PNG, JPEG 2000 or PPM.
"""

from __future__ import annotations

import io
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageCms

from remind.errors import InputError
from remind.geometry import cover_crop

# Formats that hold pixels themselves. Left out is what runs programs (EPS), and what any bytes may pass for (TGA).
_FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "AVIF", "JPEG2000", "PPM", "ICO")
_PLAIN = {"1": "L", "L": "L", "RGB": "RGB", "CMYK": "CMYK"}
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, ArithmeticError, RuntimeError,
           MemoryError, struct.error)  # what Pillow's decoders raise on damaged files; a test tries many
_DRAFT_GAP = 2  # JPEG decodes to no less than twice what is needed, so that the reduction leaves nothing to see
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
_SWAPS = {Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_270, Image.Transpose.TRANSVERSE, Image.Transpose.ROTATE_90}


@dataclass(frozen=True)
class PictureLimits:
    """Bounds that keep a hostile or absurd picture from filling the machine.

    Args:
        max_bytes: of the file.
        max_pixels: as the file declares them, before anything is decoded. The default holds 11,000 x 12,000 and needs
            about 1.5 GB for a PNG with alpha; JPEG decodes straight to a smaller size and needs far less.
    """

    max_bytes: int = 2**28
    max_pixels: int = 2**27


DEFAULT_LIMITS = PictureLimits()


def decode_picture(
    path: Path,
    hw: tuple[int, int],
    *,
    background: tuple[int, int, int] = (255, 255, 255),
    limits: PictureLimits = DEFAULT_LIMITS,
) -> tuple[UInt8[np.ndarray, "h w 3"], tuple[str, ...]]:
    """The picture, scaled to cover `hw` and its middle kept, and what was done to it that a user would want to know.

    Source: our choice: averaged when it gets smaller and bicubic when it gets larger, as videos are.

    Args:
        hw: size that the model needs.
        background: sRGB that shows through where the picture is transparent.

    Raises:
        InputError: no such file, empty, too large, no picture, cut short or damaged, or NaN in it.
    """
    _check_file(path, limits)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own thoughts on size and metadata; limits are checked here
        try:
            with Image.open(path, formats=_FORMATS) as image:
                return _decoded(image, path, hw, background, limits)
        except Image.DecompressionBombError as error:
            raise _too_large(path, str(error), limits) from None
        except Image.UnidentifiedImageError:
            raise _no_picture(path) from None
        except _DAMAGE as error:
            said = str(error) or type(error).__name__
            raise InputError(f"{path.name}: the picture is cut short or damaged", got=said,
                             expected="a file that decodes to its end",
                             fix="export or download it again") from None  # fmt: skip


def _decoded(
    image: Image.Image, path: Path, hw: tuple[int, int], background: tuple[int, int, int], limits: PictureLimits
) -> tuple[UInt8[np.ndarray, "h w 3"], tuple[str, ...]]:
    if image.width * image.height > limits.max_pixels:
        raise _too_large(path, f"{image.width} x {image.height} px", limits)
    notices = []
    if getattr(image, "is_animated", False) and image.format != "MPO":  # MPO holds the same view again, for depth
        notices.append(f"{path.name} holds {getattr(image, 'n_frames', 'many')} pictures: the first is used "
                       "(give it as a video to use them all)")  # fmt: skip
    turn = _UPRIGHT.get(_orientation(image, path, notices)) if image.format != "TIFF" else None
    display = (image.width, image.height) if turn in _SWAPS else (image.height, image.width)
    cover = cover_crop(display, hw)[0]
    needed = cover[::-1] if turn in _SWAPS else cover
    image.draft(None, (_DRAFT_GAP * needed[1], _DRAFT_GAP * needed[0]))  # does nothing but for JPEG
    profile = image.info.get("icc_profile")
    image.load()
    if image.format == "TIFF":  # Pillow turns it while loading
        display = (image.height, image.width)
    pixels = _scalable(image, path, notices)
    if turn is not None:
        pixels = pixels.transpose(turn)
    scaled = _cover(pixels, display, hw, path, notices)
    rgb = _over(_to_srgb(scaled, profile, path, notices), background, path, notices)
    return np.asarray(rgb), tuple(notices)


def _orientation(image: Image.Image, path: Path, notices: list[str]) -> int:
    """EXIF's number of how the camera was held, 1..8."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # EXIF of some cameras breaks Pillow in many ways, and the pixels are fine
        notices.append(f"{path.name}: its EXIF data cannot be read, so the picture is taken as upright")
        return 1


def _scalable(image: Image.Image, path: Path, notices: list[str]) -> Image.Image:
    """The same picture in a mode of 8 bits that can be averaged: L, RGB, RGBA or CMYK."""
    mode = image.mode
    if mode == "F" or mode.startswith("I"):
        return _eight_bits(np.asarray(image), mode, path, notices)
    if image.getbands()[-1] in "Aa" or "transparency" in image.info:
        return image.convert("RGBA")
    return image.convert(_PLAIN.get(mode, "RGB"))


def _eight_bits(values: np.ndarray, mode: str, path: Path, notices: list[str]) -> Image.Image:
    """One channel of more than 8 bits."""
    low, high = float(values.min()), float(values.max())
    if not np.isfinite((low, high)).all():
        raise InputError(f"{path.name}: the picture holds NaN or infinity", got=f"values {low} .. {high}",
                         expected="finite numbers", fix="replace them, or export it with 8 bits")  # fmt: skip
    usual = [65535.0] if mode.startswith("I") else [1.0, 255.0]
    fits = [(0.0, top) for top in usual if low >= 0 and high <= top]
    span = fits[0] if fits else (low, high if high > low else low + 1)
    depth = "float" if mode == "F" else "more than 8 bits"
    notices.append(f"{path.name}: grey values ({depth}), {span[0]:g} .. {span[1]:g} are shown as black .. white")
    rows = max(1, 2**24 // values.shape[1])  # a strip at a time, since these may be large
    out = np.empty(values.shape, np.uint8)
    for top in range(0, len(values), rows):
        strip = values[top : top + rows].astype(np.float64)
        out[top : top + rows] = np.rint((strip - span[0]) * (255 / (span[1] - span[0])))
    return Image.fromarray(out)


def _cover(image: Image.Image, display: tuple[int, int], hw: tuple[int, int], path: Path,
           notices: list[str]) -> Image.Image:  # fmt: skip
    """Scaled to cover `hw`, the middle kept. Only what is kept is scaled: a line of pixels must not become a plain."""
    cover, (top, left) = cover_crop(display, hw)
    down, across = image.height / cover[0], image.width / cover[1]  # JPEG may have come smaller than `display`
    box = (left * across, top * down, min(image.width, (left + hw[1]) * across),
           min(image.height, (top + hw[0]) * down))  # fmt: skip
    smaller = hw[0] < box[3] - box[1] or hw[1] < box[2] - box[0]
    method = Image.Resampling.BOX if smaller else Image.Resampling.BICUBIC
    notices.extend(scaling_notices(path.name, display, hw))
    return image.resize((hw[1], hw[0]), method, box)


def _to_srgb(image: Image.Image, profile: bytes | None, path: Path, notices: list[str]) -> Image.Image:
    """Colours in sRGB, RGB or RGBA; after scaling, where it costs nothing."""
    alpha = image.getchannel("A") if image.mode == "RGBA" else None
    colours = image.convert("RGB") if alpha else image
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            name = ImageCms.getProfileDescription(source).strip() or "unnamed"
            if not (colours.mode == "RGB" and name.startswith("sRGB")):
                converted = ImageCms.profileToProfile(colours, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
                assert converted is not None
                colours = converted
                notices.append(f"{path.name}: colours are converted from the profile {name[:80]!r} to sRGB")
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            notices.append(f"{path.name}: its colour profile cannot be used, so colours are taken as sRGB")
    elif colours.mode == "CMYK":
        notices.append(f"{path.name}: CMYK without a colour profile, so colours are approximate")
    colours = colours.convert("RGB")
    if alpha:
        colours.putalpha(alpha)
    return colours


def _over(image: Image.Image, background: tuple[int, int, int], path: Path, notices: list[str]) -> Image.Image:
    """Without alpha."""
    if image.mode != "RGBA":
        return image
    low = image.getchannel("A").getextrema()[0]
    if isinstance(low, int | float) and low < 255:
        notices.append(f"{path.name} is transparent in places: sRGB {background} shows through")
    return Image.alpha_composite(Image.new("RGBA", image.size, (*background, 255)), image).convert("RGB")


def _check_file(path: Path, limits: PictureLimits) -> None:
    try:
        if not path.exists():
            raise InputError("no such picture", got=path, fix="check the path")
        if not path.is_file():
            raise InputError("not a file", got=path, expected="a picture")
        size = path.stat().st_size
        with path.open("rb"):
            pass
    except (OSError, ValueError) as error:
        raise InputError("the picture cannot be read", got=f"{path}: {getattr(error, 'strerror', None) or error}",
                         fix="check the path and its permissions") from None  # fmt: skip
    if size == 0:
        raise InputError(f"{path.name}: the file is empty", got="0 bytes", expected="a picture",
                         fix="copy or download it again")  # fmt: skip
    if size > limits.max_bytes:
        raise InputError(f"{path.name}: the file is too large", got=f"{size / 2**20:.1f} MiB",
                         expected=f"at most {limits.max_bytes / 2**20:.1f} MiB", fix="scale it down")  # fmt: skip


def _too_large(path: Path, got: str, limits: PictureLimits) -> InputError:
    return InputError(f"{path.name}: the picture is too large", got=got,
                      expected=f"at most {limits.max_pixels} pixels", fix="scale it down")  # fmt: skip


def _no_picture(path: Path) -> InputError:
    return InputError(f"{path.name}: not a picture, or of an unknown kind", got=_looks_like(path),
                      expected="PNG, JPEG, WebP, AVIF, TIFF, GIF or BMP with 8 bits per channel",
                      fix="give a video as --video, or save it as PNG")  # fmt: skip


def _looks_like(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(12)
    kinds = {b"%PDF": "a PDF", b"PK\x03\x04": "a zip", b"<svg": "an SVG drawing", b"\x1aE\xdf\xa3": "a video"}
    if head[4:8] == b"ftyp":
        return "HEIC" if head[8:12] in (b"heic", b"heix", b"heim", b"heis", b"mif1") else "a video"
    return next((kind for start, kind in kinds.items() if head.startswith(start)), f"a file that starts with {head!r}")


def scaling_notices(name: str, display: tuple[int, int], hw: tuple[int, int]) -> list[str]:
    """What happens to a picture or a video of another size or shape than the model's."""
    cover, _ = cover_crop(display, hw)
    notices = []
    if cover[0] > display[0]:
        notices.append(f"{name} is {_size(display)}, smaller than the model's {_size(hw)}: it is enlarged")
    for side, which in ((0, "height"), (1, "width")):
        if (lost := 1 - hw[side] / cover[side]) >= 0.01:
            notices.append(f"{name} is {_size(display)}: {lost:.0%} of its {which} is cut off, the middle is kept")
    return notices


def _size(hw: tuple[int, int]) -> str:
    return f"{hw[1]} x {hw[0]} px"
