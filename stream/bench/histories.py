"""Histories as columns, and where they differ from the oracle's."""

from collections.abc import Mapping
from dataclasses import dataclass

from protos.history import Head
from protos.segments import segment_columns
from stream.bench.oracle import OracleUser

UserKey = tuple[str, str]
"""(tenant, user id)"""


@dataclass(frozen=True, slots=True)
class History:
    """What a worker stored of a user; columns over the kept segments and the open one."""

    head: Head
    hashes: list[int]
    actions: list[int]
    gaps: list[int]
    codes: list[bytes]
    coded: list[bool]


@dataclass(frozen=True, slots=True)
class Difference:
    user: UserKey
    what: str
    found: object
    expected: object


def decode_histories(stored: Mapping[bytes, bytes]) -> dict[UserKey, History]:
    """Read heads and segments by their keys (stream/store.py): a changelog, or a RocksDB."""
    heads = {key[1:]: Head.from_bytes(v) for key, v in stored.items() if key[:1] == b"h"}
    histories = {}
    for user_key, head in heads.items():
        closed = [stored.get(b"s" + user_key + i.to_bytes(4, "big")) for i in range(head.n_closed)]
        columns = [segment_columns(blob) for blob in closed if blob is not None]
        columns.append(segment_columns(head.open.to_bytes()))
        tenant, _, user_id = user_key.decode().partition("/")
        histories[tenant, user_id] = History(
            head=head,
            hashes=[int(x) for c in columns for x in c.hashes],
            actions=[int(x) for c in columns for x in c.actions],
            gaps=[int(x) for c in columns for x in c.gaps],
            codes=[bytes(x) for c in columns for x in c.codes],
            coded=[bool(x) for c in columns for x in c.coded],
        )
    return histories


def differences(
    histories: Mapping[UserKey, History], oracle: Mapping[UserKey, OracleUser]
) -> list[Difference]:
    """Return what differs in all columns but the codes; empty when all is equal."""
    found = []
    for key in sorted(histories.keys() | oracle.keys()):
        if key not in histories or key not in oracle:
            found.append(Difference(key, "exists", key in histories, key in oracle))
            continue
        history, want = histories[key], oracle[key]
        head = history.head
        recent = [(r.item_id, r.event_time_ms, r.action) for r in head.recent]
        pairs: dict[str, tuple[object, object]] = {
            "hashes": (history.hashes, want.kept(want.hashes)),
            "actions": (history.actions, want.kept(want.actions)),
            "gaps": (history.gaps, want.kept(want.gaps)),
            "n_events": (head.n_events, len(want.hashes)),
            "n_late": (head.n_late, want.n_late),
            "watermark": (head.watermark, want.watermark),
            "erased": (head.erased, want.erased),
            "newest_ms": (head.last_event_time_ms, want.newest_ms),
            "accepted_ms": (head.last_accepted_ms, want.accepted_ms),
            "recent": (recent, want.items[-32:]),
            "n_ids": (len(head.event_hashes), min(64, len(want.ids))),
            "last_id": (head.last_event_id, want.ids[-1] if want.ids else ""),
        }
        found += [Difference(key, what, a, b) for what, (a, b) in pairs.items() if a != b]
    return found
