"""Workloads as plain processes of this machine: no isolation, for one trusted tenant.

`shim` starts each workload under a shell of a tenth of a megabyte that outlives the server and records the
exit code; `proc` reads /proc and tells processes apart; `folder` is what is on disk; `instances` adopts and
watches; `stopping` sends TERM and KILL; `sweeper` ends what a workload leaves behind; `logs` rotates and
reads the output; `runtime` is the contract's face on all of it. Linux only (pidfd, /proc).
"""

from hypervisor.runtimes.process.runtime import ProcessRuntime

__all__ = ["ProcessRuntime"]
