"""A service that loads the trained model and serves predictions over HTTP.

POST / with {"measurements": [sepal length, sepal width, petal length, petal width]} in centimetres. MODEL is
the .npz file, PORT the port to listen on. The service exits at once on SIGTERM.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np

MEASUREMENTS = 4


class Model:
    """The network of train_iris, loaded from its file."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as saved:
            self._parts = {name: saved[name] for name in saved.files}
        self.accuracy = float(self._parts["accuracy"])
        self.species = [str(name) for name in self._parts["species"]]

    def predict(self, measurements: list[float]) -> dict[str, float]:
        """The probability of each species."""
        parts = self._parts
        scaled = (np.array([measurements]) - parts["mean"]) / parts["scale"]
        hidden = np.maximum(0, scaled @ parts["w1"] + parts["b1"])
        scores = (hidden @ parts["w2"] + parts["b2"])[0]
        exponents = np.exp(scores - scores.max())
        shares = exponents / exponents.sum()
        return {name: round(float(share), 4) for name, share in zip(self.species, shares, strict=True)}


class Handler(BaseHTTPRequestHandler):
    model: Model

    def do_GET(self) -> None:
        self._respond(
            HTTPStatus.OK, {"species": self.model.species, "held_out_accuracy": self.model.accuracy}
        )

    def do_POST(self) -> None:
        try:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", "0"))))
            measurements = [float(value) for value in body["measurements"]]
            if len(measurements) != MEASUREMENTS:
                raise ValueError
        except (ValueError, TypeError, KeyError):
            self._respond(HTTPStatus.BAD_REQUEST, {"error": "send {'measurements': [four numbers]}"})
            return
        shares = self.model.predict(measurements)
        species = max(shares, key=lambda name: shares[name])
        content = {"species": species, "probabilities": shares, "held_out_accuracy": self.model.accuracy}
        self._respond(HTTPStatus.OK, content)

    def log_message(self, format: str, *args: Any) -> None:
        print(format % args, flush=True)

    def _respond(self, status: HTTPStatus, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    Handler.model = Model(Path(os.environ["MODEL"]))
    port = int(os.environ["PORT"])
    print(f"model loaded (held-out accuracy {Handler.model.accuracy:.4f}), listening on {port}", flush=True)
    HTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main()
