"""Requests and answers about organizations, their members and invite codes."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from hypervisor.api.schema import Name, RequestModel, ResponseModel, SafeStr
from hypervisor.kernel.roles import Role
from hypervisor.kernel.text import fold

MAX_NAME_KEY = 100
MAX_INVITE_HOURS = 24 * 365
MAX_INVITE_USES = 1_000_000


def _check_folded_length(name: str) -> str:
    if len(fold(name)) > MAX_NAME_KEY:
        raise ValueError(f"must have at most {MAX_NAME_KEY} characters when written out")
    return name


OrganizationName = Annotated[Name, AfterValidator(_check_folded_length), Field(examples=["Vision team"])]
GivenRole = Annotated[Role, BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value)]
InviteCode = Annotated[SafeStr, Field(min_length=1, max_length=128, examples=["q7m2k4w9s3x5z8v6t2r4p7n9hd"])]


class OrganizationCreate(RequestModel):
    name: OrganizationName


class OrganizationUpdate(RequestModel):
    name: OrganizationName | None = None


class OrganizationResponse(ResponseModel):
    id: int
    name: str
    role: Role = Field(description="The caller's own role; `admin` for superusers.")
    created_at: datetime
    deleting_at: datetime | None = Field(description="Set while a forced deletion stops what still runs.")


class InviteOptions(RequestModel):
    expires_in_hours: float | None = Field(
        default=None,
        gt=0,
        le=MAX_INVITE_HOURS,
        allow_inf_nan=False,
        description="Left out: it does not expire.",
    )
    max_uses: int | None = Field(
        default=None, ge=1, le=MAX_INVITE_USES, description="Left out: any number of people may use it."
    )
    role: GivenRole = Field(
        default=Role.DEVELOPER, description="What who joins becomes; at most the inviter's own role."
    )


class InviteResponse(BaseModel):
    invite_code: str
    role: Role
    created_at: datetime
    expires_at: datetime | None
    max_uses: int | None
    uses: int


class JoinRequest(RequestModel):
    invite_code: InviteCode


class MemberUpdate(RequestModel):
    role: GivenRole


class MemberResponse(ResponseModel):
    user_id: int
    username: str
    email: str
    role: Role
    joined_at: datetime
