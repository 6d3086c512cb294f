"""MovieLens, RecBole and Online Retail on small files written here, broken rows included."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.datasets import EVENTS_SCHEMA, ITEMS_SCHEMA, BadRow, load
from infra.datasets.report import Tally
from protos.errors import InvalidInput


def write(folder: Path, name: str, text: str, encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


MOVIES = "1::Toy Story (1995)::Animation|Children's|Comedy\n2::Misérables, Les (1995)::Drama\n"
RETAIL_HEADER = (
    "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
)


def test_movielens_ratings_become_likes_and_views_in_the_order_of_the_file(tmp_path):
    write(tmp_path, "ratings.dat", "1::2::4::978300760\n1::1::3::978302109\n")
    write(tmp_path, "movies.dat", MOVIES, "latin-1")

    dataset = load(str(tmp_path))

    assert dataset.events.schema == EVENTS_SCHEMA
    assert dataset.events.to_pydict() == {
        "user_id": ["1", "1"],
        "item_id": ["2", "1"],
        "event_time_ms": [978300760 * 1000, 978302109 * 1000],
        "action": ["like", "view"],
        "value": [4.0, 3.0],
    }


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
def test_movielens_items_read_as_one_text_in_either_encoding(tmp_path, encoding):
    write(tmp_path, "ratings.dat", "")
    write(tmp_path, "movies.dat", MOVIES, encoding)

    items = load(str(tmp_path)).items

    assert items.schema == ITEMS_SCHEMA
    assert items["text"].to_pylist() == [
        "Toy Story (1995) Animation Children's Comedy",
        "Misérables, Les (1995) Drama",
    ]
    assert items["title"][0].as_py() == "Toy Story (1995)"
    assert items["categories"][0].as_py() == ["Animation", "Children's", "Comedy"]


def test_every_broken_rating_is_reported_with_its_line_and_reason(tmp_path):
    rows = [
        "1::1::5::978300760",
        "1::1::5",
        "1::1::5::yesterday",
        "::1::5::978300760",
        f"1::{'x' * 257}::5::978300760",
        "",
        "1::1::five::978300760",
        "1::1::5::99978300760000",
        f"{'é' * 128}::1::5::978300760",
    ]
    write(tmp_path, "ratings.dat", "\r\n".join(rows))

    report = load(str(tmp_path)).report.events

    assert [(row.line, row.reason) for row in report.bad] == [
        (2, "wrong number of columns (expected 4)"),
        (3, "timestamp is not a number"),
        (4, "user_id is empty"),
        (5, "item_id is longer than 256 bytes"),
        (7, "rating is not a number"),
        (8, "timestamp is not between 1970 and 9999"),
    ]
    assert report.bad[1] == BadRow(
        "ratings.dat", 3, "timestamp is not a number", "1::1::5::yesterday"
    )
    assert (report.n_read, report.n_kept, report.n_bad) == (8, 2, 6)


def test_an_item_that_comes_twice_is_kept_once_and_reported(tmp_path):
    write(tmp_path, "ratings.dat", "")
    write(tmp_path, "movies.dat", "1::A::Drama\n1::B::Drama\n2::::Drama\n2::C::\n")

    dataset = load(str(tmp_path))

    assert dataset.items["title"].to_pylist() == ["A", "C"]
    assert [(row.line, row.reason) for row in dataset.report.items.bad] == [
        (2, "item_id appears a second time"),
        (3, "title is empty"),
    ]


def test_positions_instead_of_timestamps_keep_the_order_and_say_so(tmp_path):
    table = pa.table({"user_id": [7, 7], "item_id": [1, 2], "position": [0, 3], "rating": [5, 1]})
    pq.write_table(table, tmp_path / "events.parquet")
    write(tmp_path, "movies.dat", MOVIES, "latin-1")

    dataset = load(str(tmp_path))

    first, second = dataset.events["event_time_ms"].to_pylist()
    assert second - first == 3 * 60_000
    assert dataset.events["user_id"].to_pylist() == ["7", "7"]
    assert dataset.items.num_rows == 2
    assert "times are made up" in dataset.report.notes[0]


INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
ITEM = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"


def test_recbole_files_are_read_by_the_names_in_their_header(tmp_path):
    write(tmp_path, "ml.inter", INTER + "196\t242\t3\t881250949\n186\t242\t4.5\t8.91717742e8\n")
    write(tmp_path, "ml.item", ITEM + "242\tKolya\t1996\tComedy\n267\tunknown\tunknown\tunknown\n")

    dataset = load(str(tmp_path))

    assert dataset.events["event_time_ms"].to_pylist() == [881250949 * 1000, 891717742 * 1000]
    assert dataset.events["action"].to_pylist() == ["view", "like"]
    assert dataset.items["title"].to_pylist() == ["Kolya (1996)", "unknown"]
    assert dataset.items["text"].to_pylist() == ["Kolya (1996) Comedy", "unknown unknown"]


def test_recbole_interactions_without_a_rating_are_views_without_a_value(tmp_path):
    write(tmp_path, "x.inter", "item_id:token\tuser_id:token\ttimestamp:float\nb\ta\t1.5\n")

    (event,) = load(str(tmp_path / "x.inter")).events.to_pylist()

    assert event == {
        "user_id": "a",
        "item_id": "b",
        "event_time_ms": 1500,
        "action": "view",
        "value": None,
    }


def test_recbole_broken_rows_are_reported_and_quotes_mean_nothing(tmp_path):
    rows = ['"a\tb"\t3\t1', "a\t\t3\t1", "a\tb\t3", "a\tb\tnan\t1", "a\tb\t3\t-1"]
    write(tmp_path, "x.inter", INTER + "\n".join(rows) + "\n")

    dataset = load(str(tmp_path))

    assert dataset.events["user_id"].to_pylist() == ['"a']
    assert [(row.line, row.reason) for row in dataset.report.events.bad] == [
        (3, "item_id is empty"),
        (4, "wrong number of columns (expected 4)"),
        (5, "rating is not a number"),
        (6, "timestamp is not between 1970 and 9999"),
    ]


def test_a_missing_column_stops_the_import_and_is_named(tmp_path):
    write(tmp_path, "x.inter", "user_id:token\titem_id:token\n1\t2\n")

    with pytest.raises(InvalidInput, match="has no column timestamp"):
        load(str(tmp_path))


def test_retail_rows_without_a_customer_or_a_purchase_are_filtered_not_bad(tmp_path):
    day = [
        '1,85123A,"HEART, ""RED""",6,2010-12-01 08:26:00,2.55,17850.0,UK',
        "2,22633,WARMER,6,2010-12-01 08:28:00,1.85,,UK",
        "3,22633,WARMER,-1,2010-12-01 08:28:00,1.85,17850.0,UK",
        "4,22633,WARMER,many,2010-12-01 08:28:00,1.85,17850.0,UK",
        "5,22633,WARMER,1,the first,1.85,17850.0,UK",
    ]
    write(tmp_path, "2010-12-01.csv", RETAIL_HEADER + "\n".join(day) + "\n")
    write(
        tmp_path, "2010-12-02.csv", RETAIL_HEADER + "6,22633, MUG ,2,2010-12-02 09:00:00,1,13047,UK"
    )

    dataset = load(str(tmp_path))

    report = dataset.report.events
    assert report.filtered_by_rule == {"no CustomerID": 1, "Quantity <= 0": 1}
    assert [(row.file, row.line, row.reason) for row in report.bad] == [
        ("2010-12-01.csv", 5, "Quantity is not a number"),
        ("2010-12-01.csv", 6, "InvoiceDate is not ISO 8601"),
    ]
    assert report.n_read == 6 == report.n_kept + report.n_filtered + report.n_bad
    assert dataset.events.to_pydict() == {
        "user_id": ["17850", "13047"],
        "item_id": ["85123A", "22633"],
        "event_time_ms": [1291191960000, 1291280400000],
        "action": ["purchase", "purchase"],
        "value": [2.55, 1.0],
    }
    assert dataset.items["text"].to_pylist() == ['HEART, "RED"', "MUG"]


def test_a_retail_item_is_called_what_its_purchases_call_it_most(tmp_path):
    names = ["", "?", "WHITE MUG", "WHITE MUG"]
    rows = [f"1,22,{name},1,2010-12-01 08:26:00,1,5,UK" for name in names]
    rows.append("1,23,,1,2010-12-01 08:26:00,1,5,UK")
    write(tmp_path, "2010-12-01.csv", RETAIL_HEADER + "\n".join(rows))

    items = load(str(tmp_path)).items

    assert dict(zip(*items.select(["item_id", "title"]).to_pydict().values(), strict=True)) == {
        "22": "WHITE MUG",
        "23": "23",
    }


def test_only_the_first_bad_rows_are_kept_but_all_are_counted():
    tally = Tally(max_kept=2)

    tally.reject(BadRow("f", line, "broken", "") for line in range(5))

    assert tally.report().n_bad == 5
    assert tally.report().bad_by_reason == {"broken": 5}
    assert [row.line for row in tally.report().bad] == [0, 1]
