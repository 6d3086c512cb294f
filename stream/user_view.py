"""What `freshet user` shows: one JSON object, or tables."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from protos.actions import actions_by_code
from protos.keys import compose_key, split_key
from protos.rec.v1.interests_pb2 import UserInterests
from protos.rec.v1.items_pb2 import Embedding
from protos.rec.v1.recommend_pb2 import Feed, Source
from protos.vectors import interest_matrix
from stream.encoder_client import Model
from stream.past import Past, PastEvent
from stream.past_items import PastItems

N_LOOKS = 3
"""Items that show what an interest looks like."""


@dataclass(slots=True)
class Found:
    past: Past
    items: PastItems
    partition: int
    log_begins_at: int
    model: Model | None = None
    state: UserInterests | None = None
    """None while the encoder has not said."""
    feed: Feed | None = None
    problems: list[str] = field(default_factory=list)
    """What could not be asked, and why."""

    def nearest(self, n: int, interest: int | None = None) -> list[tuple[bytes, Embedding]]:
        """Return the n nearest items of one interest, or of all."""
        if self.model is None or self.state is None:
            return []
        queries = interest_matrix(self.state.interests)
        if interest is not None:
            queries = queries[interest : interest + 1]
        return self.items.nearest(queries, self.model, n)

    def item_id(self, key: bytes) -> str:
        return split_key(key)[1]

    def title(self, item_id: str) -> str:
        """Return an item's title, "" when the catalogue lacks it."""
        item = self.items.item(compose_key(self.past.tenant, item_id))
        return item.title if item is not None else ""


def record_of(found: Found, last: int) -> dict[str, object]:
    """Return all of it for JSON."""
    past, head = found.past, found.past.user.head
    return {
        "tenant": past.tenant,
        "user_id": past.user_id,
        "partition": found.partition,
        "watermark": head.watermark,
        "log_begins_at": found.log_begins_at,
        "n_records": past.n_records,
        "n_events": head.n_events,
        "n_closed_segments": head.n_closed,
        "n_late": head.n_late,
        "n_duplicates": past.n_duplicates,
        "n_dead_letters": past.n_dead_letters,
        "erased_ms": head.erased_ms,
        "history": [_event_record(found, one) for one in _newest(past, last)],
        "model_version": found.model.model_version if found.model is not None else None,
        "interests": _interests(found),
        "feed": None if found.feed is None else _feed_record(found.feed),
        "problems": found.problems,
    }


def _newest(past: Past, n: int) -> list[PastEvent]:
    return list(islice(reversed(past.events), n))


def _event_record(found: Found, one: PastEvent) -> dict[str, object]:
    event = one.event
    return {
        "offset": one.offset,
        "event_id": event.event_id,
        "item_id": event.item_id,
        "title": found.title(event.item_id),
        "action": actions_by_code()[event.action].name,
        "event_time_ms": event.event_time_ms,
        "accepted_ms": one.accepted_ms,
    }


def _interests(found: Found) -> list[dict[str, object]]:
    if found.state is None:
        return []
    return [
        {
            "weight": round(weight, 4),
            "nearest": [
                {"item_id": item_id, "title": found.title(item_id)}
                for item_id in (found.item_id(key) for key, _ in found.nearest(N_LOOKS, number))
            ],
        }
        for number, weight in enumerate(found.state.interests.weights)
    ]


def _feed_record(feed: Feed) -> dict[str, object]:
    return {
        "source": Source.Name(feed.source).removeprefix("SOURCE_").lower(),
        "degraded_reason": feed.degraded_reason,
        "items": [
            {"item_id": one.item_id, "title": one.title, "score": round(one.score, 4)}
            for one in feed.items
        ],
    }


def print_found(found: Found, last: int) -> None:
    """Print what a person wants to see first."""
    past, head, console = found.past, found.past.user.head, Console()
    console.print(
        f"{past.user_id} after offset {head.watermark} of partition {found.partition}: "
        f"{head.n_events:,} events, {head.n_closed} closed segments; {past.n_records:,} records, "
        f"{past.n_duplicates:,} duplicates, {past.n_dead_letters:,} dead letters, "
        f"{head.n_late:,} late",
        highlight=False,
        markup=False,
    )
    if head.erased_ms:
        console.print(f"erased at {_moment(head.erased_ms)}", highlight=False)
    if found.log_begins_at:
        console.print(
            f"note: the log begins at offset {found.log_begins_at}; what came before is gone",
            highlight=False,
        )
    if past.events and last:
        console.print(_history(found, last))
    if found.state is not None:
        console.print(_interest_table(found))
    if found.feed is not None:
        console.print(_feed_table(found.feed))
    for problem in found.problems:
        console.print(f"[red]missing:[/] {escape(problem)}", highlight=False)


def _history(found: Found, last: int) -> Table:
    table = Table("offset", "when", "action", "item", "title", title="history, newest first")
    for one in _newest(found.past, last):
        event = one.event
        cells = (actions_by_code()[event.action].name, event.item_id, found.title(event.item_id))
        when = _moment(event.event_time_ms)
        table.add_row(str(one.offset), when, *(escape(cell) for cell in cells))
    return table


def _interest_table(found: Found) -> Table:
    version = found.model.model_version if found.model is not None else ""
    table = Table("weight", "nearest items", title=f"interests, model {version}")
    for interest in _interests(found):
        nearest = interest["nearest"]
        assert isinstance(nearest, list)
        names = [str(item["title"] or item["item_id"]) for item in nearest]
        table.add_row(f"{interest['weight']}", escape(", ".join(names)))
    return table


def _feed_table(feed: Feed) -> Table:
    source = Source.Name(feed.source).removeprefix("SOURCE_").lower()
    table = Table("#", "item", "title", "score", title=f"feed, {source}")
    for rank, one in enumerate(feed.items, 1):
        table.add_row(str(rank), escape(one.item_id), escape(one.title), f"{one.score:.3f}")
    table.caption = escape(feed.degraded_reason) or None
    return table


def _moment(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(sep=" ", timespec="seconds")
