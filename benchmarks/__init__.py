"""Measurements of the product; each module prints one JSON object as its last line."""
