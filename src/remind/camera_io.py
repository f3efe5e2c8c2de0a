"""Cameras from files and strings of other projects, as tracks of OpenCV c2w poses over time."""
