"""OAuth for machines: client credentials, with a secret or with a signed assertion. People's flows need a browser, and
are not offered. One of the files that know the ``mcp`` SDK. Must not know tools or sessions.
"""

import httpx2
from mcp.client.auth.extensions.client_credentials import (
    ClientCredentialsOAuthProvider,
    PrivateKeyJWTOAuthProvider,
    SignedJWTParameters,
)
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken

from services.tools.mcp.config import ClientCredentials, McpServers


def authentication(url: str, known: ClientCredentials | None, config: McpServers) -> httpx2.Auth | None:
    """Raises Unavailable(``tools.no_key``) when the secret cannot be read."""
    if known is None:
        return None
    if known.client_secret is not None:
        return ClientCredentialsOAuthProvider(
            url,
            _Tokens(),
            client_id=known.client_id,
            client_secret=config.text(known.client_secret),
            scope=known.scope,
            issuer=known.issuer,
        )
    assert known.private_key is not None
    signing = SignedJWTParameters(
        issuer=known.client_id,
        subject=known.client_id,
        signing_key=config.text(known.private_key, lines=True),
        signing_algorithm=known.algorithm,
    )
    return PrivateKeyJWTOAuthProvider(
        url,
        _Tokens(),
        client_id=known.client_id,
        assertion_provider=signing.create_assertion_provider(),
        scope=known.scope,
        issuer=known.issuer,
    )


class _Tokens:
    """In memory: a new process gets a new token."""

    def __init__(self) -> None:
        self._tokens: OAuthToken | None = None
        self._client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self._tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self._tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self._client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self._client = client_info
