"""Requests and responses of accounts and logins."""

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
        raise ValueError("must have 2 to 64 letters, digits and . _ - only, and start with a letter or digit")
    return text


def _check_email(text: str) -> str:
    try:
        # Internal domains are fine: the server never sends mail.
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
        description="2 to 64 letters, digits, dots, underscores and hyphens. Case does not matter.",
        examples=["ada"],
    ),
]
Email = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=MAX_EMAIL),
    AfterValidator(_check_email),
    Field(examples=["ada@example.com"]),
]
Password = Annotated[SafeStr, Field(max_length=1024, examples=["a long sentence is a good password"])]


class RegisterRequest(RequestModel):
    """A new account."""

    username: Username
    email: Email
    password: Password
    role: Annotated[str, Field(max_length=16)] | None = Field(
        default=None,
        description="The requested role. It grants nothing: roles come from invite codes.",
        examples=["developer"],
    )

    @field_validator("password")
    @classmethod
    def _strong_enough(cls, value: str, info: ValidationInfo) -> str:
        names = [str(info.data[field]) for field in ("username", "email") if field in info.data]
        return _strong(value, *names)


class ChangePasswordRequest(RequestModel):
    """The current and the new password."""

    current_password: Password
    new_password: Password

    @field_validator("new_password")
    @classmethod
    def _strong_enough(cls, value: str) -> str:
        return _strong(value)


class LoginForm(BaseModel):
    """The OAuth2 password form (RFC 6749, section 4.3.2). Only username and password are used."""

    username: Annotated[SafeStr, Field(max_length=MAX_EMAIL, description="Username or e-mail address.")]
    password: Annotated[SafeStr, Field(max_length=1024, json_schema_extra={"format": "password"})]
    grant_type: Literal["password"] | None = None
    scope: str = ""
    client_id: str | None = None
    client_secret: str | None = None


class RefreshRequest(RequestModel):
    """The refresh token to exchange."""

    refresh_token: Annotated[str, Field(min_length=1, max_length=256)]


class LogoutRequest(RequestModel):
    """Optional body of a logout."""

    refresh_token: Annotated[str, Field(max_length=256)] | None = Field(
        default=None, description="Not needed: the refresh token ends with its login."
    )


class TokenResponse(BaseModel):
    """A pair of tokens. Send the access token as `Authorization: Bearer <token>`."""

    access_token: str
    refresh_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105
    expires_in: int = Field(description="Seconds until the access token expires.")


class UserResponse(ResponseModel):
    """An account."""

    id: int
    username: str
    email: str
    requested_role: str | None = Field(description="The `role` of the registration. It grants nothing.")
    is_superuser: bool
    is_active: bool
    created_at: datetime


class OrganizationRoleResponse(ResponseModel):
    """The role of the user in one organization."""

    organization_id: int
    name: str
    role: Role


class MeResponse(UserResponse):
    """The logged-in user."""

    organizations: list[OrganizationRoleResponse]


def _strong(password: str, *names: str) -> str:
    weak = weakness(password, names=names)
    if weak is not None:
        raise ValueError(weak)
    return password
