"""Accounts: registration, login, logout, the current user."""

from __future__ import annotations

from http import HTTPStatus

from hypervisor.client.errors import ApiError
from hypervisor.client.models import User
from hypervisor.client.transport import Transport, read_tokens


class Accounts:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def register(self, username: str, email: str, password: str) -> User:
        """Create an account. This does not log in."""
        body = {"username": username, "email": email, "password": password}
        user: User = self._transport.send("POST", "/auth/register", body=body, authorise=False)
        return user

    def login(self, username: str, password: str) -> None:
        """Open a session and store its tokens in the client's token store."""
        form = {"username": username, "password": password}
        response = self._transport.send("POST", "/auth/login", form=form, authorise=False)
        self._transport.tokens.save(read_tokens(self._transport.url, response))

    def logout(self) -> None:
        """End the session on the server and drop its tokens, also when the session has already ended."""
        try:
            self._transport.post("/auth/logout")
        except ApiError as error:
            if error.status != HTTPStatus.UNAUTHORIZED:
                raise
        self._transport.tokens.save(None)

    def me(self) -> User:
        """The logged-in user, with organizations."""
        user: User = self._transport.get("/auth/me")
        return user

    def change_password(self, current: str, new: str) -> None:
        """Replace the password of the logged-in user."""
        self._transport.post("/auth/change-password", {"current_password": current, "new_password": new})
