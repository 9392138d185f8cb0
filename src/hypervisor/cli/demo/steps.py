"""The scenes of the demo, one method each, in the order in which they are played."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
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

FLOWER = [6.9, 3.1, 5.4, 2.1]
"""Row 140 of the data, in centimetres."""
SPECIES = "virginica"
GOOD_ACCURACY = 0.9
FIRST_RESULTS = 4
SOON = 60.0
LONG = 120.0
"""Seconds that a step may take on a very busy machine."""


class DemoSteps:
    """Two people at one server; what each scene leaves behind is what the next begins with."""

    def __init__(self, console: Console, stage: DemoServer) -> None:
        self._console = console
        self._stage = stage
        self._ada = stage.client()
        self._ben = stage.client()
        self._ids: dict[str, int] = {}
        self._victims: list[str] = []
        self._scene = 0
        self._say(f"A server is running at {stage.url}, on a SQLite file in a temporary folder.")

    def gather(self) -> None:
        """Two people, one organization by invite code, one small cluster."""
        self._title("Two people, an organization, a cluster")
        for client, name in ((self._ada, "ada"), (self._ben, "ben")):
            password = secrets.token_urlsafe(16)
            client.accounts.register(name, f"{name}@example.com", password)
            client.accounts.login(name, password)
        organization = self._ada.organizations.create("Iris lab")
        code = self._ada.organizations.invite_code(organization["id"])["invite_code"]
        joined = self._ben.organizations.join(code)
        expect(joined["role"] == "developer", "ben joins as developer", joined["role"])
        self._say(f"ada made {organization['name']}; ben joined it as {joined['role']} with the invite code.")
        cluster = self._ada.clusters.create("workbench", deployments.CLUSTER)
        self._say(
            f"ada declared the cluster workbench: {amounts(cluster['capacity'])}. The process runtime "
            "takes her word for it: the GPUs exist on paper, nothing here needs a real one."
        )

    def fill(self) -> None:
        """Low-priority jobs take all there is."""
        self._title("Low-priority jobs fill the cluster")
        specs = [deployments.sweep(number, self._stage.shared) for number in range(1, deployments.SWEEPS + 1)]
        self._remember(self._ben.deployments.create_batch(specs))
        self._until_all(self._sweeps(), "RUNNING", within=SOON)
        until(
            "every sweep has its first results",
            lambda: all(len(self._log(name)) >= FIRST_RESULTS for name in self._sweeps()),
            within=SOON,
            seen=lambda: {name: self._log(name) for name in self._sweeps()},
        )
        self._say(
            f"ben's {deployments.SWEEPS} sweeps run: each looks for the best k of k-nearest-neighbours."
        )
        self._table(self._sweeps())

    def wait_in_line(self) -> None:
        """One more does not fit: why?"""
        self._title("Why is the next one waiting?")
        extra = deployments.sweep(deployments.SWEEPS + 1, self._stage.shared)
        self._remember([self._ben.deployments.create(extra)])
        name = str(extra["name"])
        until(
            f"{name} is QUEUED with a reason",
            lambda: self._look(name)["status"] == "QUEUED" and self._look(name).get("reason_data"),
            within=SOON,
            seen=lambda: self._state_of(name),
        )
        explanation = self._ben.deployments.explain(self._ids[name])
        reason = explanation.get("reason") or {}
        expect(
            any((reason.get("shortfall") or {}).values()), "a reason with the exact shortfall", explanation
        )
        self._show(explanation_lines(name, explanation))

    def preempt(self) -> None:
        """A HIGH job makes exactly as many give way as it needs; a service waits for its result."""
        self._title("An urgent training job makes room for itself")
        train = self._ada.deployments.create(deployments.training(self._stage.shared))
        serve = self._ada.deployments.create(deployments.prediction(self._stage.shared))
        self._remember([train, serve])
        expect(serve["status"] == "BLOCKED", "serve-iris waits for train-iris", serve["status"])
        self._say(
            "ada submitted train-iris (HIGH) and serve-iris, which starts when train-iris has succeeded."
        )
        receipt = until(
            "train-iris has a preemption receipt",
            lambda: self._receipt("train-iris"),
            within=SOON,
            seen=lambda: self._state_of("train-iris"),
        )
        deployments.cue(self._stage.shared).touch()
        self._victims = [victim["name"] for victim in receipt["victims"]]
        expect(
            len(self._victims) == deployments.NEEDED_VICTIMS
            and len(set(self._victims)) == deployments.NEEDED_VICTIMS,
            f"exactly {deployments.NEEDED_VICTIMS} of {deployments.SWEEPS} give way",
            self._victims,
        )
        self._show(receipt_lines(receipt))

    def train(self) -> None:
        """The training really happens."""
        self._title("It trains a neural network on iris, with NumPy")
        self._until_all(["train-iris"], "SUCCEEDED", within=LONG)
        lines = self._log("train-iris")
        expect(any("held-out accuracy" in line for line in lines), "an accuracy in the log", lines[-3:])
        self._show([lines[0], lines[-2], lines[-1]])

    def predict(self) -> None:
        """The service has started, has loaded the file, and answers."""
        self._title("The service that waited for the model answers")
        self._until_all(["serve-iris"], "RUNNING", within=SOON)
        url = until(
            "serve-iris has an endpoint",
            lambda: next(
                (each["url"] for each in self._look("serve-iris")["endpoints"] if each.get("url")), None
            ),
            within=SOON,
            seen=lambda: self._state_of("serve-iris"),
        )
        answer = until(
            "a prediction", lambda: _ask(url), within=SOON, seen=lambda: self._state_of("serve-iris")
        )
        expect(answer["held_out_accuracy"] >= GOOD_ACCURACY, f"accuracy of {GOOD_ACCURACY} or more", answer)
        expect(answer["species"] == SPECIES, f"the flower is taken for a {SPECIES}", answer)
        shares = ", ".join(f"{name} {share:.0%}" for name, share in answer["probabilities"].items())
        self._say(f"POST {url} {FLOWER} → {answer['species']} ({shares})")
        self._say(f"Accuracy on flowers that it never saw: {answer['held_out_accuracy']:.1%}.")

    def return_of_the_preempted(self) -> None:
        """Whoever gave way comes back and finishes, as do all others."""
        self._title("Those that gave way come back and finish")
        everyone = [*self._sweeps(), f"sweep-{deployments.SWEEPS + 1}"]
        self._until_all(everyone, "SUCCEEDED", within=LONG)
        for name in self._victims:
            deployment = self._look(name)
            expect(deployment["preemptions"] >= 1, f"{name} was preempted", deployment["preemptions"])
            expect(deployment["attempts_made"] >= 2, f"{name} ran again", deployment["attempts_made"])
            log = self._log(name)
            expect(any("resumed" in line for line in log), f"{name} resumed from its checkpoint", log)
            self._say(f"{name}: {log[0]}; {log[-1]}")

    def bow(self) -> None:
        """The end: stop the service, show how all ended."""
        self._title("How it ended")
        self._ada.deployments.stop(self._ids["serve-iris"])
        self._until_all(["serve-iris"], "STOPPED", within=SOON)
        self._table(self._ids)

    def _title(self, text: str) -> None:
        self._scene += 1
        self._console.print(f"\n{self._scene}. {text}", style="bold cyan")

    def _say(self, text: str) -> None:
        self._console.print(text)

    def _show(self, lines: Iterable[RenderableType]) -> None:
        for line in lines:
            self._console.print(line)

    def _table(self, names: Iterable[str]) -> None:
        self._console.print(deployments_table([self._look(name) for name in names], self._console.width))

    def _remember(self, deployments: Iterable[Deployment]) -> None:
        self._ids.update({each["name"]: each["id"] for each in deployments})

    def _sweeps(self) -> list[str]:
        return [f"sweep-{number}" for number in range(1, deployments.SWEEPS + 1)]

    def _look(self, name: str) -> Deployment:
        return self._ada.deployments.get(self._ids[name])

    def _log(self, name: str) -> list[str]:
        return self._ben.deployments.logs(self._ids[name]).splitlines()

    def _state_of(self, name: str) -> str:
        deployment = self._look(name)
        return f"{name} is {deployment['status']} ({deployment.get('reason')})"

    def _receipt(self, name: str) -> Receipt | None:
        receipts = self._ada.deployments.explain(self._ids[name]).get("receipts") or []
        return receipts[0] if receipts else None

    def _until_all(self, names: list[str], state: str, *, within: float) -> None:
        until(
            f"{', '.join(names)}: {state}",
            lambda: all(self._look(name)["status"] == state for name in names),
            within=within,
            seen=lambda: "; ".join(self._state_of(name) for name in names),
        )


def _ask(url: str) -> dict[str, Any] | None:
    """One prediction, None while the service does not listen yet."""
    try:
        answer = httpx2.post(url, json={"measurements": FLOWER}, timeout=5)
    except httpx2.TransportError:
        return None
    expect(answer.status_code == 200, "the prediction answers 200", answer.text)
    content: dict[str, Any] = answer.json()
    return content
