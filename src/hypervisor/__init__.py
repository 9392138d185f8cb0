"""MLOps Hypervisor: a control plane that decides which ML workloads run where, runs them, and says why.

The rooms and the direction of imports are described in `docs/architecture.md` and checked by import-linter.
"""

__version__ = "0.1.0"
