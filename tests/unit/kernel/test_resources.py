"""Resource amounts: conversion between API units and integers, and refusal of invalid values."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypervisor.kernel.resources import MAX_EDGE_VALUE, InvalidAmount, Resources, check_gpu_request

AMOUNTS = st.integers(0, 10**12)
RESOURCES = st.builds(Resources, cpu_milli=AMOUNTS, ram_mib=AMOUNTS, gpu_milli=AMOUNTS)
FIELDS = ("cpu_cores", "ram_gb", "gpu_count")


def from_edge(**values: float) -> Resources:
    return Resources.from_edge(**{"cpu_cores": 0, "ram_gb": 0, "gpu_count": 0, **values})


@given(RESOURCES)
def test_an_amount_of_a_response_is_a_valid_request(amount: Resources) -> None:
    parsed = Resources.from_edge(cpu_cores=amount.cpu_cores, ram_gb=amount.ram_gb, gpu_count=amount.gpu_count)

    assert parsed == amount


@given(st.decimals(0, 10**6, places=3))
def test_three_decimals_of_a_core_are_kept_exactly(cores: object) -> None:
    assert from_edge(cpu_cores=float(str(cores))).cpu_milli == int(str(cores).replace(".", ""))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"cpu_cores": 0.1}, Resources(cpu_milli=100)),
        ({"cpu_cores": 0.1 + 0.2}, Resources(cpu_milli=300)),
        ({"cpu_cores": 2}, Resources(cpu_milli=2000)),
        ({"cpu_cores": 0.0001}, Resources(cpu_milli=1)),
        ({"cpu_cores": 1.0005}, Resources(cpu_milli=1001)),
        ({"ram_gb": 0.5}, Resources(ram_mib=512)),
        ({"ram_gb": 0.3}, Resources(ram_mib=308)),
        ({"gpu_count": 0.7}, Resources(gpu_milli=700)),
        ({"gpu_count": -0.0}, Resources()),
    ],
)
def test_requests_are_rounded_up_to_the_next_unit(values: dict[str, float], expected: Resources) -> None:
    assert from_edge(**values) == expected


@given(st.sampled_from(FIELDS), st.floats(min_value=5e-324, max_value=1e9))
def test_a_request_is_never_rounded_down(field: str, value: float) -> None:
    amount = from_edge(**{field: value})

    assert not amount.is_zero
    assert getattr(amount, field) >= value or math.isclose(getattr(amount, field), value, rel_tol=1e-9)


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize(
    "value",
    [-1, -0.001, -5e-324, math.nan, math.inf, -math.inf, MAX_EDGE_VALUE + 2, 1e300, 10**400],
    ids=lambda value: str(value)[:12],
)
def test_invalid_numbers_are_refused(field: str, value: float) -> None:
    with pytest.raises(InvalidAmount):
        from_edge(**{field: value})


@given(st.sampled_from(FIELDS), st.floats(min_value=float(MAX_EDGE_VALUE), exclude_min=True))
def test_more_than_the_largest_exact_integer_is_refused(field: str, value: float) -> None:
    with pytest.raises(InvalidAmount, match=r"too large|finite"):
        from_edge(**{field: value})


@given(st.sampled_from(FIELDS), st.floats(max_value=0, exclude_max=True))
def test_every_negative_number_is_refused(field: str, value: float) -> None:
    with pytest.raises(InvalidAmount):
        from_edge(**{field: value})


def test_the_refusal_names_the_field() -> None:
    with pytest.raises(InvalidAmount, match="RAM in GB must not be negative"):
        from_edge(ram_gb=-1)


@given(RESOURCES, RESOURCES)
def test_addition_and_subtraction_are_inverse(one: Resources, other: Resources) -> None:
    assert one + other - other == one


@given(RESOURCES, RESOURCES)
def test_the_shortfall_is_exactly_the_missing_amount(needed: Resources, capacity: Resources) -> None:
    missing = needed.shortfall(capacity)

    assert needed.fits_in(capacity + missing)
    assert missing.is_zero == needed.fits_in(capacity)
    for field in ("cpu_milli", "ram_mib", "gpu_milli"):
        if getattr(missing, field):
            assert getattr(capacity, field) + getattr(missing, field) == getattr(needed, field)


@pytest.mark.parametrize("gpu_milli", [0, 100, 101, 999, 1000, 2000, 8000])
def test_fractions_of_one_gpu_and_whole_gpus_are_requests(gpu_milli: int) -> None:
    check_gpu_request(gpu_milli)


@pytest.mark.parametrize("gpu_milli", [1, 50, 99])
def test_a_fraction_below_the_least_is_refused_with_the_least(gpu_milli: int) -> None:
    with pytest.raises(InvalidAmount, match=r"smallest fraction of a GPU is 0\.1"):
        check_gpu_request(gpu_milli)


@pytest.mark.parametrize("gpu_milli", [1001, 1500, 2500])
def test_a_mix_of_whole_and_fraction_is_refused(gpu_milli: int) -> None:
    with pytest.raises(InvalidAmount, match="whole number of devices"):
        check_gpu_request(gpu_milli)
