"""The tables of the expected fill agree with simulated random streams of requests."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.scheduling.plan import plan
from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.scoring.expected_fill_tables import (
    COLUMNS,
    HORIZON,
    ROWS,
    SCALE,
    STRIDE,
    expected_fill_tables,
    weighted,
)
from hypervisor.scheduling.snapshots.builder import SnapshotBuilder
from hypervisor.scheduling.snapshots.snapshot import Shape

CPU, RAM, WIDTH = 64_000, 262_144, 4
ASKED = (
    (4000, 8192, 300, 20_000),
    (8000, 16_384, 500, 15_536),
    (6000, 65_536, 1000, 25_000),
    (16_000, 16_384, 2000, 5_000),
)
STREAMS = 3000


def mean_of(fill: Callable[[random.Random], float]) -> float:
    rng = random.Random(3)
    return sum(fill(rng) for _ in range(STREAMS)) / STREAMS


def drawn(rng: random.Random) -> int:
    return rng.choices([gpu for _, _, gpu, _ in ASKED], [weight for *_, weight in ASKED])[0]


@pytest.mark.parametrize("free", [250, 420, 700, 950])
def test_a_partly_used_device_is_filled_as_by_random_requests(free: int) -> None:
    def fill(rng: random.Random) -> float:
        left = free
        for _ in range(HORIZON):
            gpu = drawn(rng)
            left -= gpu if gpu <= left else 0
        return free - left

    expected = expected_fill_tables(ASKED, CPU, RAM, WIDTH).device[free] / SCALE
    assert mean_of(fill) == pytest.approx(expected, abs=8)


def test_free_devices_are_filled_as_by_random_requests() -> None:
    """A fraction opens a new device, which only fractions fill up afterwards."""

    def fill(rng: random.Random) -> float:
        devices, filled = 1, 0
        for _ in range(HORIZON):
            gpu = drawn(rng)
            if -(-gpu // WHOLE_GPU) <= devices:
                devices -= -(-gpu // WHOLE_GPU)
                filled += gpu
                if gpu < WHOLE_GPU:
                    filled += tables.device[WHOLE_GPU - gpu] / SCALE
        return filled

    tables = expected_fill_tables(ASKED, CPU, RAM, WIDTH)
    assert mean_of(fill) == pytest.approx(tables.full[1] / SCALE, abs=8)


@pytest.mark.parametrize(("row", "column"), [(32, 256), (64, 256), (128, 128), (20, 64), (128, 256)])
def test_the_cpu_surface_is_the_fill_by_random_requests(row: int, column: int) -> None:
    def fill(rng: random.Random) -> float:
        cpu, gpu, filled = CPU * row // ROWS, WIDTH * WHOLE_GPU * column // COLUMNS, 0
        while fitting := [item for item in ASKED if item[0] <= cpu and item[2] <= gpu]:
            taken = rng.choices(fitting, [weight for *_, weight in fitting])[0]
            cpu, gpu, filled = cpu - taken[0], gpu - taken[2], filled + taken[2]
        return filled

    surface = expected_fill_tables(ASKED, CPU, RAM, WIDTH).cpu
    assert mean_of(fill) == pytest.approx(surface[row * STRIDE + column] / SCALE, rel=0.03, abs=20)


def test_coarse_weights_absorb_small_changes_of_the_workload() -> None:
    shapes = [Shape(1000 * number, 1024, 500) for number in range(1, 5)]
    before = list(zip(shapes, (0.4, 0.3, 0.2, 0.1), strict=True))
    after = list(zip(reversed(shapes), (0.101, 0.2, 0.3, 0.399), strict=True))
    assert weighted(before) == weighted(after)
    assert weighted([*before, (Shape(1000, 1024), 5.0)]) == weighted(before)


def snapshot_of(*free: tuple[int, int, tuple[int, ...]], shape: Shape, models: str = "") -> SnapshotBuilder:
    """Nodes with this free CPU, RAM and milli-GPU per device; the rest is allocated."""
    builder = SnapshotBuilder(0.0)
    for node, (cpu, ram, gpus) in enumerate(free, start=1):
        model = models[node - 1] if models else None
        builder.add_node(node, cpu_milli=CPU, ram_mib=RAM, gpu_count=len(gpus), gpu_model=model)
        builder.add_allocation(
            100 * node, deployment_id=100 * node, node_id=node, cpu_milli=CPU - cpu, ram_mib=RAM - ram
        )
        for index, left in enumerate(gpus):
            if left < WHOLE_GPU:
                builder.add_allocation(
                    100 * node + 1 + index,
                    deployment_id=100 * node + 1 + index,
                    node_id=node,
                    cpu_milli=0,
                    ram_mib=0,
                    gpu_indices=(index,),
                    gpu_each=WHOLE_GPU - left,
                )
    return builder.add_pending(1000, shape)


def chosen(builder: SnapshotBuilder, *typical: Shape) -> tuple[int, tuple[int, ...]]:
    policy = Policy(placement="fill", target_workload=[(shape, 1.0) for shape in typical])
    (placement,) = plan(builder.build(), policy).placements
    return placement.node_id, placement.gpu_indices


def test_a_remainder_that_typical_requests_fill_exactly_is_left() -> None:
    """300 on 700 free leaves 400, which no request needs; on 1000 free it leaves 700, which others need."""
    small, large = Shape(1000, 1024, 300), Shape(1000, 1024, 700)
    builder = snapshot_of((CPU, RAM, (700, WHOLE_GPU)), shape=small)
    assert chosen(builder, large) == (1, (1,))


@pytest.mark.parametrize("scarce", ["cpu", "ram"])
def test_gpus_that_lack_cpu_or_ram_for_others_are_taken_first(scarce: str) -> None:
    """On the first node a second typical request would lack the CPU or RAM anyway."""
    typical = Shape(16_000, 65_536, 1000)
    poor = (20_000, RAM) if scarce == "cpu" else (CPU, 70_000)
    builder = snapshot_of((CPU, RAM, (1000, 1000)), (*poor, (1000, 1000)), shape=Shape(1000, 1024, 1000))
    assert chosen(builder, typical)[0] == 2


def test_nodes_whose_model_fewer_requests_need_are_taken_first() -> None:
    request = Shape(1000, 1024, 1000, gpu_models=("A",))
    anywhere = Shape(1000, 1024, 1000)
    free = (CPU, RAM, (1000, 1000))
    assert chosen(snapshot_of(free, free, shape=anywhere, models="AB"), request)[0] == 2
    assert chosen(snapshot_of(free, free, shape=anywhere, models="BA"), request)[0] == 1


def test_with_many_kinds_of_nodes_only_fitting_nodes_are_chosen() -> None:
    models = "ABCDEFGHIJKL"
    typical = [Shape(1000, 1024, 1000, gpu_models=(model,)) for model in models]
    free = (CPU, RAM, (1000, 1000))
    builder = snapshot_of(*[free] * len(models), shape=typical[-1], models=models)
    assert chosen(builder, *typical)[0] == len(models)
