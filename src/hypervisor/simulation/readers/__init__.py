"""Readers of workload, node and quota files: one module per workload format, listed in `workload.FORMATS`.

Rows are read in order of arrival and not stored. For a file that is not sorted, the offsets of its rows are
stored. Every error names the file and the line.
"""
