"""Running the ASGI app: a socket of our own, a banner when it answers, one line when it cannot start."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn
from rich.console import Console
from uvicorn.importer import import_from_string

from hypervisor import __version__
from hypervisor.cli.core.database_access import printable_database, using_database
from hypervisor.cli.core.output import facts
from hypervisor.errors import StartupError
from hypervisor.infra.coordination.connect import Coordination
from hypervisor.runtimes.registry import RuntimeRegistry
from hypervisor.settings import Settings

APP_FACTORY = "hypervisor.app:create_app"
BACKLOG = 2048
_NOISE = "Application startup failed. Exiting."

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def run_server(settings: Settings, console: Console) -> None:
    """Serve until a signal ends it. Raises StartupError when it cannot start as configured."""
    listener = _listen(settings.host, settings.port)
    # The app reads its settings itself and tells workloads where to report; a free port is known only now.
    os.environ["PORT"] = str(listener.getsockname()[1])
    app = _App(import_from_string(APP_FACTORY)(), settings.database_url)
    config = uvicorn.Config(
        app,
        log_config=None,
        ws="none",
        log_level="info" if settings.log_level == "debug" else "warning",
        access_log=settings.log_level == "debug",
        server_header=False,
        timeout_graceful_shutdown=settings.graceful_stop_seconds,
    )
    logging.getLogger("uvicorn.error").addFilter(lambda record: record.msg != _NOISE)
    with listener:
        _Server(config, app, settings, listener, console).run(sockets=[listener])


class _App:
    """The app, with the reason of a failed start kept for people instead of a traceback in the log."""

    def __init__(self, app: Any, database_url: str) -> None:
        self._app = app
        self._database_url = database_url
        self.failure: StartupError | None = None

    @property
    def runtimes(self) -> RuntimeRegistry:
        runtimes: RuntimeRegistry = self._app.state.services.runtimes
        return runtimes

    @property
    def sharing(self) -> Coordination:
        sharing: Coordination = self._app.state.services.sharing
        return sharing

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        refused: list[Message] = []

        async def pass_on(message: Message) -> None:
            if message["type"] == "lifespan.startup.failed":
                refused.append(message)
            else:
                await send(message)

        try:
            with using_database(self._database_url):
                await self._app(scope, receive, pass_on)
        except StartupError as error:
            if not refused:
                raise
            self.failure = error
            await send({"type": "lifespan.startup.failed", "message": ""})
        finally:
            if refused and self.failure is None:
                await send(refused[0])


class _Server(uvicorn.Server):
    def __init__(
        self, config: uvicorn.Config, app: _App, settings: Settings, listener: socket.socket, console: Console
    ) -> None:
        super().__init__(config)
        self._app = app
        self._settings = settings
        self._listener = listener
        self._console = console

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit:
            raise self._app.failure or StartupError("the server could not start; its log says why") from None
        self._console.print(await self._banner())

    async def _banner(self) -> Any:
        port = self._listener.getsockname()[1]
        url = f"http://{self._settings.reachable_host}:{port}"
        runtimes = await self._app.runtimes.found()
        lines = [
            ("Hypervisor", f"{__version__}, ready at {url}"),
            ("Database", printable_database(self._settings.database_url)),
            ("Replicas", self._app.sharing.describe()),
            ("Data", str(self._settings.data_dir.absolute())),
            *((f"Runtime {name}", description) for name, description in runtimes.items()),
            *self._invitation(url),
            ("Stop", "Ctrl-C; workloads go on and are found again at the next start"),
        ]
        return facts(lines)

    def _invitation(self, url: str) -> list[tuple[str, str]]:
        if self._settings.role == "scheduler":
            reports = self._settings.reports_url or "nowhere, as PUBLIC_URL is not set: no checkpoints"
            return [
                ("Role", f"scheduler: control loops only; {url}/readyz and {url}/metrics answer"),
                ("Reports to", reports),
            ]
        return [
            ("Default", self._settings.default_runtime),
            ("API", f"{url}/docs (try it out), {url}/redoc (read it)"),
            ("Next", f"hypervisor register --url {url}"),
        ]


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise StartupError(
            f"cannot listen on {host}:{port}: {why}; choose another with --port or --host"
        ) from None
