"""The general form: what is read, what is refused, and that what is written is read again."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.datasets import EVENTS_SCHEMA, ITEMS_SCHEMA, Dataset, DatasetReport, ImportReport, load
from infra.datasets import delimited as delimited_module
from infra.datasets.chunks import CHUNK_ROWS
from infra.datasets.writing import FORMATS, write
from protos.errors import InvalidInput


def bad_rows(report: ImportReport) -> list[tuple[int, str]]:
    return [(row.line, row.reason) for row in report.bad]


def test_csv_columns_are_found_by_name_and_the_optional_ones_may_be_absent(tmp_path):
    (tmp_path / "events.csv").write_text(
        "shop,event_time,item_id,user_id\nx,2024-05-01T12:00:00+02:00,i,u\nx,2024-05-01 10:00,i,u\n"
    )
    (tmp_path / "items.csv").write_text('title,item_id,categories\n"A\nB",i,x|y\n')

    dataset = load(str(tmp_path))

    assert dataset.events["event_time_ms"].to_pylist() == [1714557600000, 1714557600000]
    assert dataset.events["action"].to_pylist() == ["view", "view"]
    assert dataset.items.to_pylist() == [
        {
            "item_id": "i",
            "title": "A\nB",
            "text": "A\nB x y",
            "categories": ["x", "y"],
            "created_at_ms": None,
        }
    ]


def test_every_broken_csv_row_is_reported_and_the_others_are_kept(tmp_path):
    rows = [
        b"user_id,item_id,event_time_ms,action,value",
        b"u,i,1,like,",
        b"u,i,1",
        b"u,i,soon,like,",
        b",i,1,like,",
        b"u,,1,like,",
        b"u,i,,like,",
        b"u,i,1,lick,",
        b"u,i,1,like,much",
        b"u,\xff\xfe,1,like,",
        b"u," + b"x" * 257 + b",1,like,",
        b"u,i,1.5,like,",
        b"u,i,2,,0.5",
    ]
    (tmp_path / "events.csv").write_bytes(b"\n".join(rows) + b"\n")

    dataset = load(str(tmp_path))

    assert dataset.events["event_time_ms"].to_pylist() == [1, 2]
    assert dataset.events["action"].to_pylist() == ["like", "view"]
    assert bad_rows(dataset.report.events) == [
        (3, "wrong number of columns (expected 5)"),
        (4, "event_time_ms is not a whole number of milliseconds"),
        (5, "user_id is empty"),
        (6, "item_id is empty"),
        (7, "no event_time_ms"),
        (8, "action is none of impression, view, click, play, like, purchase, dismiss"),
        (9, "value is not a number"),
        (10, "not valid UTF-8"),
        (11, "item_id is longer than 256 bytes"),
        (12, "event_time_ms is not a whole number of milliseconds"),
    ]
    assert dataset.report.events.bad[7].text == "u,\\udcff\\udcfe,1,like,"
    assert dataset.report.events.n_read == 12
    assert dataset.report.remarks()[-1].startswith("10 of 12 events cannot be read")


def test_a_quote_that_is_never_closed_costs_one_row(tmp_path):
    lines = ["user_id,item_id,event_time_ms", 'u,"i,1', *[f"u,i,{n}" for n in range(2, 50_000)]]
    (tmp_path / "events.csv").write_text("\n".join(lines) + "\n")

    dataset = load(str(tmp_path))

    assert dataset.report.events.n_bad == 1
    assert dataset.report.events.bad[0].line == 2
    assert dataset.events["event_time_ms"].to_pylist() == list(range(2, 50_000))


def test_lines_are_counted_as_an_editor_counts_them(tmp_path):
    (tmp_path / "items.csv").write_text(
        'item_id,title,text\na,A,"one\ntwo"\n\nb,B,"x"y\nc,C,t\nc,C,t\n'
    )
    (tmp_path / "events.csv").write_text("user_id,item_id,event_time_ms\n")

    dataset = load(str(tmp_path))

    assert dataset.items["item_id"].to_pylist() == ["a", "c"]
    assert [line for line, _ in bad_rows(dataset.report.items)] == [5, 7]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".dat"])
def test_a_line_too_long_to_hold_is_given_up_alone(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(delimited_module, "MAX_LINE_CHARS", 64)
    good = {
        ".csv": "u,i,1",
        ".jsonl": '{"user_id": "u", "item_id": "i", "event_time_ms": 1}',
        ".dat": "u::i::5::1",
    }[suffix]
    header = "user_id,item_id,event_time_ms\n" if suffix == ".csv" else ""
    name = "ratings.dat" if suffix == ".dat" else f"events{suffix}"
    (tmp_path / name).write_text(header + f"{good}\n{'x' * 500}\n{good}\n")

    dataset = load(str(tmp_path))

    assert dataset.events.num_rows == 2
    assert dataset.report.events.bad[0].line == (3 if header else 2)
    assert dataset.report.events.bad[0].reason == "line is longer than 1048576 characters"


def test_every_broken_json_line_is_reported_and_the_others_are_kept(tmp_path):
    good = {"user_id": 7, "item_id": "i", "event_time_ms": 5, "value": 1e-3, "extra": {}}
    lines = [
        json.dumps(good).encode(),
        b"{",
        b"[1]",
        json.dumps(good | {"user_id": 7.0}).encode(),
        json.dumps(good | {"item_id": ["i"]}).encode(),
        json.dumps(good | {"value": True}).encode(),
        b'{"user_id": "u", "item_id": "i", "event_time_ms": 1, "value": NaN}',
        b'{"user_id": "\xff", "item_id": "i", "event_time_ms": 1}',
        b'{"user_id": "\\ud800", "item_id": "i", "event_time_ms": 1}',
        b"",
        b'{"user_id": "u", "item_id": "i"}',
        b"[" * 100_000,
    ]
    (tmp_path / "events.jsonl").write_bytes(b"\n".join(lines))

    dataset = load(str(tmp_path))

    assert dataset.events.to_pylist() == [
        {"user_id": "7", "item_id": "i", "event_time_ms": 5, "action": "view", "value": 1e-3}
    ]
    assert bad_rows(dataset.report.events) == [
        (2, "not valid JSON"),
        (3, "not a JSON object"),
        (4, "user_id is neither text nor a whole number"),
        (5, "item_id is neither text nor a number"),
        (6, "value is neither text nor a number"),
        (7, "not valid JSON"),
        (8, "not valid UTF-8"),
        (9, "not valid UTF-8"),
        (11, "no event_time_ms and no event_time"),
        (12, "not valid JSON"),
    ]


def test_json_categories_are_a_list_or_a_text(tmp_path):
    rows = [
        {"item_id": "a", "title": "A", "categories": ["x|y", ""]},
        {"item_id": "b", "title": "B", "categories": "x|y", "created_at": "1970-01-01T00:00:01Z"},
        {"item_id": "c", "title": "C", "categories": [1]},
    ]
    (tmp_path / "items.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "events.jsonl").write_text("")

    dataset = load(str(tmp_path))

    assert dataset.items["categories"].to_pylist() == [["x|y"], ["x", "y"]]
    assert dataset.items["created_at_ms"].to_pylist() == [None, 1000]
    assert dataset.report.items.n_bad == 1


def test_parquet_types_of_other_writers_are_understood(tmp_path):
    table = pa.table(
        {
            "user_id": pa.array([1, 2, None], pa.int32()),
            "item_id": pa.array(["a", "b", "c"]).dictionary_encode(),
            "event_time": pa.array([1_000_000, 2_000_999, 3], pa.timestamp("us", "Asia/Tokyo")),
            "value": pa.array([float("nan"), 2, 3], pa.float32()),
        }
    )
    pq.write_table(table, tmp_path / "events.parquet")

    dataset = load(str(tmp_path))

    assert dataset.events["event_time_ms"].to_pylist() == [1000, 2000]
    assert dataset.events["value"].to_pylist() == [None, 2.0]
    assert bad_rows(dataset.report.events) == [(3, "user_id is empty")]


def test_parquet_texts_that_are_not_utf8_are_reported_by_row(tmp_path):
    raw = pa.array([b"a", b"\xff", b"c"])
    for ids in (raw, raw.view(pa.string())):
        table = pa.table({"user_id": ids, "item_id": ["i"] * 3, "event_time_ms": [1, 2, 3]})
        pq.write_table(table, tmp_path / "events.parquet")

        dataset = load(str(tmp_path))

        assert dataset.events["user_id"].to_pylist() == ["a", "c"]
        assert bad_rows(dataset.report.events) == [(2, "not valid UTF-8")]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pa.table({"user_id": [1.0], "item_id": [1], "event_time_ms": [1]}), "user_id is double"),
        (pa.table({"user_id": [1], "event_time_ms": [1]}), "has no column item_id"),
        (pa.table({"user_id": [1], "item_id": [1]}), "has no column event_time_ms"),
        (pa.table({"user_id": [{"x": 1}], "item_id": [1], "event_time_ms": [1]}), "user_id is st"),
    ],
)
def test_a_parquet_file_whose_columns_do_not_fit_is_refused(tmp_path, table, message):
    pq.write_table(table, tmp_path / "events.parquet")

    with pytest.raises(InvalidInput, match=message):
        load(str(tmp_path))


def test_a_file_that_is_no_parquet_is_refused(tmp_path):
    (tmp_path / "events.parquet").write_text("hello")

    with pytest.raises(InvalidInput, match="not a readable Parquet file"):
        load(str(tmp_path))


def test_rows_of_many_chunks_keep_their_order_and_their_lines(tmp_path):
    n_rows = 2 * CHUNK_ROWS + 10
    lines = [f"u,i{n},{n}" for n in range(n_rows)]
    lines[CHUNK_ROWS + 5] = "u,i,never"
    (tmp_path / "events.csv").write_text("user_id,item_id,event_time_ms\n" + "\n".join(lines))

    dataset = load(str(tmp_path))

    times = dataset.events["event_time_ms"].to_pylist()
    assert times == [n for n in range(n_rows) if n != CHUNK_ROWS + 5]
    assert dataset.report.events.bad[0].line == CHUNK_ROWS + 5 + 2  # one header, lines from 1


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
ids = texts.filter(lambda text: len(text.encode()) <= 256)
times_ms = st.integers(0, 253_402_300_799_999)
actions = st.sampled_from(["view", "click", "play", "like", "purchase", "dismiss", "impression"])
values = st.none() | st.floats(allow_nan=False, allow_infinity=False)
events = st.lists(st.tuples(ids, ids, times_ms, actions, values), max_size=8)
tags = texts.filter(lambda text: "|" not in text)
items = st.lists(
    st.tuples(ids, texts, texts, st.lists(tags, max_size=3), st.none() | times_ms),
    max_size=8,
    unique_by=lambda item: item[0],
)


def table_of(rows: list[tuple], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pylist(
        [dict(zip(schema.names, row, strict=True)) for row in rows], schema=schema
    )


def dataset_of(event_rows: list[tuple], item_rows: list[tuple]) -> Dataset:
    report = DatasetReport(ImportReport(), ImportReport())
    return Dataset(
        "made", table_of(event_rows, EVENTS_SCHEMA), table_of(item_rows, ITEMS_SCHEMA), report
    )


@pytest.mark.parametrize("file_format", FORMATS)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(event_rows=events, item_rows=items)
def test_what_is_written_is_read_again(tmp_path_factory, file_format, event_rows, item_rows):
    folder = tmp_path_factory.mktemp("round")
    made = dataset_of(event_rows, item_rows)

    write(made, folder, file_format)
    again = load(str(folder))

    assert again.report.n_bad == 0
    assert again.events.equals(made.events)
    assert again.items.equals(made.items)


def test_a_category_with_the_separator_cannot_become_csv(tmp_path):
    made = dataset_of([], [("i", "t", "t", ["a|b"], None)])

    with pytest.raises(InvalidInput, match="choose jsonl or parquet"):
        write(made, tmp_path, "csv")

    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_a_data_set_is_not_overwritten(tmp_path: Path):
    write(dataset_of([], []), tmp_path, "csv")

    with pytest.raises(InvalidInput, match="is there already"):
        write(dataset_of([], []), tmp_path, "parquet")
