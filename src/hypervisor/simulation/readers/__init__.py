"""Files become jobs and nodes: one module a format, one line a format in `formats`.

Rows are read in order of arrival without keeping them: what is kept of a file is where its rows begin, and
only if the file is not sorted. Every complaint names file and line.
"""
