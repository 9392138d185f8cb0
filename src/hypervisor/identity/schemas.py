"""Requests and answers about people and their logins."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from email_validator import EmailNotValidError, validate_email
from pydantic import AfterValidator, BaseModel, Field, StringConstraints, ValidationInfo, field_validator

from hypervisor.api.schema import RequestModel, ResponseModel, SafeStr
from hypervisor.identity.policy import USERNAME
from hypervisor.infra.security.passwords import weakness
from hypervisor.kernel.roles import Role
from hypervisor.kernel.text import fold

MAX_EMAIL = 254


def _check_username(text: str) -> str:
    if not USERNAME.fullmatch(text):
        raise ValueError("must be 2 to 64 letters, digits and . _ - only, and begin with a letter or digit")
    return text


def _check_email(text: str) -> str:
    try:
        # Internal domains are fine here: nothing is ever sent to the open internet.
        checked = validate_email(text, check_deliverability=False, globally_deliverable=False)
    except EmailNotValidError as error:
        raise ValueError(f"is not an e-mail address: {error}") from None
    if len(fold(checked.normalized)) > MAX_EMAIL:
        raise ValueError(f"must have at most {MAX_EMAIL} characters")
    return checked.normalized


Username = Annotated[
    str,
    StringConstraints(strip_whitespace=True),
    AfterValidator(_check_username),
    Field(
        description="2 to 64 letters, digits, dots, hyphens and underscores; case does not matter.",
        examples=["ada"],
    ),
]
Email = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=MAX_EMAIL),
    AfterValidator(_check_email),
    Field(examples=["ada@example.com"]),
]
GivenPassword = Annotated[SafeStr, Field(max_length=1024, examples=["a long sentence is a good password"])]


class RegisterRequest(RequestModel):
    username: Username
    email: Email
    password: GivenPassword
    role: Annotated[str, Field(max_length=16)] | None = Field(
        default=None,
        description="A wish for people to see; it grants nothing. Roles come with invites.",
        examples=["developer"],
    )

    @field_validator("password")
    @classmethod
    def _strong_enough(cls, value: str, info: ValidationInfo) -> str:
        names = [str(info.data[field]) for field in ("username", "email") if field in info.data]
        return _strong(value, *names)


class ChangePasswordRequest(RequestModel):
    current_password: GivenPassword
    new_password: GivenPassword

    @field_validator("new_password")
    @classmethod
    def _strong_enough(cls, value: str) -> str:
        return _strong(value)


class LoginForm(BaseModel):
    """The OAuth2 password form (RFC 6749, 4.3.2); what a client sends beyond name and password is ignored."""

    username: Annotated[SafeStr, Field(max_length=MAX_EMAIL, description="Username or e-mail address.")]
    password: Annotated[SafeStr, Field(max_length=1024, json_schema_extra={"format": "password"})]
    grant_type: Literal["password"] | None = None
    scope: str = ""
    client_id: str | None = None
    client_secret: str | None = None


class RefreshRequest(RequestModel):
    refresh_token: Annotated[str, Field(min_length=1, max_length=256)]


class LogoutRequest(RequestModel):
    refresh_token: Annotated[str, Field(max_length=256)] | None = Field(
        default=None, description="May be sent along; it ends with its login in any case."
    )


class TokenResponse(BaseModel):
    access_token: str
    refresh_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105
    expires_in: int = Field(description="Seconds until the access token is over.")


class UserResponse(ResponseModel):
    id: int
    username: str
    email: str
    requested_role: str | None = Field(description="What was wished for at registration; grants nothing.")
    is_superuser: bool
    is_active: bool
    created_at: datetime


class OrganizationRoleResponse(ResponseModel):
    organization_id: int
    name: str
    role: Role


class MeResponse(UserResponse):
    organizations: list[OrganizationRoleResponse]


def _strong(password: str, *names: str) -> str:
    weak = weakness(password, names=names)
    if weak is not None:
        raise ValueError(weak)
    return password
