"""The admin views. Columns are listed explicitly, so that a new secret column is never shown by default."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, select
from starlette.requests import Request
from starlette_admin.contrib.sqla import ModelView
from starlette_admin.exceptions import FormValidationError
from structlog import get_logger

from hypervisor.api.schema import MAX_BIG_ID
from hypervisor.store.tables import Cluster, ClusterShare, Deployment, Event, Organization, User

HISTORY_ROWS = 10_000

log = get_logger(__name__)


class ReadOnlyView(ModelView):
    """A list, and a page per row. Nothing can be created, changed, deleted or imported."""

    page_size = 50
    page_size_options: Sequence[int] = (25, 50, 100)
    column_visibility = True
    fields_default_sort = (("id", True),)

    def can_create(self, request: Request) -> bool:
        return False

    def can_edit(self, request: Request) -> bool:
        return False

    def can_delete(self, request: Request) -> bool:
        return False

    def can_import(self, request: Request) -> bool:
        return False

    async def find_by_pk(self, request: Request, pk: Any) -> Any:
        """The row, or None if `pk` is not a valid id or does not exist."""
        return await super().find_by_pk(request, int(pk)) if _is_id(str(pk)) else None


class HistoryView(ReadOnlyView):
    """The newest rows of a table that only grows, because count, sort and search scan all listed rows.

    Older rows are available by id, or through the API.
    """

    def get_list_query(self, request: Request) -> Select[Any]:
        return select(self.model).where(self._is_new())

    def get_count_query(self, request: Request) -> Select[Any]:
        return select(func.count()).select_from(self.model).where(self._is_new())

    def get_detail_query(self, request: Request) -> Select[Any]:
        return select(self.model)

    def _is_new(self) -> ColumnElement[bool]:
        newest = select(func.max(self.model.id)).scalar_subquery()
        # With both bounds the planner estimates a small range, and does not scan the whole table.
        return and_(self.model.id > newest - HISTORY_ROWS, self.model.id <= newest)


class UserView(ReadOnlyView):
    fields: Any = (
        "id",
        "username",
        "email",
        "is_active",
        "is_superuser",
        "requested_role",
        "created_at",
    )
    exclude_fields_from_edit = (
        "id",
        "username",
        "email",
        "requested_role",
        "created_at",
    )
    searchable_fields = (
        "username",
        "email",
    )

    def can_edit(self, request: Request) -> bool:
        return True

    async def before_edit(self, request: Request, data: dict[str, Any], obj: Any) -> None:
        """Superusers cannot remove their own rights, so that there is always one superuser."""
        principal = request.state.principal
        if obj.id == principal.user_id and not (obj.is_active and obj.is_superuser):
            raise FormValidationError({"is_superuser": "You cannot remove your own rights."})
        log.info(
            "admin.user_changed",
            by=principal.user_id,
            user=obj.id,
            is_active=obj.is_active,
            is_superuser=obj.is_superuser,
        )


class OrganizationView(ReadOnlyView):
    fields: Any = (
        "id",
        "name",
        "created_by",
        "created_at",
        "deleting_at",
    )
    searchable_fields = ("name",)


class ClusterView(ReadOnlyView):
    fields: Any = (
        "id",
        "organization_id",
        "name",
        "runtime",
        "resolved_runtime",
        "placement_policy",
        "preemption",
        "min_runtime_seconds",
        "created_at",
        "deleting_at",
    )
    searchable_fields = ("name",)


class ShareView(ReadOnlyView):
    """Shares of clusters with other organizations. The key of a row is cluster id and organization id."""

    fields: Any = (
        "cluster_id",
        "organization_id",
        "state",
        "guaranteed_cpu_milli",
        "guaranteed_ram_mib",
        "guaranteed_gpu_milli",
        "limit_cpu_milli",
        "limit_ram_mib",
        "limit_gpu_milli",
        "weight_milli",
        "offered_by",
        "offered_at",
        "answered_by",
        "answered_at",
    )
    searchable_fields = ("state",)
    fields_default_sort = (("offered_at", True),)

    async def find_by_pk(self, request: Request, pk: Any) -> Any:
        """The row, or None if `pk` is not two valid ids or does not exist."""
        parts = str(pk).split(",")
        if len(parts) != 2 or not all(map(_is_id, parts)):
            return None
        return await ModelView.find_by_pk(self, request, pk)


class DeploymentView(HistoryView):
    fields: Any = (
        "id",
        "organization_id",
        "cluster_id",
        "created_by",
        "name",
        "kind",
        "state",
        "reason",
        "priority",
        "docker_image",
        "cpu_milli",
        "ram_mib",
        "gpu_milli",
        "replicas",
        "preemptions",
        "created_at",
        "queued_at",
        "started_at",
        "finished_at",
        "exit_code",
    )
    searchable_fields = (
        "name",
        "state",
        "docker_image",
    )


class EventView(HistoryView):
    fields: Any = (
        "id",
        "at",
        "organization_id",
        "cluster_id",
        "deployment_id",
        "actor",
        "type",
        "from_state",
        "to_state",
        "code",
        "message",
    )
    searchable_fields = (
        "type",
        "message",
        "code",
    )


def _is_id(text: str) -> bool:
    return text.isdecimal() and text.isascii() and len(text) <= 19 and int(text) <= MAX_BIG_ID


def all_views() -> list[ModelView]:
    """All views, in the order of the menu."""
    return [
        UserView(User, icon="fa fa-user"),
        OrganizationView(Organization, icon="fa fa-users"),
        ClusterView(Cluster, icon="fa fa-server"),
        ShareView(ClusterShare, icon="fa fa-handshake"),
        DeploymentView(Deployment, icon="fa fa-cubes"),
        EventView(Event, icon="fa fa-clock-rotate-left"),
    ]
