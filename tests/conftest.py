"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Busy machines are slow, not wrong.
settings.register_profile("remind", deadline=None)
settings.load_profile("remind")


@pytest.fixture(scope="session")
def real_videos() -> Path:
    """Folder of real videos, `$REMIND_TEST_DATA/videos`; without it, tests that need it are skipped."""
    root = os.environ.get("REMIND_TEST_DATA")
    if not root:
        pytest.skip("REMIND_TEST_DATA is not set: no real videos to test with")
    folder = Path(root) / "videos"
    if not folder.is_dir():
        pytest.skip(f"REMIND_TEST_DATA has no folder of videos: {folder}")
    return folder
