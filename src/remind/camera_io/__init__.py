"""Cameras from files and strings of other projects, as tracks of OpenCV c2w poses over time."""

from remind.camera_io.arrays import (
    load_cameras_npz,
    read_cameras_npz,
    read_intrinsics_npy,
    read_matrix_npy,
    read_quaternion_npy,
    write_cameras_npz,
)
from remind.camera_io.pose_json import PoseFile, is_transforms_json, read_pose_json
from remind.camera_io.realestate10k import read_realestate10k, realestate10k_url_and_span_s, write_realestate10k
from remind.camera_io.strings import pose_string_c2w
from remind.camera_io.track import CameraTrack
from remind.camera_io.transforms_json import read_transforms_json, transforms_names, write_transforms_json
from remind.camera_io.wrbench import wrbench_c2w

__all__ = ["CameraTrack", "PoseFile", "is_transforms_json", "load_cameras_npz", "pose_string_c2w", "read_cameras_npz",
           "read_intrinsics_npy", "read_matrix_npy", "read_pose_json", "read_quaternion_npy", "read_realestate10k",
           "read_transforms_json", "realestate10k_url_and_span_s", "transforms_names", "wrbench_c2w",
           "write_cameras_npz", "write_realestate10k", "write_transforms_json"]
