"""The HTTP SDK: one `Client` over the public API. It raises `ApiError` for a refusal and renews tokens.

It imports no module of the server except `kernel.log_text`. Responses are plain dictionaries with declared
keys (`models`, `scheduler_models`), so additional fields of a newer server pass through.
"""

from hypervisor.client.client import Client
from hypervisor.client.errors import ApiError, ClientError, ServerAway, UnexpectedResponse, Unreachable
from hypervisor.client.outages import RetryPolicy
from hypervisor.client.tokens import MemoryTokens, Tokens, TokenStore

__all__ = [
    "ApiError",
    "Client",
    "ClientError",
    "MemoryTokens",
    "RetryPolicy",
    "ServerAway",
    "TokenStore",
    "Tokens",
    "UnexpectedResponse",
    "Unreachable",
]
