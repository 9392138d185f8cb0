"""`hypervisor demo`: a demonstration on a temporary server.

`demo` is the command, `steps` has its steps in order, `deployments` the requests, `server` the temporary
server, `polling` the waits with a timeout. `workloads` has the programs that run on the cluster. They use
only what every workload has: its environment and the checkpoint module of the SDK.
"""
