"""Pictures of any mode come in upright, opaque and in sRGB; bad ones get a line that says what to do."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, features

from remind.errors import InputError
from remind.generate.inputs import read_picture
from remind.generate.pictures import PictureLimits, decode_picture

H, W = 24, 32
RAMP = np.broadcast_to(np.linspace(0, 255, W).astype(np.uint8), (H, W))
RGB = np.stack([RAMP, RAMP[:, ::-1], np.full_like(RAMP, 90)], -1)
GREY = np.repeat(RAMP[..., None], 3, -1)
PICTURE = Image.fromarray(RGB)


def read(path: Path, hw: tuple[int, int] = (H, W), **how: object) -> tuple[np.ndarray, str]:
    """Pixels, and the notices as one text."""
    rgb, notices = decode_picture(path, hw, **how)  # type: ignore[arg-type]
    assert rgb.shape == (*hw, 3)
    assert rgb.dtype == np.uint8
    return rgb.astype(int), " / ".join(notices)


def off(got: np.ndarray, want: np.ndarray) -> float:
    return float(np.abs(got - want.astype(int)).mean())


@pytest.mark.parametrize(
    ("name", "image", "want", "levels"),
    [
        ("rgb.png", PICTURE, RGB, 0),
        ("grey.png", Image.fromarray(RAMP), GREY, 0),
        ("palette.png", PICTURE.quantize(256), RGB, 3),
        ("bits.png", Image.fromarray(RAMP > 127), np.where(GREY > 127, 255, 0), 0),
        ("grey16.png", Image.fromarray(RAMP.astype(np.uint16) * 257), GREY, 0),
        ("grey16.tiff", Image.fromarray(RAMP.astype(np.uint16) * 257), GREY, 0),
        ("int32.tiff", Image.fromarray(RAMP.astype(np.int32) * 100_000), GREY, 0.5),
        ("float01.tiff", Image.fromarray(RAMP.astype(np.float32) / 255), GREY, 0),
        ("float255.tiff", Image.fromarray(RAMP.astype(np.float32)), GREY, 0),
        ("float_any.tiff", Image.fromarray(RAMP.astype(np.float32) * 10 - 700), GREY, 0.5),
        ("cmyk.tiff", PICTURE.convert("CMYK"), RGB, 1),
        ("cmyk.jpg", PICTURE.convert("CMYK"), RGB, 4),
        ("lab.tiff", PICTURE.convert("YCbCr"), RGB, 2),
        ("a.bmp", PICTURE, RGB, 0),
        ("a.ppm", PICTURE, RGB, 0),
        ("a.jp2", PICTURE, RGB, 4),
        ("a.webp", PICTURE, RGB, 6),
        ("a.jpg", PICTURE, RGB, 4),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_mode_becomes_srgb(
    tmp_path: Path, name: str, image: Image.Image, want: np.ndarray, levels: float
) -> None:
    image.save(tmp_path / name)
    got, notices = read(tmp_path / name)
    assert off(got, want) <= levels
    stated = any(word in name for word in ("16", "int", "float", "cmyk"))
    assert bool(notices) == stated, notices


def with_alpha(mode: str) -> Image.Image:
    """Transparent on the left, where another colour lies hidden; opaque on the right."""
    picture = PICTURE.convert("L" if mode == "LA" else "RGB")
    alpha = np.where(np.arange(W) < W // 2, 0, 255).astype(np.uint8)
    picture.putalpha(Image.fromarray(np.broadcast_to(alpha, (H, W)).copy()))
    return picture


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_shows_the_stated_background(tmp_path: Path, mode: str) -> None:
    with_alpha(mode).save(tmp_path / "a.png")
    got, notices = read(tmp_path / "a.png")
    assert (got[:, : W // 2] == 255).all()
    want = RGB if mode == "RGBA" else np.asarray(PICTURE.convert("L").convert("RGB"))
    assert off(got[:, W // 2 :], want[:, W // 2 :]) == 0
    assert "transparent in places: sRGB (255, 255, 255) shows through" in notices
    assert (read(tmp_path / "a.png", background=(1, 2, 3))[0][:, : W // 2] == (1, 2, 3)).all()


def test_hidden_colours_do_not_bleed_when_alpha_is_scaled(tmp_path: Path) -> None:
    pixels = np.zeros((H, W, 4), np.uint8)
    pixels[:, ::2] = (200, 200, 200, 255)
    pixels[:, 1::2] = (255, 0, 0, 0)  # red, but nobody sees it
    Image.fromarray(pixels).save(tmp_path / "a.png")
    got, _ = read(tmp_path / "a.png", (H // 4, W // 4), background=(200, 200, 200))
    assert np.abs(got - 200).max() <= 2


def test_palette_and_grey_with_a_transparent_colour(tmp_path: Path) -> None:
    palette = Image.new("P", (W, H))
    palette.putpalette([9, 9, 9, 50, 60, 70])
    palette.paste(1, (W // 2, 0, W, H))
    palette.save(tmp_path / "p.png", transparency=0)
    got, notices = read(tmp_path / "p.png")
    assert (got[:, 0] == 255).all()
    assert (got[:, -1] == (50, 60, 70)).all()
    assert "transparent" in notices
    Image.fromarray(RAMP).save(tmp_path / "l.png", transparency=0)
    assert (read(tmp_path / "l.png")[0][:, 0] == 255).all()


@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_the_picture_upright(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    corner = np.zeros((H, W, 3), np.uint8)
    corner[:8, :16] = 255
    undo = {2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
            5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a), 7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
            8: lambda a: np.rot90(a, -1)}.get(orientation, lambda a: a)  # fmt: skip
    stored = Image.fromarray(np.ascontiguousarray(undo(corner)))
    stored.save(tmp_path / f"a.{suffix}", exif=exif)
    got, notices = read(tmp_path / f"a.{suffix}")
    assert off(got, corner) < 6
    assert notices == ""


def test_broken_exif_does_not_cost_the_picture(tmp_path: Path) -> None:
    data = io.BytesIO()
    PICTURE.save(data, "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    (tmp_path / "a.jpg").write_bytes(data.getvalue())
    assert off(read(tmp_path / "a.jpg")[0], RGB) < 4


def test_colours_with_a_profile_are_converted(tmp_path: Path) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    PICTURE.save(tmp_path / "srgb.png", icc_profile=srgb)
    assert read(tmp_path / "srgb.png")[1] == ""
    # A space of its own: sRGB with red and blue exchanged.
    exchanged = srgb.replace(b"rXYZ", b"????").replace(b"bXYZ", b"rXYZ").replace(b"????", b"bXYZ")
    odd = exchanged.replace("sRGB".encode("utf-16-be"), "oddB".encode("utf-16-be"))
    for name, picture in (("odd.png", PICTURE), ("odd_alpha.png", with_alpha("RGBA"))):
        picture.save(tmp_path / name, icc_profile=odd)
        got, notices = read(tmp_path / name)
        assert "colours are converted from the profile 'oddB" in notices
        assert off(got[:, W // 2 :], RGB[:, W // 2 :, ::-1]) < 2
    PICTURE.save(tmp_path / "bad.png", icc_profile=b"no profile at all")
    got, notices = read(tmp_path / "bad.png")
    assert "colour profile cannot be used" in notices
    assert off(got, RGB) == 0


def test_one_pixel_is_enlarged_and_said(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), (10, 20, 30)).save(tmp_path / "dot.png")
    got, notices = read(tmp_path / "dot.png", (32, 48))
    assert (got == (10, 20, 30)).all()
    assert notices.startswith("dot.png is 1 x 1 px, smaller than the model's 48 x 32 px: it is enlarged")


def test_a_line_of_pixels_does_not_become_a_plain(tmp_path: Path) -> None:
    Image.fromarray(np.arange(60_000, dtype=np.uint16)[None].astype(np.uint8)).save(tmp_path / "line.png")
    got, notices = read(tmp_path / "line.png", (480, 832))
    assert got.shape == (480, 832, 3)
    assert "100% of its width is cut off" in notices


def test_other_shapes_are_cut_in_the_middle(tmp_path: Path) -> None:
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 200
    Image.fromarray(wide).save(tmp_path / "wide.png")
    got, notices = read(tmp_path / "wide.png", (20, 20))
    assert (got == 200).all()
    assert notices == "wide.png is 60 x 20 px: 67% of its width is cut off, the middle is kept"


def test_large_jpegs_decode_to_a_smaller_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(RGB).resize((2048, 1536)).save(tmp_path / "large.jpg", quality=95)
    loaded: list[tuple[int, int]] = []
    convert = Image.Image.convert

    def watched(self: Image.Image, *args: object, **how: object) -> Image.Image:
        loaded.append(self.size)
        return convert(self, *args, **how)

    monkeypatch.setattr(Image.Image, "convert", watched)
    got, notices = read(tmp_path / "large.jpg")
    assert off(got, RGB) < 6
    assert notices == ""
    assert max(size[0] for size in loaded) == 256


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_animations_give_their_first_picture_and_say_so(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    how = {"lossless": True} if suffix == "webp" else {}
    PICTURE.save(path, save_all=True, append_images=[PICTURE.rotate(180), PICTURE.rotate(90)], **how)
    got, notices = read(path)
    assert off(got, RGB) < 6
    assert notices == f"a.{suffix} holds 3 pictures: the first is used (give it as a video to use them all)"


def png(width: int, height: int) -> bytes:
    """A PNG that declares a size and holds nearly nothing."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0" * 64)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def jpeg() -> bytes:
    data = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(data, "JPEG")
    return data.getvalue()


def lossless() -> bytes:
    data = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(data, "PNG")
    return data.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("bomb.png", png(60_000, 60_000), "bomb.png: the picture is too large; got .*3600000000 pixels.*expected at "
                                          "most 134217728 pixels. Fix: scale it down"),
        ("mean.png", png(12_000, 12_000), "too large; got 12000 x 12000 px; expected at most 134217728 pixels. Fix"),
        ("half.jpg", jpeg()[:1000], "cut short or damaged; got .*truncated.*; expected .*. Fix: export or download"),
        ("half.png", lossless()[:2000], "cut short or damaged; got .*; expected .*. Fix: export or download"),
        ("few.png", png(64, 64), "cut short or damaged; got .*; expected .*. Fix: export or download"),
        ("empty.png", b"", "the file is empty; got 0 bytes; expected a picture. Fix"),
        ("text.png", b"hello there, I am no picture", "not a picture.*got a file that starts with b'hello.*Fix"),
        ("doc.pdf", b"%PDF-1.7 .......", "not a picture.*; got a PDF; expected PNG, JPEG.*. Fix"),
        ("film.mp4", b"\0\0\0\x20ftypisom\0\0\2\0isom", "got a video; expected .*Fix: give a video as --video"),
        ("phone.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "got HEIC; expected .*save it as PNG"),
        ("print.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
    ],
)  # fmt: skip
def test_bad_pictures(tmp_path: Path, name: str, data: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=says):
        read_picture(tmp_path / name, (H, W))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "AVIF", "JPEG2000", "PPM", "ICO"])
def test_damage_anywhere_is_an_error_of_ours_or_nothing(tmp_path: Path, kind: str) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow was built without AVIF")
    data = io.BytesIO()
    PICTURE.save(data, kind)
    random, whole = np.random.default_rng(5), data.getvalue()
    refused = 0
    for _ in range(60):
        damaged = bytearray(whole[: random.integers(len(whole))] if random.random() < 0.3 else whole)
        for _ in range(random.integers(1, 8)):
            if damaged:
                damaged[random.integers(min(len(damaged), 300))] = random.integers(256)
        (tmp_path / "a").write_bytes(damaged)
        try:
            read(tmp_path / "a")
        except InputError:
            refused += 1
    assert refused > 5


def test_bad_paths_and_numbers(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such picture; got .*nowhere.png. Fix: check the path"):
        read_picture(tmp_path / "nowhere.png", (H, W))
    with pytest.raises(InputError, match=r"not a file; got .*; expected a picture"):
        read_picture(tmp_path, (H, W))
    holes = RAMP.astype(np.float32).copy()
    holes[3, 3] = np.nan
    Image.fromarray(holes).save(tmp_path / "nan.tiff")
    with pytest.raises(InputError, match=r"holds NaN or infinity; got .*; expected finite numbers\. Fix: replace them"):
        read_picture(tmp_path / "nan.tiff", (H, W))
    PICTURE.save(tmp_path / "fine.png")
    with pytest.raises(InputError, match=r"too large; got 0.0 MiB; expected at most 0.0 MiB. Fix: scale"):
        read_picture(tmp_path / "fine.png", (H, W), limits=PictureLimits(max_bytes=10))


def test_what_was_read_has_a_hash(tmp_path: Path) -> None:
    PICTURE.save(tmp_path / "a.png")
    given = read_picture(tmp_path / "a.png", (H, W))
    assert given.rgb.shape == (1, H, W, 3)
    assert given.sha256 == hashlib.sha256((tmp_path / "a.png").read_bytes()).hexdigest()
