"""Metrics of a simulation, in memory that does not grow with the number of ended jobs.

Times go into histograms with a known relative error, series into bins that double their width when they
run out, groups are limited in number. All of it is deterministic.
"""
