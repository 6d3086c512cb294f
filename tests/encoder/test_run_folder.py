"""Whose folder a run takes, and whose it leaves alone."""

import pytest

from encoder.run_folder import RunFolder
from protos.errors import InvalidInput


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
