"""Measuring: what a generated video of a known scene got right, how sure that is, and a report to look at."""
