"""From a request to running work: submit to running, and preempt to running, beside the bare engine.

`python -m benchmarks.latency` measures the process and (where an engine answers) the Docker runtime on the
embedded default, over HTTP: from sending the request until the event "running" reached a client of the event
stream. `raw` is the same workload started without any service: a process from Python, or create and start
by the Engine's API as for a plain `docker run`, which joins the engine's default bridge. `network` is that on
a network like ours, `same` is create and start of the very container that the service asks for. The sides
are interleaved, one after the other in each round; one JSON line at the end.

From `raw` to `same` is the price of isolation, from `same` on that of the service. Nearly all of the former
is the network: on the default bridge every container reaches every other one, whosever it is. On all other
networks, whatever their options, Docker leads names to a resolver of its own. At each start it runs itself
anew in the container's namespace (`setup-resolver`), and that calls iptables eleven times, a process each
(counted on Docker 20.10). This is part of the start, so that nothing of ours can go on meanwhile. What is
left is the init, which passes SIGTERM on: a few percent. Limits, dropped capabilities and rotated logs cost
nothing that could be measured. So `submit_over_raw` cannot be less than `same_over_raw` there.
"""

from __future__ import annotations

import argparse
import subprocess
import time
from collections.abc import Callable
from typing import Any

from tests.support.docker import IMAGE, Api, clean_up, endpoint, why_no_docker

from benchmarks.support.embedded_server import ENDED, Watch, in_milliseconds, percentile, served
from benchmarks.support.report import print_report
from hypervisor.client import Client
from hypervisor.kernel.resources import Resources
from hypervisor.runtimes.docker.config import container_config, network_config, network_name
from hypervisor.runtimes.protocol import LaunchSpec

_RUNNING = frozenset({"RUNNING"})
_FOREVER = ["sleep", "1000"]
_WORK: dict[str, dict[str, Any]] = {
    "process": {"command": _FOREVER},
    "docker": {"docker_image": IMAGE, "command": _FOREVER},
}
_INSTALL = "benchmark"
_PLAIN: dict[str, Any] = {"Image": IMAGE, "Cmd": _FOREVER}
_PROMPT = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.01; done"]
"""Ends on TERM at once; `sleep` as the first process of a container would ignore it."""


def main() -> None:
    """Measure and print."""
    arguments = _parse()
    missing = why_no_docker()
    runtimes = [one for one in arguments.runtime if one == "process" or missing is None]
    rounds = 5 if arguments.small else arguments.rounds
    print_report(
        "latency",
        {runtime: _measure(runtime, rounds) for runtime in runtimes}
        | ({"no_docker": missing} if missing else {}),
    )


def _measure(runtime: str, rounds: int) -> dict[str, Any]:
    with served(runtime, 2, DOCKER_PULL_POLICY="never") as (client, cluster):
        side = _Side(client, Watch(client), cluster, _WORK[runtime])
        runs = {**_BARE[runtime], "submit_to_running": side.submit, "preempt_to_running": side.preempt}
        took: dict[str, list[float]] = {name: [] for name in runs}
        for round_ in range(rounds + 1):
            found = {name: run() for name, run in runs.items()}
            # The first round warms caches and is not counted.
            for name, seconds in found.items() if round_ else ():
                took[name].append(seconds)
    return {name: in_milliseconds(values) for name, values in took.items()} | _ratios(took)


def _ratios(took: dict[str, list[float]]) -> dict[str, float]:
    def ratio(name: str, bare: str, part: float) -> float:
        return round(percentile(took[name], part) / percentile(took[bare], part), 2)

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


class _Side:
    """The service's side of a round."""

    def __init__(self, client: Client, watch: Watch, cluster: int, work: dict[str, Any]) -> None:
        self._client = client
        self._watch = watch
        self._fields = {"cluster_id": cluster, "required_ram_gb": 0.25, "grace_period_seconds": 10, **work}

    def submit(self) -> float:
        """Seconds from the request to RUNNING in an empty cluster."""
        deployment, took = self._run("fresh", priority="LOW")
        self._end(deployment)
        return took

    def preempt(self) -> float:
        """The same for one that needs the place of another, which ends on TERM at once."""
        victim, _ = self._run("victim", priority="LOW", command=_PROMPT, restart_policy="never")
        preemptor, took = self._run("preemptor", priority="HIGH")
        self._client.deployments.delete(victim)
        self._end(preemptor)
        return took

    def _run(self, name: str, **fields: Any) -> tuple[int, float]:
        began = time.monotonic()
        made = self._client.deployments.create(
            {**self._fields, "name": name, "required_cpu_cores": 2, **fields}
        )
        return made["id"], self._watch.when(made["id"], _RUNNING) - began

    def _end(self, deployment: int) -> None:
        self._client.deployments.stop(deployment, grace_period_seconds=0)
        self._watch.when(deployment, ENDED)


def _raw_process() -> float:
    began = time.monotonic()
    child = subprocess.Popen(_FOREVER)
    took = time.monotonic() - began
    child.kill()
    child.wait()
    return took


def _raw_container() -> float:
    """Create and start with the limits and the network mode that a plain `docker run` would give."""
    return _container(_PLAIN)


def _on_network() -> float:
    """The same on a network like that of the service."""
    return _beside_our_network({**_PLAIN, "HostConfig": {"NetworkMode": network_name(_INSTALL)}})


def _same_container() -> float:
    """Create and start what the service would ask for."""
    resources = Resources(cpu_milli=2000, ram_mib=256)
    spec = LaunchSpec(_INSTALL, resources, image=IMAGE, command=tuple(_FOREVER))
    return _beside_our_network(container_config(spec, _INSTALL))


def _beside_our_network(config: dict[str, Any]) -> float:
    """The network is there already, as it is for all but the first container of an installation."""
    api = Api(endpoint())
    api.json("POST", "/networks/create", network_config(_INSTALL))
    try:
        return _container(config)
    finally:
        clean_up(_INSTALL, api)


def _container(config: dict[str, Any]) -> float:
    api = Api(endpoint())
    began = time.monotonic()
    made = api.json("POST", "/containers/create", config)["Id"]
    api.call("POST", f"/containers/{made}/start")
    took = time.monotonic() - began
    api.call("DELETE", f"/containers/{made}?force=1&v=1")
    return took


_BARE: dict[str, dict[str, Callable[[], float]]] = {
    "process": {"raw": _raw_process},
    "docker": {"raw": _raw_container, "network": _on_network, "same": _same_container},
}
"""What runs without the service beside each runtime."""


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--runtime", nargs="+", choices=["process", "docker"], default=["process", "docker"])
    parser.add_argument("--small", action="store_true", help="five rounds")
    return parser.parse_args()


if __name__ == "__main__":
    main()
