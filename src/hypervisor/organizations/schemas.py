"""Requests and responses of organizations, members and invite codes."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from hypervisor.api.schema import Name, RequestModel, ResponseModel, SafeStr
from hypervisor.kernel.roles import Role
from hypervisor.kernel.text import fold

MAX_NORMALIZED_NAME = 100
MAX_INVITE_HOURS = 24 * 365
MAX_INVITE_USES = 1_000_000


def _check_folded_length(name: str) -> str:
    if len(fold(name)) > MAX_NORMALIZED_NAME:
        raise ValueError(f"must have at most {MAX_NORMALIZED_NAME} characters after Unicode normalization")
    return name


OrganizationName = Annotated[Name, AfterValidator(_check_folded_length), Field(examples=["Vision team"])]
RoleField = Annotated[Role, BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value)]
InviteCode = Annotated[SafeStr, Field(min_length=1, max_length=128, examples=["q7m2k4w9s3x5z8v6t2r4p7n9hd"])]


class OrganizationCreate(RequestModel):
    """A new organization."""

    name: OrganizationName


class OrganizationUpdate(RequestModel):
    """Changes of an organization."""

    name: OrganizationName | None = None


class OrganizationResponse(ResponseModel):
    """An organization."""

    id: int
    name: str
    role: Role = Field(description="The caller's role; `admin` for a superuser.")
    created_at: datetime
    deleting_at: datetime | None = Field(description="Set while a forced deletion stops running deployments.")


class InviteOptions(RequestModel):
    """Options of a new invite code."""

    expires_in_hours: float | None = Field(
        default=None,
        gt=0,
        le=MAX_INVITE_HOURS,
        allow_inf_nan=False,
        description="Hours until the code expires. Omitted: it never expires.",
    )
    max_uses: int | None = Field(
        default=None,
        ge=1,
        le=MAX_INVITE_USES,
        description="How often the code can be used. Omitted: no limit.",
    )
    role: RoleField = Field(
        default=Role.DEVELOPER,
        description="The role of new members. At most the inviter's own role.",
    )


class InviteResponse(BaseModel):
    """The current invite code of an organization."""

    invite_code: str
    role: Role
    created_at: datetime
    expires_at: datetime | None
    max_uses: int | None
    uses: int


class JoinRequest(RequestModel):
    """The invite code of the organization to join."""

    invite_code: InviteCode


class MemberUpdate(RequestModel):
    """The new role of a member."""

    role: RoleField


class MemberResponse(ResponseModel):
    """A member of an organization."""

    user_id: int
    username: str
    email: str
    role: Role
    joined_at: datetime
