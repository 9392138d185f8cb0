"""The uvicorn server of `hypervisor serve`: it opens the socket, prints the banner, reports start errors."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import ExitStack
from typing import Any

import uvicorn
from rich.console import Console
from uvicorn.importer import import_from_string

from hypervisor import __version__
from hypervisor.cli.commands.serve.listener import describe, listen
from hypervisor.cli.core.database_access import printable_database, using_database
from hypervisor.cli.core.output import facts
from hypervisor.errors import StartupError
from hypervisor.infra.coordination.coordination import Coordination
from hypervisor.runtimes.registry import RuntimeRegistry
from hypervisor.settings import Settings

APP_FACTORY = "hypervisor.app:create_app"
_SUPPRESSED_LOG_LINE = "Application startup failed. Exiting."

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def run_server(settings: Settings, console: Console) -> None:
    """Serve until SIGINT or SIGTERM. Raises StartupError when the server cannot start as configured."""
    sockets = listen(settings.host, settings.port)
    # The app reads its settings from the environment. With port 0 the real port is known only now, and the
    # report URL of workloads needs it.
    settings.port = sockets[0].getsockname()[1]
    os.environ["PORT"] = str(settings.port)
    app = _StartupReporter(import_from_string(APP_FACTORY)(), settings.database_url)
    config = uvicorn.Config(
        app,
        log_config=None,
        ws="none",
        log_level="info" if settings.log_level == "debug" else "warning",
        access_log=settings.log_level == "debug",
        server_header=False,
        timeout_graceful_shutdown=settings.graceful_stop_seconds,
    )
    logging.getLogger("uvicorn.error").addFilter(lambda record: record.msg != _SUPPRESSED_LOG_LINE)
    with ExitStack() as opened:
        for each in sockets:
            opened.enter_context(each)
        _Server(config, app, settings, sockets, console).run(sockets=sockets)


class _StartupReporter:
    """The ASGI app. It keeps the cause of a failed start, instead of a traceback in the log."""

    def __init__(self, app: Any, database_url: str) -> None:
        self._app = app
        self._database_url = database_url
        self.failure: StartupError | None = None

    @property
    def runtimes(self) -> RuntimeRegistry:
        runtimes: RuntimeRegistry = self._app.state.services.runtimes
        return runtimes

    @property
    def coordination(self) -> Coordination:
        coordination: Coordination = self._app.state.services.coordination
        return coordination

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        failures: list[Message] = []

        async def forward(message: Message) -> None:
            if message["type"] == "lifespan.startup.failed":
                failures.append(message)
            else:
                await send(message)

        try:
            with using_database(self._database_url):
                await self._app(scope, receive, forward)
        except StartupError as error:
            if not failures:
                raise
            self.failure = error
            await send({"type": "lifespan.startup.failed", "message": ""})
        finally:
            if failures and self.failure is None:
                await send(failures[0])


class _Server(uvicorn.Server):
    def __init__(
        self,
        config: uvicorn.Config,
        app: _StartupReporter,
        settings: Settings,
        listeners: list[socket.socket],
        console: Console,
    ) -> None:
        super().__init__(config)
        self._app = app
        self._settings = settings
        self._listeners = listeners
        self._console = console

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit:
            raise self._app.failure or StartupError("the server could not start: see its log") from None
        self._console.print(await self._banner())

    async def _banner(self) -> Any:
        url = self._settings.local_url
        runtimes = await self._app.runtimes.describe_all()
        lines = [
            ("Hypervisor", f"{__version__}, ready at {url}"),
            *self._listening(url),
            ("Database", printable_database(self._settings.database_url)),
            ("Coordination", self._app.coordination.describe()),
            ("Data", str(self._settings.data_dir.absolute())),
            *((f"Runtime {name}", description) for name, description in runtimes.items()),
            *self._usage(url),
            ("Stop", "Ctrl-C; workloads continue, and the next start adopts them"),
        ]
        return facts(lines)

    def _listening(self, url: str) -> list[tuple[str, str]]:
        """The addresses, where the URL does not name all of them."""
        described = describe(self._listeners)
        return [] if url == f"http://{described}" else [("Listens on", described)]

    def _usage(self, url: str) -> list[tuple[str, str]]:
        if self._settings.role == "scheduler":
            reports = self._settings.public_url or "none: set PUBLIC_URL to receive checkpoint reports"
            return [
                ("Role", f"scheduler: control loops only, with {url}/readyz and {url}/metrics"),
                ("Report URL", reports),
            ]
        return [
            ("Default runtime", self._settings.default_runtime),
            ("API", f"{url}/docs (try requests), {url}/redoc (reference)"),
            ("Next", f"hypervisor register --url {url}"),
        ]
