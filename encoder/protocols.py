"""How a model is judged: what it may learn from, and what it must foretell then.

    leave-one-out   each user's last event
    temporal        each user's first event after a moment
    prequential     every event after a moment, each from all that was before it

The first tells models apart on all users; published figures are of its kind. The other two let
nothing be learned from after the moment, as in service.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from encoder.histories import History
from encoder.splits import Split, before, leave_one_out, prequential, temporal
from protos.errors import InvalidInput


class Kind(StrEnum):
    LEAVE_ONE_OUT = "leave-one-out"
    TEMPORAL = "temporal"
    PREQUENTIAL = "prequential"


@dataclass(frozen=True, slots=True)
class Protocol:
    kind: Kind
    split: Split
    known: Sequence[History]
    """What may be learned from."""

    @property
    def text(self) -> str:
        return (
            f"{_TARGETS[self.kind]}; full ranking over the catalogue; items of the history left "
            "out; ours as served (codes, memory blocks, K interests)"
        )


_TARGETS = {
    Kind.LEAVE_ONE_OUT: "leave-one-out: last event of each user by time (ties in file order)",
    Kind.TEMPORAL: "temporal: first event of each user after all that was learned from",
    Kind.PREQUENTIAL: "prequential: events after all that was learned from, each from the user's "
    "events before it",
}


def judge(
    kind: Kind, histories: Sequence[History], moment_ms: int | None, limit: int | None = None
) -> Protocol:
    """Cut histories as a protocol wants it.

    Args:
        histories: all there is.
        moment_ms: before which all that the model learned from happened; None when it learned from
            all but each user's last event.
        limit: at most so many cases, drawn at random; prequential only.

    Raises InvalidInput when the model has learned from what would be foretold, or nothing can be.
    """
    if kind is Kind.LEAVE_ONE_OUT:
        split = leave_one_out(histories)
        return Protocol(kind, split, split.histories)
    if moment_ms is None:
        raise InvalidInput(
            f"this model has learned from events of all times, so {kind} would ask it for what it "
            "knows; train one with --until, e.g. --until 0.9"
        )
    known = before(histories, moment_ms)
    if kind is Kind.TEMPORAL:
        return Protocol(kind, temporal(histories, moment_ms), known)
    return Protocol(kind, prequential(histories, moment_ms, limit=limit), known)
