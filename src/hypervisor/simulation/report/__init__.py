"""The report of a simulation: `figures` as plain data for programs, `page` as one HTML file for people.

The page is rendered from the figures alone, so the JSON has all of its values. The page contains its styles,
charts and script, and loads nothing from a server.
"""
