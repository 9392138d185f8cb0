"""The commands: one file per command or group, a folder for a command with several files.

The parts of one command (`deploy_flags`, `option_values`, `node_flags`, `cluster_sharing`) are beside it.
Code of several commands belongs into `core`.
"""
