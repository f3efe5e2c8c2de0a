"""ReMind: teach autoregressive video generators to remember."""

__version__ = "0.1.0"
