"""Cameras and depth for videos that come without: tools in environments of their own, driven through one contract."""
