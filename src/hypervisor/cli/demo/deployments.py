"""The requests of the demo: the cluster and the deployments."""

from __future__ import annotations

import sys
from importlib import resources
from pathlib import Path
from typing import Any

CLUSTER = {"total_cpu_cores": 4, "total_ram_gb": 4, "total_gpu_count": 2, "runtime": "process"}
SWEEPS = 4
"""Low-priority jobs that fill the cluster: half a GPU and a quarter of the CPU and RAM each."""
NEEDED_VICTIMS = 2
"""The HIGH job requests a whole GPU and half of the CPU and RAM: the capacity of exactly two sweeps."""
STEPS = 24
PAUSE = 0.35
"""Seconds between two steps of a sweep. A sweep runs about nine seconds and is idle most of the time."""
EPOCHS = 12_000
SERVICE_PORT = 8080
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def finish_file(shared: Path) -> Path:
    """The file that lets sweeps end. Without it they could end before the preemption, on a slow machine."""
    return shared / "finish"


def sweep(number: int, shared: Path) -> dict[str, Any]:
    """A LOW job that uses a quarter of the cluster and saves checkpoints."""
    return {
        "name": f"sweep-{number}",
        "kind": "job",
        "command": _program("sweep_neighbours.py"),
        "env": {
            "IRIS_CSV": _file("iris.csv"),
            "CHECKPOINT": str(shared / f"sweep-{number}.json"),
            "STEPS": str(STEPS),
            "PAUSE": str(PAUSE),
            "FINISH_FILE": str(finish_file(shared)),
        },
        "required_cpu_cores": 1,
        "required_ram_gb": 1,
        "required_gpu_count": 0.5,
        "priority": "LOW",
        "grace_period_seconds": 5,
    }


def training(shared: Path) -> dict[str, Any]:
    """The HIGH job: it requests a whole GPU and trains on the CPU."""
    return {
        "name": "train-iris",
        "kind": "job",
        "command": _program("train_iris.py"),
        "env": {
            "IRIS_CSV": _file("iris.csv"),
            "MODEL": str(shared / "iris.npz"),
            "EPOCHS": str(EPOCHS),
            **ONE_THREAD,
        },
        "required_cpu_cores": 2,
        "required_ram_gb": 2,
        "required_gpu_count": 1,
        "priority": "HIGH",
    }


def prediction(shared: Path) -> dict[str, Any]:
    """The service. It starts when the training has succeeded."""
    return {
        "name": "serve-iris",
        "kind": "service",
        "command": _program("serve_iris.py"),
        "env": {"MODEL": str(shared / "iris.npz"), **ONE_THREAD},
        "ports": [SERVICE_PORT],
        "required_cpu_cores": 1,
        "required_ram_gb": 0.5,
        "priority": "MEDIUM",
        "depends_on": [{"deployment": "train-iris", "condition": "succeeded"}],
        "grace_period_seconds": 5,
    }


def _program(name: str) -> list[str]:
    return [sys.executable, _file(f"workloads/{name}")]


def _file(name: str) -> str:
    return str(resources.files("hypervisor.cli.demo") / name)
