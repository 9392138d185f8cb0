"""`Client`, the entry point of the SDK."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from hypervisor.client.accounts import Accounts
from hypervisor.client.clusters import Clusters
from hypervisor.client.deployments import Deployments
from hypervisor.client.models import SystemInfo
from hypervisor.client.organizations import Organizations
from hypervisor.client.outages import RetryPolicy
from hypervisor.client.tokens import MemoryTokens, TokenStore
from hypervisor.client.transport import Transport

DEFAULT_URL = "http://127.0.0.1:8000"


class Client:
    """A client of one server.

        with Client("http://127.0.0.1:8000") as client:
            client.accounts.login("ada", "correct horse battery")
            job = client.deployments.create({"name": "train", "kind": "job", "command": ["python", "t.py"]})

    Every call raises ApiError for a refusal and Unreachable when there is no response. A client is not safe
    for several threads at once. Create one client per thread; the clients may share a TokenStore.
    """

    def __init__(
        self, url: str = DEFAULT_URL, *, tokens: TokenStore | None = None, retry: RetryPolicy | None = None
    ) -> None:
        """`retry`: how long `wait` and the iterators go on while the server does not answer.

        Default: HYPERVISOR_RETRY_SECONDS, else 5 minutes.
        """
        self._transport = Transport(url, tokens or MemoryTokens(), retry)
        self.accounts = Accounts(self._transport)
        self.organizations = Organizations(self._transport)
        self.clusters = Clusters(self._transport)
        self.deployments = Deployments(self._transport)

    @property
    def url(self) -> str:
        return self._transport.url

    @property
    def retry(self) -> RetryPolicy:
        return self._transport.retry

    @property
    def tokens(self) -> TokenStore:
        return self._transport.tokens

    def system_info(self) -> SystemInfo:
        info: SystemInfo = self._transport.get("/system/info")
        return info

    def close(self) -> None:
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
