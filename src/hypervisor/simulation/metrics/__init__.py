"""What is measured while virtual time passes: in memory that does not grow with the jobs that have ended.

Times go into histograms with a known relative error, series into bins that double their width when they
run out, groups are limited in number. All of it is deterministic.
"""
