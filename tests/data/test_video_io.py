"""Any video in, upright RGB on an exact clock out; every bad file gets a clear line of its own."""

from __future__ import annotations

import os
import resource
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from remind.data.video_io import (
    Mp4File,
    VideoLimits,
    check_writable,
    decode,
    decode_all,
    encode_mp4,
    probe,
    read_clip,
    sample,
    write_video,
    writing,
)
from remind.errors import InputError, VideoError
from tests.data.make_video import moving_square, write, write_audio_only

FRAMES = moving_square(20)
LOSSLESS = {"codec": "ffv1", "pix_fmt": "bgra"}


def error(a: torch.Tensor, b: torch.Tensor) -> float:
    """Mean absolute difference in levels."""
    return (a.float() - b.float()).abs().mean().item()


@pytest.mark.parametrize(
    ("name", "how", "levels"),
    [
        ("h264.mp4", {}, 2),
        ("h264_444.mp4", {"pix_fmt": "yuv444p"}, 2),
        ("ten_bit.mp4", {"pix_fmt": "yuv420p10le"}, 2),
        ("sound.mp4", {"audio": True}, 2),
        ("mpeg4.avi", {"codec": "mpeg4"}, 4),
        ("motion_jpeg.avi", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}, 4),
        ("raw.avi", {"codec": "rawvideo", "pix_fmt": "bgr24"}, 0),
        ("with_alpha.mkv", LOSSLESS, 0),
        ("rgb.mkv", {"codec": "libx264rgb", "pix_fmt": "rgb24"}, 2),
        ("prores.mov", {"codec": "prores_ks", "pix_fmt": "yuv422p10le"}, 2),
        ("vp9.webm", {"codec": "libvpx-vp9"}, 2),
        ("stream.ts", {}, 2),
        ("bare.h264", {}, 2),
        ("odd_size.mkv", {**LOSSLESS, "rgb": moving_square(20, (37, 53))}, 0),
    ],
)
def test_containers_codecs_and_pixel_formats(tmp_path: Path, name: str, how: dict, levels: int) -> None:
    rgb = how.get("rgb", FRAMES)
    path = write(tmp_path / name, rgb, **{k: v for k, v in how.items() if k != "rgb"})
    info = probe(path)
    assert info.hw == tuple(rgb.shape[1:3])
    assert info.has_audio == ("audio" in how)
    pictures = list(decode(path))
    assert [p.pts for p in pictures] == sorted({p.pts for p in pictures})
    got = decode_all(path)
    assert got.shape == rgb.shape
    assert error(got, rgb) <= levels


@pytest.mark.parametrize("pix_fmt", ["gray", "gray16le"])
def test_grey_video_becomes_grey_rgb(tmp_path: Path, pix_fmt: str) -> None:
    grey = FRAMES[..., :1].expand(-1, -1, -1, 3).contiguous()
    got = decode_all(write(tmp_path / "grey.mkv", grey, codec="ffv1", pix_fmt=pix_fmt))
    assert error(got, grey) <= 2


@pytest.mark.parametrize("angle", [90, 180, -90])
def test_pictures_are_turned_upright(tmp_path: Path, angle: int) -> None:
    path = write(tmp_path / "phone.mp4", FRAMES, rotation_deg=angle)
    upright = torch.from_numpy(np.rot90(FRAMES.numpy(), angle // 90, axes=(1, 2)).copy())
    assert probe(path).hw == tuple(upright.shape[1:3])
    assert error(decode_all(path), upright) < 2
    clip = read_clip(path, num_frames=2, fps=16, hw=(32, 32))
    assert clip.rgb.shape == (2, 32, 32, 3)


def test_a_still_picture_is_a_video_of_one_frame(tmp_path: Path) -> None:
    path = write(tmp_path / "still.png", FRAMES[:1], codec="png", pix_fmt="rgb24")
    assert torch.equal(read_clip(path, num_frames=1, fps=16).rgb, FRAMES[:1])


def test_pixels_that_are_not_square_are_made_so(tmp_path: Path) -> None:
    path = write(tmp_path / "anamorphic.mp4", FRAMES, pixel_aspect=Fraction(2, 1))
    assert probe(path).hw == (48, 128)
    assert decode_all(path).shape == (20, 48, 128, 3)


def test_scaling_covers_the_frame_and_crops_the_centre(tmp_path: Path) -> None:
    wide = torch.zeros(2, 40, 120, 3, dtype=torch.uint8)
    wide[:, :, 40:80] = 200  # exactly the middle square
    path = write(tmp_path / "wide.mkv", wide, **LOSSLESS)
    assert read_clip(path, num_frames=1, fps=16, hw=(20, 20)).rgb.float().mean() == pytest.approx(200, abs=1)
    tall = write(tmp_path / "tall.mkv", wide.transpose(1, 2).contiguous(), **LOSSLESS)
    assert read_clip(tall, num_frames=1, fps=16, hw=(20, 20)).rgb.float().mean() == pytest.approx(200, abs=1)
    assert read_clip(path, num_frames=1, fps=16, hw=(80, 80)).rgb.shape == (1, 80, 80, 3)  # upwards too


def test_scaling_down_is_antialiased(tmp_path: Path) -> None:
    checks = (((torch.arange(64)[:, None] + torch.arange(64)) % 2) * 255).to(torch.uint8)
    rgb = checks[None, ..., None].expand(2, 64, 64, 3).contiguous()
    got = read_clip(write(tmp_path / "checks.mkv", rgb, **LOSSLESS), num_frames=1, fps=16, hw=(16, 16)).rgb
    assert (got.float() - 127.5).abs().max() < 6


def numbered(num_frames: int) -> torch.Tensor:
    """Frames whose brightness is their number."""
    return torch.arange(num_frames, dtype=torch.uint8)[:, None, None, None].expand(-1, 16, 16, 3).contiguous()


def test_sampling_shows_the_latest_picture_at_or_before_each_tick(tmp_path: Path) -> None:
    path = write(tmp_path / "24.mkv", numbered(48), fps=24, time_base=Fraction(1, 24), **LOSSLESS)
    pictures = list(decode(path))
    base = probe(path).time_base
    ticks = list(sample(path, fps=16))
    assert len(ticks) == 32
    for k, tick in enumerate(ticks):
        expected = max(p.pts for p in pictures if p.pts * base <= pictures[0].pts * base + Fraction(k, 16))
        assert tick.pts == expected
    assert [int(t.rgb[0, 0, 0]) for t in ticks[:6]] == [0, 1, 3, 4, 6, 7]


def test_slow_video_repeats_and_keeps_its_time(tmp_path: Path) -> None:
    path = write(tmp_path / "4.avi", numbered(5), codec="rawvideo", pix_fmt="bgr24", fps=4)
    assert [int(s.rgb[0, 0, 0]) for s in sample(path, fps=16)] == [i // 4 for i in range(20)]


def test_variable_frame_rate_is_sampled_by_time_not_by_number(tmp_path: Path) -> None:
    times_ms = [0, 10, 20, 500, 510, 1000]
    path = write(
        tmp_path / "vfr.mkv", numbered(6), pts=times_ms, time_base=Fraction(1, 1000), fps=100, **LOSSLESS
    )
    got = [int(s.rgb[0, 0, 0]) for s in sample(path, fps=10)]
    assert got == [0, 2, 2, 2, 2, 3, 4, 4, 4, 4, 5]


def test_a_span_starts_and_stops_at_integer_pts(tmp_path: Path) -> None:
    path = tmp_path / "long.mp4"
    write_video(path, moving_square(100), 16)
    pictures = list(decode(path))
    span = list(sample(path, fps=16, start_pts=pictures[37].pts, stop_pts=pictures[61].pts))
    assert [s.pts for s in span] == [p.pts for p in pictures[37:61]]
    assert all(np.array_equal(s.rgb, p.rgb()) for s, p in zip(span, pictures[37:61], strict=True))


def test_reading_from_before_the_first_picture_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ts", FRAMES)
    with pytest.raises(VideoError, match="nothing is shown yet"):
        list(sample(path, fps=16, start_pts=0))
    with pytest.raises(InputError, match="positive"):
        list(sample(path, fps=0))


def test_long_videos_are_streamed(tmp_path: Path) -> None:
    path = tmp_path / "long.mp4"
    write_video(path, numbered(200), 16)
    pictures = decode(path)
    next(pictures)
    pictures.close()  # the rest is never decoded
    assert len(read_clip(path, num_frames=3, fps=16).pts) == 3


# --- bad files: a line of its own for each ---


def bad(tmp_path: Path, kind: str) -> Path:
    good = encode_mp4(moving_square(60), 16)
    match kind:
        case "missing":
            return tmp_path / "missing.mp4"
        case "folder":
            return tmp_path
        case "empty":
            (path := tmp_path / "empty.mp4").write_bytes(b"")
        case "text":
            (path := tmp_path / "text.mp4").write_text("no video at all\n" * 50)
        case "index cut off":
            (path := tmp_path / "cut.mp4").write_bytes(good[: len(good) // 2])
        case "audio":
            path = write_audio_only(tmp_path / "audio.mp4")
        case "one picture":
            path = write(tmp_path / "one.mp4", FRAMES[:1])
        case "too short":
            path = write(tmp_path / "short.mp4", FRAMES)
        case "pictures cut off":
            path = write(tmp_path / "cut.mkv", moving_square(120), options={"live": "0"})
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        case "playlist":
            write(tmp_path / "other.ts", FRAMES)
            (path := tmp_path / "list.mp4").write_text(
                "#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:1,\nother.ts\n#EXT-X-ENDLIST\n"
            )
        case _:
            raise AssertionError(kind)
    return path


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("missing", "no such file"),
        ("folder", "not a file"),
        ("empty", "the file is empty; got 0 bytes"),
        ("text", "not a video, or cut short before its index"),
        ("index cut off", "not a video, or cut short before its index"),
        ("audio", "no video track; got audio"),
        ("one picture", "too short; got one picture"),
        ("too short", "too short; got 20 frames at 16 fps; expected 81 frames"),
        ("pictures cut off", "truncated"),
        ("playlist", "not a video"),
    ],
)
def test_bad_files_say_what_is_wrong_in_one_line(tmp_path: Path, kind: str, line: str) -> None:
    with pytest.raises(VideoError) as caught:
        read_clip(bad(tmp_path, kind), num_frames=81, fps=16, hw=(32, 32))
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_damage_in_the_middle_is_found(tmp_path: Path) -> None:
    noise = torch.randint(
        0, 256, (60, 48, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    data = bytearray(encode_mp4(noise, 16))
    for i in range(len(data) // 3, len(data) * 2 // 3, 50):
        data[i] ^= 0xFF
    with pytest.raises(VideoError, match="damaged"):
        decode_all(bytes(data))


def test_limits_are_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", FRAMES)
    for limits, line in [
        (VideoLimits(max_bytes=100), "too large"),
        (VideoLimits(max_pixels=100), "frames are too large"),
        (VideoLimits(max_duration_s=0.5), "too long"),
    ]:
        with pytest.raises(VideoError, match=line):
            list(decode(path, limits=limits))
    bare = write(tmp_path / "bare.h264", FRAMES)  # declares no duration: found on the way
    with pytest.raises(VideoError, match="too long"):
        list(decode(bare, limits=VideoLimits(max_duration_s=0.5)))


# --- writing ---


@pytest.mark.parametrize("hw", [(48, 64), (47, 63), (17, 16)])
def test_written_video_reads_back(tmp_path: Path, hw: tuple[int, int]) -> None:
    rgb = moving_square(24, hw)
    path = tmp_path / "out.mp4"
    write_video(path, rgb, 16)
    info, got = probe(path), decode_all(path)
    assert (info.codec, info.pixel_format, info.fps) == ("h264", "yuv420p", 16)
    assert error(got[:, : hw[0], : hw[1]], rgb) < 4
    assert list(tmp_path.iterdir()) == [path]


def test_flat_colours_keep_their_level() -> None:
    for level in ((0, 0, 0), (255, 255, 255), (200, 30, 40), (30, 200, 40), (40, 30, 200), (1, 2, 3)):
        flat = torch.tensor(level, dtype=torch.uint8).expand(3, 32, 32, 3).contiguous()
        got = decode_all(encode_mp4(flat, 16, crf=0)).float().mean((0, 1, 2))
        assert (got - torch.tensor(level)).abs().max() <= 1  # no drift of conversions: 8-bit YUV's rounding


def test_black_stays_exactly_black() -> None:
    assert (decode_all(encode_mp4(torch.zeros(9, 32, 32, 3, dtype=torch.uint8), 16)) == 0).all()


def test_the_same_frames_give_the_same_bytes() -> None:
    noise = torch.randint(
        0, 256, (16, 66, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    assert len({encode_mp4(noise, 16) for _ in range(6)}) == 1


def test_a_key_frame_every_eight() -> None:
    keys = [p.frame.key_frame for p in decode(encode_mp4(moving_square(40), 16))]
    assert [i for i, key in enumerate(keys) if key] == [0, 8, 16, 24, 32]


def test_unwritable_outputs_are_found_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "encode_mp4", lambda *args, **kwargs: pytest.fail("began to encode"))
    (tmp_path / "folder.mp4").mkdir()
    for path, line in [
        (tmp_path / "absent" / "out.mp4", "cannot write the video"),
        (tmp_path / "folder.mp4", "a folder has its name"),
        (tmp_path / "out.avi", r"ends in \.mp4"),
    ]:
        with pytest.raises(VideoError, match=line):
            write_video(path, FRAMES, 16)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_found(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(VideoError, match="Permission denied"):
        check_writable(tmp_path / "out.mp4")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.mp4"
    write_video(path, FRAMES, 16)
    before = path.read_bytes()

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(VideoError, match="No space left"):
        write_video(path, FRAMES[:5], 16)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_video_without_frames_is_refused() -> None:
    with pytest.raises(VideoError, match="without frames"):
        encode_mp4(FRAMES[:0], 16)


# --- real files ---


@pytest.mark.parametrize(
    ("name", "hw", "fps", "pictures", "ticks"),
    [
        ("nasa_13013.mp4", (180, 320), 25, 325, 208),
        ("crush_027.mp4", (480, 832), 16, 114, 114),
        ("mammoth_81.mp4", (480, 832), 24, 81, 54),
    ],
)
def test_real_files(
    real_videos: Path, name: str, hw: tuple[int, int], fps: int, pictures: int, ticks: int
) -> None:
    path = real_videos / name
    info = probe(path)
    assert (info.hw, info.fps) == (hw, fps)
    assert sum(1 for _ in decode(path)) == pictures
    assert sum(1 for _ in sample(path, fps=16, hw=(32, 32))) == ticks


@pytest.mark.parametrize("cut", [1, 7, 20])
def test_frames_written_as_they_come_give_the_same_bytes(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.mp4"
    with Mp4File(path, 16) as file:
        for some in FRAMES.split(cut):
            file.push(some)
            assert not path.exists()
        file.push(FRAMES[:0])
    assert file.num_frames == len(FRAMES)
    assert path.read_bytes() == encode_mp4(FRAMES, 16)
    assert list(tmp_path.iterdir()) == [path]


def test_an_mp4_says_what_it_was_told(tmp_path: Path) -> None:
    words = {"title": "a tank fills \u2713", "comment": "c" * 5000, "description": "d"}
    for name in ("a.mp4", "b.mp4"):
        with Mp4File(tmp_path / name, 16, metadata=words) as file:
            file.push(FRAMES)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert words.items() <= container.metadata.items()


def test_a_stream_that_fails_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"

    def fails(error: Exception | None, *pushes: torch.Tensor) -> None:
        with Mp4File(path, 16) as file:
            for rgb in pushes:
                file.push(rgb)
            if error:
                raise error

    for old in (False, True):
        if old:
            write_video(path, FRAMES, 16)
        with pytest.raises(ZeroDivisionError):
            fails(ZeroDivisionError(), FRAMES)
        with pytest.raises(FileNotFoundError, match="mine"):  # an error of the caller's stays what it is
            fails(FileNotFoundError("mine"), FRAMES)
        with pytest.raises(VideoError, match=r"differ in size; got \(24, 32\); expected \(48, 64\)"):
            fails(None, FRAMES, moving_square(2, (24, 32)))
        with pytest.raises(VideoError, match="without frames; got 0; expected at least one frame"):
            fails(None)
        assert [p.name for p in tmp_path.iterdir()] == (["a.mp4"] if old else [])
    assert path.read_bytes() == encode_mp4(FRAMES, 16)


def test_a_full_disk_while_frames_are_written(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    noise = torch.randint(0, 256, (80, 96, 96, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(VideoError, match=r"cannot write the video; got .*a.mp4: .*Fix: free some space"):
            write_video(tmp_path / "a.mp4", noise, 16)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
