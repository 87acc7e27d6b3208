"""API keys: who sends a request, and what it may use. Keys are kept and compared as hashes only, and never logged.

Input: the entries of a keys file and the ``Authorization`` header. Output: a ``Principal``, quotas. It must not know
what is asked for, nor where the entries come from.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from schemas.request import Principal
from services.gateway.keys_file import KeysWatch, read, warn_of_plain
from shared.clock import Clock, SystemClock
from shared.errors import Unauthorized
from shared.keys import KeyEntry, KeysFile, Quota, TenantEntry, key_hash

NO_QUOTA = Quota()


class Keys:
    """Without a file everybody is the local principal."""

    def __init__(self, file: KeysFile | None, clock: Clock, path: Path | None = None) -> None:
        self._clock = clock
        self._path = path
        self._required = file is not None
        self._file = file or KeysFile()
        self.take(self._file)

    @classmethod
    def load(cls, path: Path | None, clock: Clock | None = None) -> Self:
        """Raises Internal(``gateway.keys_file``) when the file cannot be used."""
        clock = clock or SystemClock()
        if path is None:
            return cls(None, clock)
        file = read(path)
        warn_of_plain(path, file)
        return cls(file, clock, path)

    @asynccontextmanager
    async def watched(self, interval_seconds: float) -> AsyncIterator[None]:
        """A changed file is taken within ``interval_seconds``, as long as the block runs."""
        if self._path is None:
            yield
            return
        async with KeysWatch(self._path, self._clock, self._file, self.take).running(interval_seconds):
            yield

    def take(self, file: KeysFile) -> None:
        """From now on these keys count, and no others."""
        self._by_hash: dict[str, KeyEntry] = {entry.hash: entry for entry in file.keys}
        self._by_id: dict[str, KeyEntry] = {entry.key_id: entry for entry in file.keys}
        self._tenants: dict[str, TenantEntry] = {entry.tenant: entry for entry in file.tenants}

    def principal(self, authorization: str | None) -> Principal:
        """Raises Unauthorized: ``missing_api_key``, ``incorrect_api_key``, ``revoked_api_key``, ``expired_api_key``,
        and with status 403 ``tenant_suspended``."""
        if not self._required:
            return Principal()
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise Unauthorized("missing_api_key", "send your API key as 'Authorization: Bearer KEY'")
        # Looking up a hash takes no time that depends on how much of a key was right.
        entry = self._by_hash.get(key_hash(key.strip()))
        if entry is None:
            raise Unauthorized("incorrect_api_key", "this API key is not known")
        self._check_usable(entry)
        return Principal(tenant=entry.tenant, key_id=entry.key_id)

    def _check_usable(self, entry: KeyEntry) -> None:
        """Only who has the key hears why it does not open."""
        if entry.disabled:
            raise Unauthorized("revoked_api_key", "this API key has been revoked")
        if entry.expires is not None and entry.expires <= datetime.fromtimestamp(self._clock.unix_seconds(), UTC):
            raise Unauthorized("expired_api_key", f"this API key expired at {entry.expires.isoformat()}")
        tenant = self._tenants.get(entry.tenant)
        if tenant is not None and tenant.suspended:
            raise Unauthorized("tenant_suspended", f"the tenant {entry.tenant} is suspended", status=403)

    def quotas(self, principal: Principal) -> tuple[Quota, Quota]:
        """Of the key, and of its tenant."""
        key, tenant = self._by_id.get(principal.key_id), self._tenants.get(principal.tenant)
        return key.quota if key is not None else NO_QUOTA, tenant.quota if tenant is not None else NO_QUOTA

    def knows(self, kind: str, name: str) -> bool:
        return name in (self._by_id if kind == "key" else self._tenants)

    @property
    def size(self) -> int:
        return len(self._by_id) + len(self._tenants)
