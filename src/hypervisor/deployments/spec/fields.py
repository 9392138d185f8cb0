"""How the fields of a request become columns of a deployment.

Most are stored under their own name. The others are in `CONVERTED`, and `submit` and `update` write them. A
field that is neither stops the server at startup. See docs/add-a-field.md.
"""

from __future__ import annotations

from operator import itemgetter

from hypervisor.deployments.schemas.requests import DeploymentCreate, DeploymentUpdate
from hypervisor.store.columns import collections, nullable, stored_fields
from hypervisor.store.tables import Deployment

CONVERTED = {
    "env": "env, with secret values encrypted",
    "required_cpu_cores": "cpu_milli",
    "required_ram_gb": "ram_mib",
    "required_gpu_count": "gpu_milli",
    "gpu_models": "placement_limits",
    "gpu_model": "placement_limits",
    "node_selector": "placement_limits",
    "depends_on": "rows of `dependencies`",
}
"""Fields that are converted before they are stored, each with its stored form."""

WHILE_LIVE = frozenset({"priority", "labels", "name", "max_retries"})
"""Fields that an update may change while the deployment is live."""

RESIZING = frozenset(
    {
        "required_cpu_cores",
        "required_ram_gb",
        "required_gpu_count",
        "node_selector",
        "gpu_models",
        "gpu_model",
        "replicas",
        "replica_placement",
    }
)
"""Fields that decide where a deployment fits. A change deletes the nominations of the deployment."""

_CREATED = stored_fields(Deployment, DeploymentCreate.model_fields, CONVERTED)
_UPDATED = stored_fields(Deployment, DeploymentUpdate.model_fields, CONVERTED)
_COLLECTIONS = collections(Deployment, _CREATED)
_NULLABLE = nullable(Deployment, _UPDATED)
_PLAIN = tuple(name for name in _CREATED if name not in _COLLECTIONS)
_plain_values = itemgetter(*_PLAIN)


def stored_values(request: DeploymentCreate) -> dict[str, object]:
    """The columns of a new deployment whose values are those of the request."""
    # `vars` because reading each attribute takes three times as long in a large batch.
    values = vars(request)
    row = dict(zip(_PLAIN, _plain_values(values), strict=True))
    for name in _COLLECTIONS:
        row[name] = values[name] or None
    return row


def changed_values(request: DeploymentUpdate) -> dict[str, object]:
    """The columns that an update sets. Null clears a nullable column and leaves any other unchanged."""
    changed = {name: getattr(request, name) for name in _UPDATED if name in request.model_fields_set}
    values = {name: value or None if name in _COLLECTIONS else value for name, value in changed.items()}
    return {name: value for name, value in values.items() if value is not None or name in _NULLABLE}
