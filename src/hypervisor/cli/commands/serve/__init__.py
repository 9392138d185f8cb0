"""`hypervisor serve`: the command and the uvicorn server that it runs."""
