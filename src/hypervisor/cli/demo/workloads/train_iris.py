"""A high-priority job: train a small neural network on iris with NumPy and save it.

One hidden layer, softmax, cross-entropy with weight decay, full-batch Adam. A third of the flowers,
stratified by species, is held out. The accuracy is measured on the held-out flowers. IRIS_CSV is the data,
MODEL the file to write (.npz), EPOCHS the number of epochs.
"""

from __future__ import annotations

import csv
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Parameters = dict[str, Array]

SEED = 7
HIDDEN = 16
HELD_OUT = 1 / 3
LEARNING_RATE = 0.01
DECAY = 0.01


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    features, labels, species = load(Path(os.environ["IRIS_CSV"]))
    random = np.random.default_rng(SEED)
    train, test = split(labels, random)
    mean, scale = features[train].mean(axis=0), features[train].std(axis=0)
    scaled = (features - mean) / scale
    parameters = initialise(random, len(species))
    fit(parameters, scaled[train], labels[train], int(os.environ.get("EPOCHS", "3000")))
    accuracy = float((predict(parameters, scaled[test]).argmax(axis=1) == labels[test]).mean())
    save(Path(os.environ["MODEL"]), parameters, mean=mean, scale=scale, species=species, accuracy=accuracy)
    log(f"held-out accuracy {accuracy:.4f} on {len(test)} flowers; the model is saved")


def load(path: Path) -> tuple[Array, NDArray[np.int64], list[str]]:
    with path.open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    species = sorted({row[4] for row in rows})
    features = np.array([[float(value) for value in row[:4]] for row in rows])
    return features, np.array([species.index(row[4]) for row in rows]), species


def split(
    labels: NDArray[np.int64], random: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row numbers for training and for the test, with equal shares of every species."""
    train: list[int] = []
    test: list[int] = []
    for label in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == label))
        cut = round(len(rows) * HELD_OUT)
        test.extend(rows[:cut])
        train.extend(rows[cut:])
    return np.array(train), np.array(test)


def initialise(random: np.random.Generator, classes: int) -> Parameters:
    return {
        "w1": random.normal(0, np.sqrt(2 / 4), (4, HIDDEN)),
        "b1": np.zeros(HIDDEN),
        "w2": random.normal(0, np.sqrt(2 / HIDDEN), (HIDDEN, classes)),
        "b2": np.zeros(classes),
    }


def predict(parameters: Parameters, scaled: Array) -> Array:
    """The probability of each species for each row."""
    hidden = np.maximum(0, scaled @ parameters["w1"] + parameters["b1"])
    scores = hidden @ parameters["w2"] + parameters["b2"]
    exponents = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True))


def fit(parameters: Parameters, inputs: Array, labels: NDArray[np.int64], epochs: int) -> None:
    """Full-batch Adam (Kingma & Ba, 2015), in place."""
    targets = np.eye(parameters["b2"].size)[labels]
    first = {name: np.zeros_like(value) for name, value in parameters.items()}
    second = {name: np.zeros_like(value) for name, value in parameters.items()}
    for epoch in range(1, epochs + 1):
        loss, gradients = backward(parameters, inputs, targets)
        for name, gradient in gradients.items():
            first[name] = 0.9 * first[name] + 0.1 * gradient
            second[name] = 0.999 * second[name] + 0.001 * gradient**2
            step = (first[name] / (1 - 0.9**epoch)) / (np.sqrt(second[name] / (1 - 0.999**epoch)) + 1e-8)
            parameters[name] -= LEARNING_RATE * step
        if epoch % max(1, epochs // 10) == 0:
            log(f"epoch {epoch:>6}  loss {loss:.4f}")


def backward(parameters: Parameters, inputs: Array, targets: Array) -> tuple[float, Parameters]:
    """The loss and its gradients."""
    hidden = np.maximum(0, inputs @ parameters["w1"] + parameters["b1"])
    probabilities = predict(parameters, inputs)
    weights = float((parameters["w1"] ** 2).sum() + (parameters["w2"] ** 2).sum())
    loss = float(-(targets * np.log(probabilities + 1e-12)).sum(axis=1).mean()) + DECAY / 2 * weights
    error = (probabilities - targets) / len(inputs)
    back = (error @ parameters["w2"].T) * (hidden > 0)
    return loss, {
        "w1": inputs.T @ back + DECAY * parameters["w1"],
        "b1": back.sum(axis=0),
        "w2": hidden.T @ error + DECAY * parameters["w2"],
        "b2": error.sum(axis=0),
    }


def save(path: Path, parameters: Parameters, **more: object) -> None:
    """Write a draft and rename it, so that readers see the whole file or none."""
    draft = path.with_suffix(".new.npz")
    arrays: dict[str, Any] = {**parameters, **{name: np.asarray(value) for name, value in more.items()}}
    np.savez(draft, **arrays)
    draft.replace(path)


def log(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
