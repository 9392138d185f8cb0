"""`python -m hypervisor` is the `hypervisor` command."""

from hypervisor.cli.main import main

main()
