"""A run that goes on notices that what it reads is something else now."""

import csv
from dataclasses import replace

import pytest

from encoder import digests, history_store
from encoder.recipe import Recipe
from encoder.run_file import Run
from encoder.training_run import Screen, train_to_bundle
from protos.errors import InvalidInput
from tests.encoder.test_histories import drawn, events, histories_of
from tests.encoder.test_train import Killed
from tests.encoder.tiny import CONFIG

N_ITEMS = 12
RECIPE = replace(Recipe().quick(), coder_steps=2, rows_a_batch=8, validation_users=2)


def write(path, names, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([names, *rows])


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    rows = [(f"u{u}", f"i{(u + n) % N_ITEMS}", 1_000 + n) for u in range(8) for n in range(6)]
    write(folder / "events.csv", ("user_id", "item_id", "event_time_ms"), rows)
    write(folder / "items.csv", ("item_id", "title"), items())
    return folder


def items():
    return [(f"i{n}", f"thing number {n}") for n in range(N_ITEMS)]


@pytest.fixture
def killed(data, tmp_path, monkeypatch):
    """A run that was killed at its first step."""

    def kill(*_):
        raise Killed

    run = Run(data=str(data), out=tmp_path / "bundle", model=CONFIG, recipe=RECIPE)
    monkeypatch.setattr(Screen, "step", kill)
    with pytest.raises(Killed):
        train_to_bundle(run, None, is_quick=True)
    return run


def test_a_reordered_catalogue_is_not_what_the_run_began_with(killed, data):
    write(data / "items.csv", ("item_id", "title"), reversed(items()))

    with pytest.raises(InvalidInput, match=r"^the catalogue changed .* remove that folder"):
        train_to_bundle(killed, None, is_quick=True)


def test_new_events_are_not_what_the_run_began_with(killed, data):
    with (data / "events.csv").open("a") as file:
        file.write("u1,i1,5000\n")

    with pytest.raises(InvalidInput, match=r"^the events changed .* choose another --out"):
        train_to_bundle(killed, None, is_quick=True)


def test_the_same_data_in_other_files_are_the_same(killed, data):
    (data / "events.csv").write_text((data / "events.csv").read_text().replace("\r\n", "\n"))

    with pytest.raises(Killed):
        train_to_bundle(killed, None, is_quick=True)


def test_texts_that_are_cut_elsewhere_are_others():
    assert digests.of_texts(["ab", "c"]) != digests.of_texts(["a", "bc"])
    assert digests.of_texts(["a"], ["b"]) != digests.of_texts(["a", "b"], [])


def digest_of(table, item_ids):
    return histories_of(table, item_ids).digest(item_ids)


def test_events_are_the_same_in_any_catalogue_that_holds_their_items(monkeypatch):
    item_ids = [f"i{n}" for n in range(40)]
    whole = digest_of(drawn(500), item_ids)

    monkeypatch.setattr(history_store, "EVENTS_AT_ONCE", 64)

    assert digest_of(drawn(500), [*item_ids[::-1], "new"]) == whole


@pytest.mark.parametrize(
    "changed",
    [("v", "a", 0, "click"), ("u", "b", 0, "click"), ("u", "a", 1, "click"), ("u", "a", 0, "like")],
)
def test_an_event_is_its_user_item_time_and_action(changed):
    assert digest_of(events(changed), ["a", "b"]) != digest_of(
        events(("u", "a", 0, "click")), ["a", "b"]
    )


def test_a_checkpoint_is_its_weights_and_words_wherever_it_lies(tmp_path):
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "there" / "README.md").write_text("read me")
    here, there = (tmp_path / name for name in ("here", "there"))

    assert digests.of_checkpoint(here) == digests.of_checkpoint(there)
    (there / "tokenizer.json").write_text("{}")
    assert digests.of_checkpoint(here) != digests.of_checkpoint(there)
    (here / "model.safetensors").write_bytes(b"height")
    assert digests.of_checkpoint(here) != digests.of_checkpoint(tmp_path / "nowhere")
