"""The HTTP SDK: one `Client` over the public API, with refusals as `ApiError` and tokens kept fresh.

It knows nothing of the server's modules. Answers are plain dictionaries with declared keys (`models`,
`insights`), so that a newer server's extra fields pass through unharmed.
"""

from hypervisor.client.client import Client
from hypervisor.client.errors import ApiError, ClientError, Unreachable
from hypervisor.client.tokens import MemoryTokens, Tokens, TokenStore

__all__ = ["ApiError", "Client", "ClientError", "MemoryTokens", "TokenStore", "Tokens", "Unreachable"]
