"""The figures of a data set that one wants to know before using it."""

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from infra.datasets.tables import Dataset


@dataclass(frozen=True, slots=True)
class Summary:
    name: str
    n_events: int
    n_users: int
    n_items: int
    """In the catalogue."""
    n_items_with_events: int
    n_events_without_item: int
    """Events on an item that the catalogue does not have."""
    first_event_ms: int | None
    last_event_ms: int | None
    longest_history: int
    median_history: float
    n_events_by_action: Mapping[str, int]


def summarise(dataset: Dataset) -> Summary:
    """Return the figures of a data set."""
    events, items = dataset.events, dataset.items
    span = pc.min_max(events["event_time_ms"]).as_py()
    lengths = pc.value_counts(events["user_id"]).field("counts")
    is_known = pc.is_in(events["item_id"], items["item_id"].combine_chunks())
    return Summary(
        name=dataset.name,
        n_events=events.num_rows,
        n_users=len(lengths),
        n_items=items.num_rows,
        n_items_with_events=pc.count_distinct(events["item_id"]).as_py(),
        n_events_without_item=events.num_rows - (pc.sum(is_known).as_py() or 0),
        first_event_ms=span["min"],
        last_event_ms=span["max"],
        longest_history=pc.max(lengths).as_py() or 0,
        median_history=_median(lengths),
        n_events_by_action=_counts(events["action"]),
    )


def _median(lengths: pa.Array) -> float:
    if not len(lengths):
        return 0.0
    return float(pc.quantile(lengths, 0.5)[0].as_py())


def _counts(actions: pa.ChunkedArray) -> dict[str, int]:
    counted = pc.value_counts(actions).to_pylist()
    return {pair["values"]: pair["counts"] for pair in sorted(counted, key=lambda p: -p["counts"])}
