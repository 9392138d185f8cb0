"""`hypervisor simulate`: flags, workloads from history, the summary."""
