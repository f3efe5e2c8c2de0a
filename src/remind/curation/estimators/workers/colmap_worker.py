"""Worker for COLMAP: poses from pictures by feature matching and bundle adjustment, on the CPU, without weights.

Runs in any environment with pycolmap, usually ReMind's own; a process apart all the same, since native code can crash
or hang. Same pictures and seed, same poses: one thread, every random generator seeded.
"""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path
from typing import Any

import numpy as np
from worker_loop import Result, SetupError, main, read_frames

_PARAMETERS = {"SIMPLE_PINHOLE": (0, 0, 1, 2), "PINHOLE": (0, 1, 2, 3), "SIMPLE_RADIAL": (0, 0, 1, 2)}
_FOCAL_RATIO = (0.4, 3.0)  # focal length over the longest side: views of 103 to 19 degrees


def _version() -> str:
    try:
        return importlib.metadata.version("pycolmap")
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def _handle(task: str, parameters: dict[str, Any], folder: Path) -> Result:
    try:
        import pycolmap
    except ImportError as error:
        raise SetupError(f"pycolmap is missing: pip install 'remind-video[camera]' ({error})") from None
    pycolmap.logging.minloglevel = 2  # errors only
    rgb = read_frames(folder)
    images, database, models = folder / "images", folder / "database.db", folder / "models"
    images.mkdir()
    models.mkdir()
    for i, picture in enumerate(rgb):
        pycolmap.Bitmap.from_array(np.ascontiguousarray(picture)).write(images / f"{i:06d}.png")
    pycolmap.set_random_seed(parameters["seed"])
    _match(pycolmap, parameters, rgb.shape[1:3], images, database)
    reconstruct = _map_globally if parameters["mapper"] == "global" else _map_incrementally
    found = reconstruct(pycolmap, parameters, images, database, models)
    known = pycolmap.Database.open(database)
    features = known.num_keypoints() / len(rgb)
    matches = known.num_inlier_matches() / max(1, known.num_matched_image_pairs())
    known.close()
    seen = f"{features:.0f} features a picture, {matches:.0f} matches a pair"
    if not found:
        raise ValueError(f"no reconstruction: too little texture, or no parallax ({seen})")
    best = max(found.values(), key=lambda model: model.num_reg_images())
    return _answer(best, rgb.shape, parameters, features, matches)


def _match(pycolmap: Any, parameters: dict[str, Any], hw: tuple[int, int], images: Path, database: Path) -> None:
    extraction = pycolmap.FeatureExtractionOptions()
    extraction.use_gpu, extraction.num_threads = False, 1
    extraction.max_image_size = parameters["max_side_px"]
    extraction.sift.max_num_features = parameters["max_features"]
    reader = pycolmap.ImageReaderOptions()
    reader.camera_model = parameters["camera_model"]
    if parameters["focal_px"] is not None:
        reader.camera_params = _known_camera(parameters["camera_model"], parameters["focal_px"], hw)
    pycolmap.extract_features(database, images, camera_mode=pycolmap.CameraMode.SINGLE, reader_options=reader,
                              extraction_options=extraction, device=pycolmap.Device.cpu)  # fmt: skip
    matching = pycolmap.FeatureMatchingOptions()
    matching.use_gpu, matching.num_threads = False, 1
    pairing = pycolmap.SequentialPairingOptions()
    pairing.overlap, pairing.quadratic_overlap, pairing.num_threads = parameters["overlap"], True, 1
    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.random_seed, verification.ransac.num_threads = parameters["seed"], 1
    pycolmap.match_sequential(database, matching_options=matching, pairing_options=pairing,
                              verification_options=verification, device=pycolmap.Device.cpu)  # fmt: skip


def _known_camera(model: str, focal_px: float, hw: tuple[int, int]) -> str:
    """COLMAP's parameters of a camera that looks through the middle of its picture, without distortion."""
    focal = [focal_px, focal_px] if model == "PINHOLE" else [focal_px]
    distortion = [0.0] if model == "SIMPLE_RADIAL" else []
    return ",".join(str(float(value)) for value in (*focal, hw[1] / 2, hw[0] / 2, *distortion))


def _map_incrementally(
    pycolmap: Any, parameters: dict[str, Any], images: Path, database: Path, models: Path
) -> dict[int, Any]:
    options = pycolmap.IncrementalPipelineOptions()
    options.num_threads, options.random_seed = 1, parameters["seed"]
    options.mapper.num_threads, options.mapper.random_seed = 1, parameters["seed"]
    options.triangulation.random_seed = parameters["seed"]
    options.extract_colors, options.max_num_models = False, 3
    options.ba_refine_focal_length = options.mapper.abs_pose_refine_focal_length = parameters["focal_px"] is None
    for part in (options, options.mapper, options.triangulation):
        part.min_focal_length_ratio, part.max_focal_length_ratio = _FOCAL_RATIO
    # A clip of five seconds moves less than a walk around a building, which the defaults are made for.
    options.mapper.init_min_tri_angle = 4.0
    options.mapper.init_min_num_inliers = 50
    options.mapper.abs_pose_min_num_inliers = 20
    found: dict[int, Any] = pycolmap.incremental_mapping(database, images, models, options)
    return found


def _map_globally(
    pycolmap: Any, parameters: dict[str, Any], images: Path, database: Path, models: Path
) -> dict[int, Any]:
    options = pycolmap.GlobalPipelineOptions()
    for part in (options, options.mapper):
        part.num_threads, part.random_seed = 1, parameters["seed"]
    for part in (options.mapper.rotation_averaging, options.mapper.global_positioning, options.mapper.retriangulation):
        part.random_seed = parameters["seed"]
    options.mapper.global_positioning.use_gpu = options.mapper.bundle_adjustment.ceres.use_gpu = False
    options.mapper.bundle_adjustment.refine_focal_length = parameters["focal_px"] is None
    retriangulation = options.mapper.retriangulation
    retriangulation.min_focal_length_ratio, retriangulation.max_focal_length_ratio = _FOCAL_RATIO
    found: dict[int, Any] = pycolmap.global_mapping(database, images, models, options)
    return found


def _answer(model: Any, shape: Any, parameters: dict[str, Any], features: float, matches: float) -> Result:
    frames = shape[0]
    w2c = np.tile(np.eye(3, 4), (frames, 1, 1))
    intrinsics_px = np.ones((frames, 4))
    valid = np.zeros(frames, bool)
    for number in model.reg_image_ids():
        image = model.image(number)
        i = int(os.path.splitext(image.name)[0])
        w2c[i] = image.cam_from_world().matrix()
        intrinsics_px[i] = image.camera.params[list(_PARAMETERS[parameters["camera_model"]])]
        valid[i] = True
    facts = {
        "registered": int(valid.sum()),
        "features_per_frame": round(features, 1),
        "matches_per_pair": round(matches, 1),
        "points": int(model.num_points3D()),
        "reprojection_error_px": round(float(model.compute_mean_reprojection_error()), 4),
    }
    if parameters["camera_model"] == "SIMPLE_RADIAL":
        facts["radial_distortion"] = float(next(iter(model.cameras.values())).params[3])
    return Result(arrays={"w2c": w2c, "intrinsics_px": intrinsics_px, "pose_valid": valid}, facts=facts)


if __name__ == "__main__":
    main("colmap", _version(), ("poses",), _handle)
