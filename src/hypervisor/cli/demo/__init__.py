"""`hypervisor demo`: the whole product on one screen, against a real server that it starts and ends itself.

`play` is the command, `scenes` are its steps in order, `stage` holds the server and the temporary folder,
`waiting` the bounded waits. The programs that run on the cluster are in `workloads`; of the
product they know the environment that any workload gets and the module by which it reports checkpoints.
"""
