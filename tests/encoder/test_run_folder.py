"""Whose folder a run takes, and whose it leaves alone."""

import pytest

from encoder.bundle import save_bundle
from encoder.run_folder import RunFolder
from protos.errors import InvalidInput
from tests.encoder.tiny import make_bundle


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "bundle")


@pytest.mark.parametrize("name", ["thesis.txt", "model.pt", "runs.csv"])
def test_a_folder_that_holds_something_else_is_never_emptied(folder, name):
    folder.path.mkdir()
    folder.log.write_text("")
    (folder.path / name).write_text("years of work")

    with pytest.raises(InvalidInput, match=rf"{name} is not of a run, .* choose another --out"):
        folder.claim({})
    assert (folder.path / name).read_text() == "years of work"


def test_a_file_in_its_place_is_never_removed(folder):
    folder.path.write_text("years of work")

    with pytest.raises(InvalidInput, match="choose another --out"):
        folder.claim({})
    assert folder.path.read_text() == "years of work"


@pytest.mark.parametrize("name", ["log.csv", ".checkpoint.pt", "run.json.17.part", ".start-x1"])
def test_what_an_earlier_run_left_makes_way_for_the_next(folder, name):
    folder.path.mkdir()
    (folder.path / name).write_text("old")

    folder.claim({})

    assert [path.name for path in folder.path.iterdir()] == ["run.json"]


def test_a_run_that_has_ended_leaves_only_what_people_read(folder):
    folder.claim({})
    folder.log.write_text("at_s")
    folder.save("best", {})

    folder.finish()

    assert [path.name for path in folder.path.iterdir()] == ["log.csv"]


def test_inputs_may_change_until_something_was_made_of_them(folder):
    folder.claim({})
    folder.claim_inputs({"the catalogue": "1", "the events": "1"})
    folder.claim_inputs({"the catalogue": "2", "the events": "2"})
    save_bundle(make_bundle(), folder.path / "start")

    with pytest.raises(InvalidInput, match=r"^the catalogue and the events changed since the run"):
        folder.claim_inputs({"the catalogue": "3", "the events": "3"})
    folder.claim_inputs({"the catalogue": "2", "the events": "2"})
