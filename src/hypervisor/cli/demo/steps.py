"""The steps of the demo, one method each, in order."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import httpx2
from rich.console import Console, RenderableType

from hypervisor.cli.core.deployments_table import deployments_table
from hypervisor.cli.core.explanation import explanation_lines, receipt_lines
from hypervisor.cli.core.formatting import amounts
from hypervisor.cli.demo import deployments
from hypervisor.cli.demo.polling import expect, until
from hypervisor.cli.demo.server import DemoServer
from hypervisor.client.models import Deployment, Receipt
from hypervisor.kernel.log_text import split_lines

FLOWER = [6.9, 3.1, 5.4, 2.1]
"""Row 140 of the data, in centimetres."""
SPECIES = "virginica"
MIN_ACCURACY = 0.9
FIRST_RESULTS = 4
SHORT = 60.0
LONG = 120.0
"""Timeouts in seconds, for a very busy machine."""
REQUEST_TIMEOUT = 5


class DemoSteps:
    """The steps of two users on one server. Each step depends on the steps before it."""

    def __init__(self, console: Console, server: DemoServer) -> None:
        self._console = console
        self._server = server
        self._ada = server.client()
        self._ben = server.client()
        self._ids: dict[str, int] = {}
        self._victims: list[str] = []
        self._step = 0
        self._print(f"A server runs at {server.url}, on a SQLite file in a temporary folder.")

    def create_users_and_cluster(self) -> None:
        """Register two users, create an organization and a cluster, and join by invite code."""
        self._print_title("Two users, an organization, a cluster")
        for client, name in ((self._ada, "ada"), (self._ben, "ben")):
            password = secrets.token_urlsafe(16)
            client.accounts.register(name, f"{name}@example.com", password)
            client.accounts.login(name, password)
        organization = self._ada.organizations.create("Iris lab")
        code = self._ada.organizations.invite_code(organization["id"])["invite_code"]
        joined = self._ben.organizations.join(code)
        expect(joined["role"] == "developer", "ben joins as developer", joined["role"])
        self._print(
            f"ada created {organization['name']}; ben joined it as {joined['role']} with the invite code."
        )
        cluster = self._ada.clusters.create("workbench", deployments.CLUSTER)
        self._print(
            f"ada created the cluster workbench with {amounts(cluster['capacity'])}. The process runtime "
            "does not check the hardware, so the demo needs no real GPU."
        )

    def fill_cluster(self) -> None:
        """Fill the cluster with low-priority jobs."""
        self._print_title("Low-priority jobs fill the cluster")
        specs = [
            deployments.sweep(number, self._server.shared) for number in range(1, deployments.SWEEPS + 1)
        ]
        self._remember(self._ben.deployments.create_batch(specs))
        self._wait_for_state(self._sweeps(), "RUNNING", timeout=SHORT)
        until(
            "every sweep has its first results",
            lambda: all(len(self._log(name)) >= FIRST_RESULTS for name in self._sweeps()),
            timeout=SHORT,
            observed=lambda: {name: self._log(name) for name in self._sweeps()},
        )
        self._print(
            f"ben's {deployments.SWEEPS} sweeps run: each searches the best k of k-nearest-neighbours."
        )
        self._print_table(self._sweeps())

    def explain_queued(self) -> None:
        """Submit one more job, which does not fit, and show the reason."""
        self._print_title("Why is the next one waiting?")
        extra = deployments.sweep(deployments.SWEEPS + 1, self._server.shared)
        self._remember([self._ben.deployments.create(extra)])
        name = str(extra["name"])
        until(
            f"{name} is QUEUED with a reason",
            lambda: self._get(name)["status"] == "QUEUED" and self._get(name).get("reason_data"),
            timeout=SHORT,
            observed=lambda: self._state_of(name),
        )
        explanation = self._ben.deployments.explain(self._ids[name])
        reason = explanation.get("reason") or {}
        expect(
            any((reason.get("shortfall") or {}).values()), "a reason with the exact shortfall", explanation
        )
        self._print_lines(explanation_lines(name, explanation))

    def preempt(self) -> None:
        """Submit a HIGH job, which preempts as few jobs as necessary, and a service that depends on it."""
        self._print_title("An urgent training job preempts")
        train = self._ada.deployments.create(deployments.training(self._server.shared))
        serve = self._ada.deployments.create(deployments.prediction(self._server.shared))
        self._remember([train, serve])
        expect(serve["status"] == "BLOCKED", "serve-iris waits for train-iris", serve["status"])
        self._print(
            "ada submitted train-iris (HIGH) and serve-iris, which starts when train-iris has succeeded."
        )
        receipt = until(
            "train-iris has a preemption receipt",
            lambda: self._receipt("train-iris"),
            timeout=SHORT,
            observed=lambda: self._state_of("train-iris"),
        )
        deployments.finish_file(self._server.shared).touch()
        self._victims = [victim["name"] for victim in receipt["victims"]]
        expect(
            len(self._victims) == deployments.NEEDED_VICTIMS
            and len(set(self._victims)) == deployments.NEEDED_VICTIMS,
            f"exactly {deployments.NEEDED_VICTIMS} of {deployments.SWEEPS} sweeps are evicted",
            self._victims,
        )
        self._print_lines(receipt_lines(receipt))

    def train(self) -> None:
        """Wait for the training and show its accuracy."""
        self._print_title("It trains a neural network on iris, with NumPy")
        self._wait_for_state(["train-iris"], "SUCCEEDED", timeout=LONG)
        lines = self._log("train-iris")
        expect(any("held-out accuracy" in line for line in lines), "an accuracy in the log", lines[-3:])
        self._print_lines([lines[0], lines[-2], lines[-1]])

    def predict(self) -> None:
        """Wait for the service, which loads the model, and request a prediction."""
        self._print_title("The service that waited for the model returns a prediction")
        self._wait_for_state(["serve-iris"], "RUNNING", timeout=SHORT)
        url = until(
            "serve-iris has an endpoint",
            self._endpoint_url,
            timeout=SHORT,
            observed=lambda: self._state_of("serve-iris"),
        )
        prediction = until(
            "a prediction",
            lambda: _request_prediction(url),
            timeout=SHORT,
            observed=lambda: self._state_of("serve-iris"),
        )
        accuracy = prediction["held_out_accuracy"]
        expect(accuracy >= MIN_ACCURACY, f"accuracy of {MIN_ACCURACY} or more", prediction)
        expect(prediction["species"] == SPECIES, f"the species {SPECIES}", prediction)
        shares = ", ".join(f"{name} {share:.0%}" for name, share in prediction["probabilities"].items())
        self._print(f"POST {url} {FLOWER} → {prediction['species']} ({shares})")
        self._print(f"Accuracy on the held-out flowers: {accuracy:.1%}.")

    def resume_preempted(self) -> None:
        """Wait until the preempted jobs and all others have succeeded."""
        self._print_title("The preempted jobs resume and finish")
        jobs = [*self._sweeps(), f"sweep-{deployments.SWEEPS + 1}"]
        self._wait_for_state(jobs, "SUCCEEDED", timeout=LONG)
        for name in self._victims:
            deployment = self._get(name)
            expect(deployment["preemptions"] >= 1, f"{name} was preempted", deployment["preemptions"])
            expect(deployment["attempts_made"] >= 2, f"{name} ran again", deployment["attempts_made"])
            log = self._log(name)
            expect(any("resumed" in line for line in log), f"{name} resumed from its checkpoint", log)
            self._print(f"{name}: {log[0]}; {log[-1]}")

    def stop_service(self) -> None:
        """Stop the service and show the final states."""
        self._print_title("The final states")
        self._ada.deployments.stop(self._ids["serve-iris"])
        self._wait_for_state(["serve-iris"], "STOPPED", timeout=SHORT)
        self._print_table(self._ids)

    def _print_title(self, text: str) -> None:
        self._step += 1
        self._console.print(f"\n{self._step}. {text}", style="bold cyan")

    def _print(self, text: str) -> None:
        self._console.print(text)

    def _print_lines(self, lines: Iterable[RenderableType]) -> None:
        for line in lines:
            self._console.print(line)

    def _print_table(self, names: Iterable[str]) -> None:
        self._console.print(deployments_table([self._get(name) for name in names]))

    def _remember(self, created: Iterable[Deployment]) -> None:
        self._ids.update({deployment["name"]: deployment["id"] for deployment in created})

    def _sweeps(self) -> list[str]:
        return [f"sweep-{number}" for number in range(1, deployments.SWEEPS + 1)]

    def _get(self, name: str) -> Deployment:
        return self._ada.deployments.get(self._ids[name])

    def _log(self, name: str) -> list[str]:
        return split_lines(self._ben.deployments.logs(self._ids[name]))

    def _state_of(self, name: str) -> str:
        deployment = self._get(name)
        return f"{name} is {deployment['status']} ({deployment.get('reason')})"

    def _receipt(self, name: str) -> Receipt | None:
        receipts = self._ada.deployments.explain(self._ids[name]).get("receipts") or []
        return receipts[0] if receipts else None

    def _endpoint_url(self) -> str | None:
        endpoints = self._get("serve-iris")["endpoints"]
        return next((endpoint["url"] for endpoint in endpoints if endpoint.get("url")), None)

    def _wait_for_state(self, names: list[str], state: str, *, timeout: float) -> None:
        until(
            f"{', '.join(names)}: {state}",
            lambda: all(self._get(name)["status"] == state for name in names),
            timeout=timeout,
            observed=lambda: "; ".join(self._state_of(name) for name in names),
        )


def _request_prediction(url: str) -> dict[str, Any] | None:
    """One prediction; None before the service listens."""
    try:
        response = httpx2.post(url, json={"measurements": FLOWER}, timeout=REQUEST_TIMEOUT, trust_env=False)
    except httpx2.TransportError:
        return None
    expect(response.status_code == HTTPStatus.OK, "the prediction responds with 200", response.text)
    prediction: dict[str, Any] = response.json()
    return prediction
