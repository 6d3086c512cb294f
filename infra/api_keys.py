"""API keys: who may call, and for which tenants. FRESHET_API_KEYS names a TOML file:

    [[key]]
    name = "shop"                     # for people
    sha256 = "9f86d081884c7d65..."    # of the key, in hex; the key itself is kept nowhere
    tenants = ["shop", "outlet"]      # ["*"]: every one, as our own processes need
    expires = 2030-01-31T00:00:00Z    # may be left out

`freshet keys new` writes such an entry. A key has 256 random bits, so a plain hash hides it as well
as a slow one would, and finding it by its hash takes no longer the more of it is right.
"""

import hashlib
import re
import secrets
import time
import tomllib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import structlog

from protos.errors import InvalidInput, NotReady
from protos.keys import checked_tenant

log = structlog.get_logger(__name__)

ANY_TENANT = "*"
LOOK_EVERY_S = 1.0
"""A change of the file, a revoked key say, counts after so long at most."""

_FIELDS = {"name", "sha256", "tenants", "expires"}
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class ApiKey:
    name: str
    tenants: frozenset[str]
    expires_s: float | None = None
    """Seconds since the epoch; None: never."""

    def may_act_for(self, tenants: Collection[str]) -> bool:
        return self.is_for_all or self.tenants.issuperset(tenants)

    @property
    def is_for_all(self) -> bool:
        return ANY_TENANT in self.tenants


def make_key() -> str:
    """Return a new key of 256 random bits; the prefix is for those who look for leaked ones."""
    return f"freshet_{secrets.token_urlsafe(32)}"


def digest_of(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def parse_keys(text: str) -> dict[str, ApiKey]:
    """Return the keys of a file by digest. Raises InvalidInput naming the entry and the field."""
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"it is no TOML: {error}") from error
    entries = found.get("key")
    if set(found) != {"key"} or not isinstance(entries, list) or not entries:
        raise InvalidInput("give one [[key]] or more, and nothing else; `freshet keys new` does")
    keys: dict[str, ApiKey] = {}
    names: set[str] = set()
    for number, entry in enumerate(entries, start=1):
        where = f"[[key]] number {number}"
        digest, key = _parse_entry(entry, where)
        if key.name in names or digest in keys:
            raise InvalidInput(f"{where}: {key.name!r}, or its sha256, is there twice")
        names.add(key.name)
        keys[digest] = key
    return keys


def _parse_entry(entry: object, where: str) -> tuple[str, ApiKey]:
    if not isinstance(entry, dict) or not _FIELDS - {"expires"} <= set(entry) <= _FIELDS:
        raise InvalidInput(f"{where}: it has name, sha256, tenants, may have expires, nothing else")
    name, digest, tenants = entry["name"], entry["sha256"], entry["tenants"]
    if not isinstance(digest, str) or not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise InvalidInput(f"{where}: sha256 is not 64 lower-case hex digits")
    if digest == digest_of(""):
        raise InvalidInput(f"{where}: sha256 is that of no key at all")
    if not isinstance(tenants, list) or not tenants:
        raise InvalidInput(f'{where}: tenants is not a list of names, or of "{ANY_TENANT}"')
    try:
        key = ApiKey(checked_name(name), checked_tenants(tenants), _expiry(entry.get("expires")))
    except InvalidInput as error:
        raise InvalidInput(f"{where}: {error}") from error
    return digest, key


def checked_name(name: object) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidInput(f"name {name!r} must match [A-Za-z0-9._-]{{1,64}}")
    return name


def checked_tenants(tenants: Collection[object]) -> frozenset[str]:
    for tenant in tenants:
        if not isinstance(tenant, str) or not tenant:
            raise InvalidInput(f"tenants has {tenant!r}; give names of tenants")
        if tenant != ANY_TENANT:
            checked_tenant(tenant)
    return frozenset(map(str, tenants))


def _expiry(moment: object) -> float | None:
    if moment is None:
        return None
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise InvalidInput(f"expires {moment} is no moment with a zone, as 2030-01-31T00:00:00Z")
    return moment.timestamp()


class KeyFile:
    """The keys of a file, as it is now: it is read again when it has changed.

    One that cannot be used any more leaves the keys as they were, and is logged once.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        """
        Args:
            clock: monotonic seconds.
            now: seconds since the epoch.

        Raises:
            NotReady: the file cannot be used.
        """
        self._path, self._clock, self._now = path, clock, now
        self._mark, self._next_look_s = _mark(path), clock() + LOOK_EVERY_S
        self._keys = _read(path)

    def find(self, digest: str) -> ApiKey | None:
        """Return the key with this sha256; None when it is unknown, revoked or expired."""
        if self._clock() >= self._next_look_s:
            self._next_look_s = self._clock() + LOOK_EVERY_S
            self._look()
        key = self._keys.get(digest)
        if key is None or (key.expires_s is not None and self._now() >= key.expires_s):
            return None
        return key

    def _look(self) -> None:
        mark = _mark(self._path)
        if mark == self._mark:
            return
        self._mark = mark
        try:
            self._keys = _read(self._path)
        except NotReady as error:
            log.error("api_keys_kept_as_they_were", message=str(error))
        else:
            log.info("api_keys_read", n_keys=len(self._keys))


def _mark(path: Path) -> tuple[int, int, int] | None:
    """Return what changes when the file does; None when it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _read(path: Path) -> Mapping[str, ApiKey]:
    try:
        return parse_keys(path.read_text())
    except FileNotFoundError as error:
        raise NotReady(
            f"FRESHET_API_KEYS: there is no {path}; make it with `freshet keys new`"
        ) from error
    except (OSError, UnicodeDecodeError, InvalidInput) as error:
        raise NotReady(f"FRESHET_API_KEYS: {path} cannot be used: {error}") from error
