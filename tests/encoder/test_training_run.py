"""`freshet train` on data that cannot be learned from: one error that says what to do."""

import pytest

from encoder.run_file import Run
from encoder.training_run import train_to_bundle
from protos.errors import InvalidInput

EVENTS = "user_id,item_id,event_time_ms\n"
ITEMS = "item_id,title\na,red thing\nb,blue thing\n"


@pytest.mark.parametrize(
    ("events", "items", "reason"),
    [
        ("u,a,1\nu,b,2\nu,a,3\n", None, "the catalogue is empty; put a file of items"),
        ("u,a,1\nu,b,2\nu,a,3\n", "item_id,title\n", "the catalogue is empty; put a file of"),
        ("u,x,1\nu,y,2\n", ITEMS, "no event is on an item of the catalogue; check that the ids"),
        ("u,a,1\n", ITEMS, "no user has more than 1 event; nothing can be held out"),
        ("u,a,1\nu,b,2\n", ITEMS, "no user has two events to learn from, besides what is held"),
    ],
)
def test_what_cannot_be_learned_from_is_one_clear_error(tmp_path, events, items, reason):
    (tmp_path / "events.csv").write_text(EVENTS + events)
    if items is not None:
        (tmp_path / "items.csv").write_text(items)

    with pytest.raises(InvalidInput, match=reason):
        train_to_bundle(Run(data=str(tmp_path), out=tmp_path / "out"), None, is_quick=True)
