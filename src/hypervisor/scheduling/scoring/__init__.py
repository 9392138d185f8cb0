"""Placement policies: which node is best for a request among the nodes where it fits.

A policy is one file with a `Scorer` (`scorer.py`), and one line in `registry.py`. `node_ranking` updates the
scores during a pass.
"""
