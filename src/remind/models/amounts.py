"""Bytes, FLOPs and seconds as people read them, in the tables of dry runs."""

from __future__ import annotations


def size_text(num_bytes: float) -> str:
    """Decimal units, one digit: `3.1 GB`."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if num_bytes >= size:
            return f"{num_bytes / size:.1f} {unit}"
    return f"{num_bytes / 1e3:.1f} kB" if num_bytes else "nothing"


def number_text(number: float) -> str:
    """Decimal units, two digits: `76.78 T`."""
    for unit, size in (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:,.2f} {unit}"
    return f"{number:.0f}"


def seconds_text(seconds: float) -> str:
    """`1.50 s`, or `250.0 ms`."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1e3 * seconds:.1f} ms"
