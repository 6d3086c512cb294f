"""`freshet train` from data to bundle: what it shows and notes, and what it refuses."""

import json
from dataclasses import replace
from io import StringIO

import pytest
import torch
import transformers
from rich.console import Console

from encoder.recipe import Recipe
from encoder.run_file import Run
from encoder.training_run import Screen, train_to_bundle
from protos.errors import InvalidInput
from tests.encoder.tiny import CONFIG

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


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A bundle's metrics, and how far the parts of its run came."""
    folder = tmp_path_factory.mktemp("made")
    walks = [f"u{u},i{(u + n) % 12},{n}" for u in range(6) for n in range(2 + 2 * (u % 3))]
    (folder / "events.csv").write_text(EVENTS + "\n".join(walks))
    items = [f"i{n},thing number {n}" for n in range(12)]
    (folder / "items.csv").write_text("item_id,title\n" + "\n".join(items))
    recipe = replace(Recipe().quick(), coder_steps=2, rows_a_batch=8, validation_users=50)
    said = {}

    class Heard(Screen):
        def _show(self, what, done, of, losses):
            said[what] = (done, of)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("encoder.training_run.Screen", Heard)
        run = Run(data=str(folder), out=folder / "out", model=CONFIG, recipe=recipe)
        train_to_bundle(run, None, is_quick=True)
    return json.loads((folder / "out" / "metrics.json").read_text()), said


def test_everything_that_takes_long_says_how_far_it_is(made):
    _, said = made

    parts = {"read, kB", "users", "neighbours", "items", "codebook", "encode items", "validate"}
    assert parts | {"warm-up", "all", "evaluate refined", "evaluate popularity"} <= said.keys()
    assert all(done == of for done, of in said.values())


def test_a_bar_whose_part_comes_again_begins_anew():
    screen = Screen(Console(file=StringIO()))
    screen.part("validate", 5, 5)

    screen.part("validate", 1, 5)

    (bar,) = screen._bars.tasks
    assert (bar.completed, bar.finished) == (1, False)


def test_figures_say_what_made_them_and_how_many_users_chose(made):
    metrics, _ = made

    # Of six users four have more than two events; the last of each is for the test.
    assert metrics["trained_on"].endswith("without the last of these of 4 validation users")
    assert metrics["torch"] == torch.__version__
    assert metrics["transformers"] == transformers.__version__
    assert "commit" in metrics
