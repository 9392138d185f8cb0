"""`hypervisor doctor`: one file a subject, one finding a check."""
