"""The checker of Prometheus expressions finds unknown metrics, labels and values."""

from __future__ import annotations

import pytest

from tests.support.promql import Exposed, complaints, parse

EXPOSED = Exposed.parse(
    """
# TYPE waits histogram
waits_bucket{cluster="1",le="1.0"} 1
waits_bucket{cluster="1",le="+Inf"} 1
waits_count{cluster="1"} 1
waits_sum{cluster="1"} 1
# TYPE errors_total counter
errors_total{kind="odd"} 1
# TYPE depth gauge
depth 3
"""
)


@pytest.mark.parametrize(
    "expression",
    [
        "depth",
        "max(depth) < 1 or time() - depth > 600",
        "histogram_quantile(0.95, sum by (cluster, le) (rate(waits_bucket[5m])))",
        'sum by (kind) (rate(errors_total{kind="odd", instance="a"}[5m])) / on (kind) errors_total',
        'waits_count{cluster=~"$cluster"} * 60 and up{job="x"} == 0',
        "topk(8, sum(errors_total) by (kind, instance)) or vector(0)",
    ],
)
def test_an_expression_over_exposed_metrics_is_accepted(expression: str) -> None:
    assert list(complaints(expression, EXPOSED)) == []


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("depths", "depths is not exposed"),
        ("waits", "waits is not exposed"),
        ('depth{cluster="1"}', "depth has no label cluster"),
        ('errors_total{kind="even"}', "errors_total has no kind='even' but ['odd']"),
        (
            "sum by (flavour) (rate(errors_total[5m]))",
            "no metric of the expression has the grouping label flavour",
        ),
    ],
)
def test_an_unknown_metric_label_or_value_is_reported(expression: str, complaint: str) -> None:
    assert list(complaints(expression, EXPOSED)) == [complaint]


@pytest.mark.parametrize("expression", ["sum(depth", "depth)", "depth & 1", '{kind="odd"'])
def test_broken_expressions_are_refused(expression: str) -> None:
    with pytest.raises(ValueError, match="in "):
        parse(expression)
