"""`hypervisor doctor`: checks of configuration, machine, database, Redis, engines and server.

A check returns findings. A check only reads, so it can run while the server runs.
"""
