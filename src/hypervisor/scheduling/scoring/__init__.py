"""Placement policies: which node is best among those that can take a request.

A policy is one file with a `Scorer` (`scorer.py`), and one line in `registry.py`. `node_ranking` keeps the
scores of a pass up to date.
"""
