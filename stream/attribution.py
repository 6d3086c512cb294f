"""Which events a recommendation led to, counted by its scenario and variant.

Counted where a record is folded, and only when the user's watermark lets it count: each event once,
however often it was sent, and none of what was redelivered. An impression has no place in a history
and so no name there: it counts once a record.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import prometheus_client

from infra.attribution import PairLabels
from protos.actions import declared_actions
from protos.history import FoldEvent
from protos.rec.v1.events_pb2 import Event
from stream.validation import Place, Validated, events_by_name


class Attribution:
    def __init__(self) -> None:
        self._labels = PairLabels()
        # Handed to Prometheus a step at a time, as Folder does it.
        self._counted: Counter[tuple[str, str, str]] = Counter()

    def count(
        self, said: Validated, place: Place, events: Sequence[Event], applied: Sequence[FoldEvent]
    ) -> None:
        """Count the events of a record that was new.

        Args:
            events: all of the record.
            applied: those that count in the history.
        """
        named = events_by_name(said, place, events)
        self._add(named[one.event_id] for one in applied)
        if said.n_impressions:
            refused = said.refused
            self._add(
                event
                for index, event in enumerate(events)
                if index not in refused and not declared_actions()[event.action].history
            )

    def _add(self, events: Iterable[Event]) -> None:
        for event in events:
            if event.recommendation_id:
                pair = self._labels.of(event.scenario, event.variant)
                self._counted[(*pair, event.action)] += 1

    def report(self, metric: prometheus_client.Counter) -> None:
        """Hand what was counted to Prometheus."""
        for labels, n in self._counted.items():
            metric.labels(*labels).inc(n)
        self._counted.clear()
