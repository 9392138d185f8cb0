"""MLOps Hypervisor: a control plane that schedules ML workloads, runs them and explains its decisions.

`docs/architecture.md` describes the packages and the direction of imports; import-linter checks it.
"""

__version__ = "0.1.0"
