"""Who plays: the cluster, and the deployments as requests of the API."""

from __future__ import annotations

import sys
from importlib import resources
from pathlib import Path
from typing import Any

CLUSTER = {"total_cpu_cores": 4, "total_ram_gb": 4, "total_gpu_count": 2, "runtime": "process"}
SWEEPS = 4
"""Low-priority jobs that fill the cluster: half a GPU and a quarter of the CPU and RAM each."""
NEEDED_VICTIMS = 2
"""The HIGH job asks for a whole GPU and half of the rest: the room of exactly two of them."""
STEPS = 24
PAUSE = 0.35
"""Seconds between two steps of a sweep: about nine seconds of run time, little of it computing."""
EPOCHS = 12_000
SERVICE_PORT = 8080
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def cue(shared: Path) -> Path:
    """The file that lets sweeps end: on a slow machine they would be gone before somebody has to yield."""
    return shared / "cue"


def sweep(number: int, shared: Path) -> dict[str, Any]:
    """A LOW job that fills a quarter of the cluster and keeps a checkpoint."""
    return {
        "name": f"sweep-{number}",
        "kind": "job",
        "command": _program("sweep_neighbours.py"),
        "env": {
            "IRIS_CSV": _file("iris.csv"),
            "CHECKPOINT": str(shared / f"sweep-{number}.json"),
            "STEPS": str(STEPS),
            "PAUSE": str(PAUSE),
            "CUE": str(cue(shared)),
        },
        "required_cpu_cores": 1,
        "required_ram_gb": 1,
        "required_gpu_count": 0.5,
        "priority": "LOW",
        "grace_period_seconds": 5,
    }


def training(shared: Path) -> dict[str, Any]:
    """The HIGH job: a whole GPU on paper, real training on the CPU."""
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
    """The service: starts when the training has succeeded."""
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
