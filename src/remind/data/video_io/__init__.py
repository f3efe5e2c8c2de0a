"""Reading any video into upright 8-bit pictures on a constant clock, and writing H.264. All through PyAV.

Time is counted in a file's own integer presentation timestamps (pts) and exact fractions: cut times that are
rounded to seconds end up a frame off. Reading streams: one decoded frame is held at a time.

`container` opens files safely, `picture` turns a decoded frame into pixels, `yuv` holds those that stay as H.264 has
them, `reading` gives pictures in order of time, `clock` those that a constant clock shows, `writing` makes files.
"""

from remind.data.video_io.clock import Rate, Sample, SampledClip, read_clip, sample, shown
from remind.data.video_io.container import DEFAULT_LIMITS, Source, VideoLimits
from remind.data.video_io.picture import Picture, Scaler
from remind.data.video_io.reading import Video, VideoInfo, decode, decode_all, open_video, probe
from remind.data.video_io.writing import (
    KEYFRAME_INTERVAL,
    Effort,
    Mp4File,
    check_writable,
    encode_mp4,
    encode_yuv_mp4,
    write_video,
)
from remind.data.video_io.yuv import YuvFrames, empty_planes

__all__ = [
    "DEFAULT_LIMITS",
    "KEYFRAME_INTERVAL",
    "Effort",
    "Mp4File",
    "Picture",
    "Rate",
    "Sample",
    "SampledClip",
    "Scaler",
    "Source",
    "Video",
    "VideoInfo",
    "VideoLimits",
    "YuvFrames",
    "check_writable",
    "decode",
    "decode_all",
    "empty_planes",
    "encode_mp4",
    "encode_yuv_mp4",
    "open_video",
    "probe",
    "read_clip",
    "sample",
    "shown",
    "write_video",
]
