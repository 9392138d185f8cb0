"""The process runtime: each workload is a plain process of this machine, without isolation.

It is meant for one trusted tenant. It needs Linux (pidfd, /proc).

- `runtime`: implements the protocol. `read_only` does it for a process that only answers requests.
- `supervisor`: starts each workload under a small shell, which outlives the server and writes the exit code.
  `copier` is the part of it that stores the output. `spawner` starts it, if needed with `subreaper`.
- `environment`: composes the workload's environment and hands it over, if needed with `exact_environment`.
- `cgroups`, `procfs`, `procfs_scanner`, `instance_processes`: find and identify the processes of an instance.
- `instance_dir`: the files of each instance.
- `tracked_instance`, `instance_tracker`: the instances in memory; adopt and watch them.
- `stop`: sends SIGTERM and SIGKILL. `reaper` kills what a workload leaves behind.
- `log_files`, `logs`: read the output. `ports` chooses free ports.
"""
