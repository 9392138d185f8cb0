"""The simulated runtime: instances that run nothing; their labels set duration and outcome.

- `runtime`: implements the protocol. `read_only` does it for a process that only answers requests.
- `instance`: pure; the life of one instance, read from its labels.
- `instance_files`: one file for each instance.
"""
