"""Information about the installation."""

from __future__ import annotations

from hypervisor import __version__
from tests.support.api import Api, ok


async def test_system_info_needs_a_login(api: Api, backend: str) -> None:
    assert (await api.http.get("/api/v1/system/info")).status_code == 401
    info = ok(await (await api.person()).get("/api/v1/system/info"))
    assert (info["version"], info["database"]) == (__version__, backend)
    assert info["install_id"] == api.services.install_id
    assert set(info["runtimes"]) == set(api.services.runtimes.names)
