"""Benchmarks. Each module prints one JSON object as its last line."""
