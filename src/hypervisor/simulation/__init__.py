"""A discrete-event simulation of the scheduler: the server's `plan()` on a workload in virtual time.

`readers` parse files into jobs and nodes. `engine` runs the events. `metrics` observes with bounded memory.
`report` renders figures, JSON and an HTML page. Nothing here decides where a job runs, reads a clock or calls
a server, so the same inputs give the same result, bit for bit.
"""
