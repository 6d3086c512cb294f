"""Where data sets are looked for, and which form a folder is taken for."""

from pathlib import Path

import pytest

from infra.datasets import load
from infra.datasets.loading import read
from infra.datasets.locate import data_folders, locate
from infra.datasets.report import Tally
from infra.datasets.sources import Source
from protos.errors import InvalidInput, NotReady

CSV = "user_id,item_id,event_time_ms\nu,i,1\n"


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A working directory with nothing in the environment."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("FRESHET_DATA", raising=False)
    monkeypatch.delenv("FRESHET_STATE", raising=False)
    return folder


def test_a_known_name_is_looked_up_in_the_four_places_in_order(here, monkeypatch):
    monkeypatch.setenv("FRESHET_DATA", "named")
    monkeypatch.setenv("FRESHET_STATE", "state")
    places = [Path("given"), Path("named"), Path("state/data"), Path("../shared/data")]
    for place in places:
        (place / "ml-1m").mkdir(parents=True)

    for place in places:
        assert locate("ml-1m", Path("given")) == place / "ml-1m"
        (place / "ml-1m").rmdir()

    assert data_folders() == places[1:]


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("ml-100k", "freshet data fetch ml-100k"),
        ("ml-1m", "get ml-1m.zip from GroupLens"),
        ("online-retail", "from the UCI repository"),
    ],
)
def test_a_known_data_set_that_is_missing_says_how_to_get_it(here, name, how):
    with pytest.raises(NotReady, match=how):
        load(name)


def test_a_name_that_is_neither_known_nor_a_path_is_refused(here):
    with pytest.raises(InvalidInput, match="neither a known data set"):
        load("ml-100m")


def test_a_folder_in_no_known_form_is_refused(here):
    (here / "notes.csv").write_text("a,b\n")

    with pytest.raises(InvalidInput, match="has no form known here"):
        load(str(here))


def test_a_folder_with_two_data_sets_asks_which(here):
    (here / "events.csv").write_text(CSV)
    (here / "events.jsonl").write_text("")

    with pytest.raises(InvalidInput, match=r"several data sets \(events.csv, events.jsonl\)"):
        load(str(here))

    assert load(str(here / "events.csv")).events.num_rows == 1


def test_a_file_of_events_finds_its_items_by_name(here):
    (here / "may-events.csv").write_text(CSV)
    (here / "may-items.csv").write_text("item_id,title\ni,I\n")

    dataset = load("may-events.csv")

    assert dataset.name == "may-events"
    assert dataset.items["title"].to_pylist() == ["I"]


def test_events_alone_have_an_empty_catalogue_and_say_so(here):
    (here / "clicks.csv").write_text(CSV)

    dataset = load("clicks.csv")

    assert dataset.items.num_rows == 0
    assert dataset.report.notes == ("no file of items: the catalogue is empty",)


def test_a_file_that_cannot_be_read_is_one_clear_error():
    def fail(tally: Tally):
        raise PermissionError(13, "Permission denied", "events.csv")

    source = Source("general", (), fail, fail)

    with pytest.raises(InvalidInput, match=r"mine cannot be read: .*events\.csv.* its rights"):
        read(source, "mine")
