"""`freshet data` as a person or a script uses it."""

import json

import pytest
from typer.testing import CliRunner

from infra.datasets.commands import app
from protos.errors import NotReady

EVENTS = "user_id,item_id,event_time_ms,action\nu,a,1000,like\nu,b,3000,view\nv,a,x,view\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FRESHET_DATA", raising=False)
    monkeypatch.delenv("FRESHET_STATE", raising=False)
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "events.csv").write_text(EVENTS)
    (tmp_path / "shop" / "items.csv").write_text("item_id,title\na,A\n")
    return tmp_path


def run(*words: str) -> str:
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_inspect_counts_and_shows_bad_rows_as_json(folder):
    record = json.loads(run("inspect", "shop", "--json"))

    assert (record["n_events"], record["n_users"], record["n_items"]) == (2, 1, 1)
    assert (record["first_event_ms"], record["last_event_ms"]) == (1000, 3000)
    assert record["longest_history"] == 2
    assert record["n_events_without_item"] == 1
    assert record["n_events_by_action"] == {"like": 1, "view": 1}
    assert record["report"]["events"]["bad"] == [
        {
            "file": "events.csv",
            "line": 4,
            "reason": "event_time_ms is not a whole number of milliseconds",
            "text": "v,a,x,view",
        }
    ]


def test_inspect_shows_the_same_to_people(folder):
    shown = run("inspect", "shop")

    assert "1970-01-01 00:00:03" in shown
    assert "3 rows read, 2 kept, 0 filtered by rule, 1 unreadable" in shown
    assert "events.csv:4:" in shown


def test_inspect_of_an_empty_file_counts_nothing(folder):
    (folder / "events.csv").write_text("user_id,item_id,event_time_ms\n")

    record = json.loads(run("inspect", "events.csv", "--json"))

    assert (record["n_events"], record["longest_history"]) == (0, 0)
    assert record["first_event_ms"] is None


@pytest.mark.parametrize("file_format", ["parquet", "csv", "jsonl"])
def test_convert_writes_what_inspect_reads(folder, file_format):
    run("convert", "shop", "out", "--format", file_format)

    record = json.loads(run("inspect", "out", "--json"))

    assert record["n_events"] == 2
    assert record["report"]["events"]["n_bad"] == 0
    assert (folder / "out" / f"items.{file_format}").stat().st_mode & 0o777 == 0o644


def test_list_says_where_each_known_data_set_is(folder):
    (folder / "data" / "ml-1m").mkdir(parents=True)

    rows = {row["name"]: row for row in json.loads(run("list", "--json", "--data", "data"))}

    assert rows["ml-1m"]["path"] == "data/ml-1m"
    assert rows["ml-100k"]["path"] is None
    assert "missing" in run("list")


def test_a_missing_data_set_is_the_error_of_the_command(folder):
    with pytest.raises(NotReady, match="freshet data fetch ml-100k"):
        CliRunner().invoke(app, ["inspect", "ml-100k"], catch_exceptions=False)
