"""Siphon's benchmarks: see ../bench."""
