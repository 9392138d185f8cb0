"""`hypervisor simulate`: the command, its options, workloads from the history, and the output."""
