"""The latency from a request to a running workload, compared with the bare engine.

`python -m benchmarks.latency` measures submit-to-running and preempt-to-running of the process runtime, and
of the Docker runtime if an engine is available, on an embedded server over HTTP. A measurement starts with
the request and ends when the event "running" reaches a client of the event stream. Each round measures all
sides one after another:

- `raw` starts the same workload without the server: a process from Python, or a container with create and
  start of the Engine API, as a plain `docker run` on the default bridge.
- `network` is `raw` on a network like the server's.
- `same` creates and starts exactly the container that the server requests.

The difference between `raw` and `same` is the cost of isolation; the rest is the cost of the server. Nearly
all of the isolation cost is the network. On the default bridge every container can reach every other
container. On any other network Docker sets up its own DNS resolver: at each start it runs a process in the
container's namespace (`setup-resolver`), which runs iptables eleven times (counted with Docker 20.10). The
server cannot do other work in that time, because it is part of the start. The init process, which forwards
SIGTERM, adds a few percent. Limits, dropped capabilities and log rotation have no measurable cost. So
`submit_over_raw` cannot be below `same_over_raw`.
"""

from __future__ import annotations

import argparse
import subprocess
import time
from collections.abc import Callable
from typing import Any

from tests.support.docker import IMAGE, Api, clean_up, endpoint, why_no_docker

from benchmarks.support.embedded_server import ENDED, StateWatch, embedded_server, in_milliseconds, percentile
from benchmarks.support.report import print_report
from hypervisor.client import Client
from hypervisor.kernel.resources import Resources
from hypervisor.runtimes.docker.config import container_config, network_config, network_name
from hypervisor.runtimes.protocol import LaunchSpec

_RUNNING = frozenset({"RUNNING"})
_FOREVER = ["sleep", "1000"]
_WORKLOADS: dict[str, dict[str, Any]] = {
    "process": {"command": _FOREVER},
    "docker": {"docker_image": IMAGE, "command": _FOREVER},
}
_INSTALL = "benchmark"
_PLAIN: dict[str, Any] = {"Image": IMAGE, "Cmd": _FOREVER}
_STOPS_AT_ONCE = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.01; done"]
"""Exits at once on TERM; `sleep` as the first process of a container would ignore it."""


def main() -> None:
    """Measure and print the report."""
    arguments = _parse()
    missing = why_no_docker()
    runtimes = [name for name in arguments.runtime if name == "process" or missing is None]
    rounds = 5 if arguments.small else arguments.rounds
    print_report(
        "latency",
        {runtime: _measure(runtime, rounds) for runtime in runtimes}
        | ({"no_docker": missing} if missing else {}),
    )


def _measure(runtime: str, rounds: int) -> dict[str, Any]:
    with embedded_server(runtime, 2, DOCKER_PULL_POLICY="never") as (client, cluster):
        server = _ServerSide(client, StateWatch(client), cluster, _WORKLOADS[runtime])
        runs = {**_BARE[runtime], "submit_to_running": server.submit, "preempt_to_running": server.preempt}
        took: dict[str, list[float]] = {name: [] for name in runs}
        for round_ in range(rounds + 1):
            measured = {name: run() for name, run in runs.items()}
            # The first round warms the caches and is not counted.
            for name, seconds in measured.items() if round_ else ():
                took[name].append(seconds)
    return {name: in_milliseconds(values) for name, values in took.items()} | _ratios(took)


def _ratios(took: dict[str, list[float]]) -> dict[str, float]:
    def ratio(name: str, bare: str, share: float) -> float:
        return round(percentile(took[name], share) / percentile(took[bare], share), 2)

    bares = [name for name in ("raw", "network", "same") if name in took]
    isolated = {f"{bare}_over_raw_p50": ratio(bare, "raw", 0.5) for bare in bares[1:]}
    submit = {f"submit_over_{bare}_p50": ratio("submit_to_running", bare, 0.5) for bare in bares}
    return (
        isolated
        | submit
        | {
            "submit_over_raw_p99": ratio("submit_to_running", "raw", 0.99),
            "preempt_over_raw_p50": ratio("preempt_to_running", "raw", 0.5),
        }
    )


class _ServerSide:
    """The measurements with the server."""

    def __init__(self, client: Client, watch: StateWatch, cluster: int, workload: dict[str, Any]) -> None:
        self._client = client
        self._watch = watch
        self._fields = {
            "cluster_id": cluster,
            "required_ram_gb": 0.25,
            "grace_period_seconds": 10,
            **workload,
        }

    def submit(self) -> float:
        """Seconds from the request to RUNNING on an empty cluster."""
        deployment, took = self._run("first", priority="LOW")
        self._end(deployment)
        return took

    def preempt(self) -> float:
        """Seconds from the request to RUNNING with one eviction; the victim exits at once on TERM."""
        victim, _ = self._run("victim", priority="LOW", command=_STOPS_AT_ONCE, restart_policy="never")
        preemptor, took = self._run("preemptor", priority="HIGH")
        self._client.deployments.delete(victim)
        self._end(preemptor)
        return took

    def _run(self, name: str, **fields: Any) -> tuple[int, float]:
        began = time.monotonic()
        created = self._client.deployments.create(
            {**self._fields, "name": name, "required_cpu_cores": 2, **fields}
        )
        return created["id"], self._watch.time_of(created["id"], _RUNNING) - began

    def _end(self, deployment: int) -> None:
        self._client.deployments.stop(deployment, grace_period_seconds=0)
        self._watch.time_of(deployment, ENDED)


def _raw_process() -> float:
    began = time.monotonic()
    child = subprocess.Popen(_FOREVER)
    took = time.monotonic() - began
    child.kill()
    child.wait()
    return took


def _raw_container() -> float:
    """Create and start a container with the defaults of a plain `docker run`."""
    return _container(_PLAIN)


def _on_network() -> float:
    """Create and start a plain container on a network like the server's."""
    return _container_on_network({**_PLAIN, "HostConfig": {"NetworkMode": network_name(_INSTALL)}})


def _same_container() -> float:
    """Create and start the container that the server requests."""
    resources = Resources(cpu_milli=2000, ram_mib=256)
    spec = LaunchSpec(_INSTALL, resources, image=IMAGE, command=tuple(_FOREVER))
    return _container_on_network(container_config(spec, _INSTALL))


def _container_on_network(config: dict[str, Any]) -> float:
    """Measure a container on an existing network, as for all but the first container of an installation."""
    api = Api(endpoint())
    api.json("POST", "/networks/create", network_config(_INSTALL))
    try:
        return _container(config)
    finally:
        clean_up(_INSTALL, api)


def _container(config: dict[str, Any]) -> float:
    api = Api(endpoint())
    began = time.monotonic()
    container_id = api.json("POST", "/containers/create", config)["Id"]
    api.call("POST", f"/containers/{container_id}/start")
    took = time.monotonic() - began
    api.call("DELETE", f"/containers/{container_id}?force=1&v=1")
    return took


_BARE: dict[str, dict[str, Callable[[], float]]] = {
    "process": {"raw": _raw_process},
    "docker": {"raw": _raw_container, "network": _on_network, "same": _same_container},
}
"""The measurements without the server, by runtime."""


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=30, help="number of rounds (default 30)")
    parser.add_argument("--runtime", nargs="+", choices=["process", "docker"], default=["process", "docker"])
    parser.add_argument("--small", action="store_true", help="a quick run: five rounds")
    return parser.parse_args()


if __name__ == "__main__":
    main()
