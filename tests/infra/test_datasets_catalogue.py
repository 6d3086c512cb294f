import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.datasets.catalogue import CATALOGUE_SCHEMA, find_catalogue, read_catalogue
from infra.datasets.report import Tally
from infra.datasets.writing import write_table
from protos.errors import InvalidInput

FULL = {
    "item_id": "1",
    "title": "Alien",
    "text": "In space",
    "categories": ["horror", "space"],
    "created_at_ms": 9,
    "available": False,
    "popularity": 2.5,
    "attributes": '{"brand": "Fox, \\"20th\\"", "price": 9.5, "used": true}',
}
PLAIN = {
    "item_id": "2",
    "title": "Heat",
    "text": "Heat",
    "categories": [],
    "created_at_ms": None,
    "available": None,
    "popularity": None,
    "attributes": None,
}


def read(path):
    """Return the rows of a file, and the reasons of those that it lost, by line."""
    tally = Tally()
    rows = [row for batch in read_catalogue(path, tally) for row in batch.to_pylist()]
    return rows, {bad.line: bad.reason for bad in tally.report().bad}


def write(path, *lines):
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_what_is_written_is_read_again(tmp_path, suffix):
    batch = pa.RecordBatch.from_pylist([FULL, PLAIN], CATALOGUE_SCHEMA)

    path = write_table(CATALOGUE_SCHEMA, [batch], tmp_path / f"items{suffix}")

    assert read(path) == ([FULL, PLAIN], {})


def test_json_lines_have_attributes_as_objects(tmp_path):
    batch = pa.RecordBatch.from_pylist([FULL], CATALOGUE_SCHEMA)

    path = write_table(CATALOGUE_SCHEMA, [batch], tmp_path / "items.jsonl")

    assert json.loads(path.read_text())["attributes"]["price"] == 9.5


def test_attributes_of_a_plain_table_are_columns_that_name_their_kind(tmp_path):
    path = write(
        tmp_path / "items.csv",
        "item_id,title,number.price,text.brand,flag.used,attributes",
        '1,Alien,9.50,0815,True,"{""size"": 3}"',
        "2,Heat,,,,",
        "3,Up,,,0,",
    )

    rows, lost = read(path)

    given = [row["attributes"] and json.loads(row["attributes"]) for row in rows]
    assert given == [
        {"size": 3.0, "price": 9.5, "brand": "0815", "used": True},
        None,
        {"used": False},
    ]
    assert not lost


def test_parquet_columns_keep_their_kinds(tmp_path):
    table = pa.table(
        {
            "item_id": [1, 2],
            "title": ["Alien", None],
            "text": [None, "Only a text"],
            "available": [True, False],
            "number.price": [9.5, float("nan")],
            "flag.used": [None, True],
        }
    )
    pq.write_table(table, tmp_path / "items.parquet")

    rows, lost = read(tmp_path / "items.parquet")

    assert [row["available"] for row in rows] == [True, False]
    assert [row["attributes"] for row in rows] == ['{"price": 9.5}', '{"used": true}']
    assert [(row["title"], row["text"]) for row in rows] == [
        ("Alien", "Alien"),
        ("", "Only a text"),
    ]
    assert not lost


def test_a_row_that_does_not_fit_is_lost_alone_and_says_why(tmp_path):
    path = write(
        tmp_path / "items.csv",
        "item_id,title,available,popularity,attributes,number.price",
        "1,ok,,,,",
        "2,,,,,",
        "3,t,perhaps,,,",
        "4,t,,much,,",
        '5,t,,,"[1]",',
        '6,t,,,"{""a"": [1]}",',
        '7,t,,,"{""a"": NaN}",',
        '8,t,,,"{""a"": ""\\ud800""}",',
        '9,t,,,"{""price"": 1}",2',
        "10,t,,,,cheap",
        "1,again,,,,",
        '11,t,,,"{""a"": null}",',
    )

    rows, lost = read(path)

    not_attributes = "attributes is not a JSON object of texts, finite numbers, true and false"
    assert [row["item_id"] for row in rows] == ["1"]
    assert lost == {
        3: "title and text are empty: a model could read nothing of it",
        4: "available is neither true nor false",
        5: "popularity is not a number",
        6: not_attributes,
        7: not_attributes,
        8: not_attributes,
        9: not_attributes,
        10: "attribute price is given twice",
        11: "number.price is not a number",
        12: "item_id appears a second time",
        13: not_attributes,
    }


def test_a_line_of_json_with_an_unfit_value_is_lost_alone(tmp_path):
    path = write(
        tmp_path / "items.jsonl",
        '{"item_id": 1, "title": "t", "available": true, "attributes": {"a": 1e400}}',
        '{"item_id": 2, "title": true}',
        '{"item_id": 3, "title": "t", "attributes": "\\ud800"}',
        '{"item_id": 4, "title": "t", "attributes": {"a": {"b": 1}}}',
        '{"item_id": 5, "title": "t", "available": 1, "attributes": {"a": 1%s}}' % ("0" * 400),
        '{"item_id": 6, "title": "t", "available": false}',
    )

    rows, lost = read(path)

    assert [(row["item_id"], row["available"]) for row in rows] == [("6", False)]
    assert sorted(lost) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("title", "no column item_id"),
        ("item_id,Title", "no column title"),
        ("item_id,title,text.a,text.a", "column text.a twice"),
    ],
)
def test_a_file_without_the_needed_columns_is_refused_whole(tmp_path, header, words):
    with pytest.raises(InvalidInput, match=words):
        read(write(tmp_path / "items.csv", header))


def test_a_folder_means_its_one_file_of_items(tmp_path):
    path = write(tmp_path / "items.csv", "item_id,title")
    assert find_catalogue(tmp_path) == find_catalogue(path) == path

    write(tmp_path / "items.jsonl", "{}")
    with pytest.raises(InvalidInput, match=r"items\.csv and items\.jsonl; name one"):
        find_catalogue(tmp_path)


def test_where_there_is_no_catalogue_the_next_step_is_said(tmp_path):
    with pytest.raises(InvalidInput, match="freshet replay DATA --items-only"):
        find_catalogue(tmp_path)
    with pytest.raises(InvalidInput, match=r"give a file, or a folder with one of items\.parquet"):
        find_catalogue(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "words"),
    [("a.xml", "ends in none of"), ("taken.csv", "there already"), ("no/a.csv", "no folder")],
)
def test_a_file_that_cannot_be_written_is_refused_first(tmp_path, name, words):
    write(tmp_path / "taken.csv", "mine")

    with pytest.raises(InvalidInput, match=words):
        write_table(CATALOGUE_SCHEMA, [], tmp_path / name)

    assert (tmp_path / "taken.csv").read_text() == "mine\n"
