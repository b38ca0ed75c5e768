"""`kedro new-log` on files like those of public logs: what it guesses, and that ingestion reads them so."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import polars as pl
import pytest
import yaml
from click.testing import CliRunner

from ingestion_run import counts, run_ingestion
from kedro_provenance.session import CachingConfigLoader
from layouts import LAYOUTS
from projects import ROOT, copy_code
from public_logs import LOGS, names, write
from reclora_kedro import cli
from reclora_kedro.history import suiting
from reclora_kedro.history.config import HistoryConfig
from reclora_kedro.history.suiting import settings_for
from reclora_kedro.ingestion import tables
from reclora_kedro.ingestion.guess import read_raw_tables
from reclora_kedro.ingestion.guess_tables import Guess, guess
from reclora_kedro.new_log import command, environment
from reclora_kedro.new_log.environment import description, environment_files, write_environment
from reclora_kedro.settings import CONFIG_LOADER_ARGS

ROWS = ["place"]  # numbers of rows, in place of times


class Expected(NamedTuple):
    """What is guessed of a log, how many rows of it are left, its first item, and how many questions are asked."""

    columns: tuple[str, str, list[str], str]  # of users, items and times, and the format of these
    rows: int
    item: tuple[Any, ...]
    drop: dict[str, Any] | None = None
    rating: tuple[str, tuple[float, float], float] | None = None
    profile: tuple[str, ...] = ()
    asked: int = 0


EXPECTED = {
    "online_retail": Expected(
        ("CustomerID", "StockCode", ["InvoiceDate"], "%m/%d/%Y %H:%M"),
        527,
        ("20000A", "RED LAMP, Ø 12"),
        drop={"InvoiceNo": {"starts_with": ["C"]}, "Quantity": {"at_most": 0}},
        profile=("country",),
        asked=1,  # whether quantities count
    ),
    "steam": Expected(
        ("column_1", "column_2", ROWS, "unix_seconds"), 600, ("Golden Castle, The Game",) * 2, asked=1
    ),  # whether hours of play count, too
    "yelp": Expected(
        ("user_id", "business_id", ["date"], "%Y-%m-%d %H:%M:%S"),
        600,
        (f"b-{0:019}", "Red Lamp", "Phoenix", "AZ", "Restaurants, Thai, Bars"),
        rating=("stars", (1, 5), 4),
    ),
    "book_crossing": Expected(
        ("User-ID", "ISBN", ROWS, "unix_seconds"),
        275,
        ("0345000000X", "Red Lamp", "Author 0", "1980", "Publisher 0"),
        drop={"Book-Rating": [0]},
        rating=("Book-Rating", (1, 10), 8),
        profile=("location", "age"),
    ),
    "last_fm": Expected(
        ("column_1", "column_3", ["column_2"], "%Y-%m-%dT%H:%M:%S%z"),
        575,
        ("00000000-cb69-4ae3-a3be-000000000000", "The Red Lamp"),
        profile=("gender", "age", "country"),
        asked=1,  # whether artists or tracks
    ),
    "retail_rocket": Expected(
        ("visitorid", "itemid", ["timestamp"], "unix_milliseconds"), 600, (355_908, "355908", "1338"), asked=1
    ),  # which events count
    "food_com": Expected(
        ("user_id", "recipe_id", ["date"], "%Y-%m-%d"),
        523,
        (
            *(40_893, "red lamp", "15-minutes-or-less, occasion, drama", "salt, egg, olive oil"),
            "my red lamp is a dish that my mother's cousin made every winter, and it is number 0",
        ),
        drop={"rating": [0]},
        rating=("rating", (1, 5), 4),
    ),
    "anime": Expected(
        ("user_id", "anime_id", ROWS, "unix_seconds"),
        467,
        (20, "Red Lamp", "Drama", "TV"),
        drop={"rating": [-1]},
        rating=("rating", (1, 10), 8),
    ),
    "h_and_m": Expected(
        ("customer_id", "article_id", ["t_dat"], "%Y-%m-%d"),
        599,
        (
            *("0663713001", "Red Lamp", "Vest top", "Black"),
            "Red Lamp in soft jersey with narrow shoulder straps, number 0.",
        ),
        profile=("fashion_news_frequency",),
    ),
    "kuai_rand": Expected(("user_id", "video_id", ["time_ms"], "unix_milliseconds"), 600, (0, "0", "NORMAL", "0, 0")),
    "instacart": Expected(("user_id", "product_id", ["order_number"], "unix_seconds"), 589, (196, "Red Lamp")),
    "multi_category_store": Expected(
        ("user_id", "product_id", ["event_time"], "%Y-%m-%d %H:%M:%S%z"),
        480,
        (44_600_062, "44600062", None, "brand0"),
        drop={"event_type": ["remove_from_cart"]},
        asked=1,  # which events count
    ),
    "netflix": Expected(
        ("column_2", "column_1", ["column_4"], "%Y-%m-%d"),
        599,
        (1, "Red Lamp, the Sequel"),
        rating=("column_3", (1, 5), 4),
    ),
    "olist": Expected(
        ("customer_id", "product_id", ["order_purchase_timestamp"], "%Y-%m-%d %H:%M:%S"),
        574,
        ("4244733e-00000000", "4244733e-00000000", "perfumaria"),
        drop={"order_status": ["canceled"]},
    ),
    "shop": Expected(
        ("customer", "sku", ["order_date", "order_time"], "%d.%m.%Y %H:%M"),
        465,
        ("00000", "Red Lamp für dich", "Drama", "rot"),
        drop={"qty": {"at_most": 0}},
    ),
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with the configuration of the base, entered."""
    shutil.copytree(ROOT / "conf" / "base", tmp_path / "conf" / "base")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def guessed(paths: list[Path]) -> tuple[Guess, list[str]]:
    """The guess where every question is answered as guessed, and the questions."""
    questions = list[str]()

    def ask(question, answers, guessed):
        questions.append(question)
        return guessed

    return guess(read_raw_tables(paths), ask), questions


def write_guess(found: Guess, name: str, project: Path) -> None:
    write_environment(environment_files(found, name, project), project / "conf" / name)


@pytest.mark.parametrize("name", LOGS)
def test_guesses_what_a_public_log_holds(name, project):
    expected = EXPECTED[name]
    found, questions = guessed(LOGS[name](project)[::-1])  # in any order
    log = found.log
    assert (log.user, log.item, log.times, log.time_format) == expected.columns
    assert (log.rating and (log.rating, log.scale, log.threshold)) == expected.rating
    assert log.clicked == ("is_click" if name == "kuai_rand" else None)
    assert log.unknown_users == (["guest"] if name == "shop" else [])
    assert log.drop == (expected.drop or {})
    assert len(questions) == expected.asked
    assert not found.unused

    write_guess(found, name, project)
    catalog = run_ingestion(project / "conf", name)

    assert counts(catalog)["interactions"] == expected.rows
    assert catalog.load("items").row(0) == expected.item
    assert catalog.load("users").columns == ["user_id", *expected.profile]
    parameters = CachingConfigLoader(str(project / "conf"), env=name, **CONFIG_LOADER_ARGS)["parameters"]
    history = HistoryConfig(**parameters["history"])
    assert (history.negatives.kind == "matched") == (log.kind == "purchases")
    assert (history.split.kind == "per_user_last_out") == (log.times == ROWS or name == "instacart")
    has_titles = found.items is not None and found.items.title is not None
    assert parameters["lens"]["item_text"] == (log.kind == "purchases" and has_titles)


def json_lines(file, records):
    file.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    return file


DAYS = [f"2019-03-{n:02}" for n in range(1, 29)]
SHAPES = {
    "lists of items": lambda folder: [
        json_lines(
            folder / "baskets.json", ({"user_id": n, "items": [n, n + 1], "day": DAYS[n % 28]} for n in range(1, 9))
        ),
        write(folder / "items.csv", [["item_id", "name"], *([n, f"Film {n}"] for n in range(1, 10))]),
    ],
    "lists of items as text": lambda folder: [
        write(
            folder / "baskets.csv",
            [names("user_id,items,day"), *([n, f"['{n}', '2']", DAYS[n % 28]] for n in range(1, 9))],
        ),
        write(folder / "items.csv", [["item_id", "name"], *([n, f"Film {n}"] for n in range(1, 10))]),
    ],
    "impressions of a row": lambda folder: [
        write(
            folder / "behaviors.tsv",
            ([n, f"U{n % 3}", "11/13/2019 9:05:58 AM", "N1 N2", "N1-1 N2-0"] for n in range(9)),
            delimiter="\t",
        ),
        write(folder / "news.tsv", ([f"N{n}", "sports", f"Film {n} again"] for n in range(1, 4)), delimiter="\t"),
    ],
    "titles in the lines of orders": lambda folder: [
        write(
            folder / "orders.csv", [names("order_id,user_id,order_date"), *([n, n % 3, DAYS[n % 28]] for n in range(9))]
        ),
        write(
            folder / "lines.csv",
            [names("order_id,sku,product_name"), *([n // 2, 1 + n % 4, f"Film {1 + n % 4}"] for n in range(18))],
        ),
    ],
    "kinds as columns of 0 and 1": lambda folder: [
        write(folder / "plays.csv", [names("user_id,song_id,day"), *([n % 4, n % 6, DAYS[n % 28]] for n in range(12))]),
        write(
            folder / "songs.csv",
            [
                names("song_id,title,Pop,Jazz,Rock,Folk"),
                *([n, f"Film {n}", n % 2, n // 3, n // 5, 0] for n in range(6)),
            ],
        ),
    ],
    "an array of JSON": lambda folder: [
        json_lines(
            folder / "log.json", [[{"user": n % 4, "movie": f"Film {n % 3}", "at": DAYS[n % 28]} for n in range(1, 9)]]
        )
    ],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_reads_logs_of_other_shapes(shape, project):
    found, questions = guessed(SHAPES[shape](project))
    write_guess(found, "new", project)
    catalog = run_ingestion(project / "conf", "new")
    assert questions == []
    assert catalog.load("interactions").collect().height >= 6
    assert catalog.load("items")["title"].str.starts_with("Film ").all()
    if shape.startswith("kinds"):
        assert catalog.load("items")["kinds"].to_list() == [None, "Pop", None, "Pop, Jazz", "Jazz", "Pop, Jazz, Rock"]


class Read(NamedTuple):
    """What is read of a layout: its columns of users and items, rows that are left, the first title, and a note."""

    columns: tuple[str, str]
    rows: int
    title: str | None
    note: str = ""


READ = {
    "board_games": Read(("member", "game"), 597, "Red Lamp"),
    "news": Read(("column_2", "column_5"), 2_370, 'Red Lamp said "no'),
    "artists": Read(("userID", "artistID"), 600, '"Weird Al" Yankovic'),
    "old_mac": Read(("customer", "article"), 600, "Red Lamp"),
    "json_arrays": Read(("listener", "song"), 600, "Red Lamp"),
    "without_headers": Read(("column_1", "column_2"), 600, "Red Lamp"),
    "movies": Read(("column_1", "column_2"), 600, "Red Lamp (1940)"),
    "with_gaps": Read(("reviewer_id", "product_id"), 520, None, "stars: missing in 8.3% of the sample"),
    "no_goods": Read(("customer_id", "sku"), 815, "Red Lamp", "POST (POSTAGE), gift_0001_20 (Gift voucher 20.00)"),
    "accents": Read(("visitor", "page_id"), 600, "Red Lamp", "visitor: 40 ids, such as zoë0, occur in two encodings"),
    "two_keys": Read(("a", "b"), 598, "Red Lamp"),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_reads_layouts_that_new_users_came_with(name, project):
    paths = LAYOUTS[name](project)[::-1]
    if name == "json_object":  # the one that wants an edit: the message has the command
        with pytest.raises(ValueError, match=r"is one JSON object.*jq -c 'to_entries.* > products.jsonl`"):
            guessed(paths)
        return
    found, questions = guessed(paths)
    assert len(questions) == (name == "artists")  # whether plays count
    assert (found.log.user, found.log.item) == READ[name].columns
    assert not found.unused
    assert READ[name].note in str(description(found))
    write_guess(found, "new", project)
    catalog = run_ingestion(project / "conf", "new")
    assert counts(catalog)["interactions"] == READ[name].rows
    assert READ[name].title in (None, catalog.load("items")["title"][0])
    if name == "news":
        assert found.log.click_history == {"column": "column_4", "separator": " "}
    if name == "json_arrays":
        assert found.log.time_format == "unix_milliseconds"
    if name == "no_goods":
        parameters = yaml.safe_load((project / "conf/new/parameters.yml").read_text())
        assert "recommendation" not in parameters  # a question, which nobody answered
        excluded = environment_files(found, "new", project, ["POST"])["parameters.yml"]
        assert yaml.safe_load(excluded)["recommendation"]["exclude_items"] == ["POST"]


def test_purchases_with_titles_get_what_was_measured_best():
    best = yaml.safe_load((ROOT / "conf/amazon-beauty/parameters.yml").read_text())
    ours = yaml.safe_load(settings_for("purchases"))
    chosen_on_validation = "recommendation"
    left_out = ("ingestion", "black_box", chosen_on_validation)
    assert ours == {block: best[block] for block in best if block not in left_out}


def test_kinds_of_items_stand_in_for_titles_unless_they_have_many_items(project):
    orders = [names("household_id,product_id,day"), *([n % 9, n % 60, DAYS[n % 28]] for n in range(180))]
    products = [
        names("product_id,brand,product_type"),
        *([n, ["Own", "Old"][n % 2], f"Ice {n % 30}"] for n in range(60)),
    ]
    profiles = [names("household_id,household_size,kids_count"), *([n, n % 3, "3+"[n % 2 :]] for n in range(9))]
    tables = {"orders": orders, "products": products, "profiles": profiles}
    found, _ = guessed([write(project / f"{name}.csv", rows) for name, rows in tables.items()])
    assert found.items is not None
    assert found.users is not None
    assert ("title", "product_type (Ice 0, Ice 1), which items share") in description(found)
    assert [each["name"] for each in found.items.fields] == ["brand", "product_type"]
    assert [each["name"] for each in found.users.fields] == ["household_size", "kids_count"]
    write_guess(found, "shared", project)
    assert run_ingestion(project / "conf", "shared").load("items")["title"][:2].to_list() == ["Ice 0", "Ice 1"]
    few = [products[0], *([n, "Own", f"Ice {n % 2}"] for n in range(180))]
    found, _ = guessed([write(project / "orders.csv", orders), write(project / "products.csv", few)])
    assert found.items is not None
    assert found.items.title is None


def test_days_and_months_are_told_apart_or_asked_for(project):
    rows = [
        ["user_id", "item_id", "day"],
        *([user, item, f"0{item}/0{user}/2019"] for item in (1, 2, 3) for user in (1, 2, 3)),
    ]
    found, questions = guessed([write(project / "log.csv", rows)])
    assert questions == [
        "Column 'day' has 01/01/2019, 01/02/2019, 01/03/2019: which format?\n"
        "  %m/%d/%Y: 1 January 2019, 2 January 2019, 3 January 2019\n"
        "  %d/%m/%Y: 1 January 2019, 1 February 2019, 1 March 2019\n"
    ]
    assert found.log.time_format == "%m/%d/%Y"  # by which the rows are in order
    rows[1][2] = "31/01/2019"
    found, questions = guessed([write(project / "log.csv", rows)])
    assert (found.log.time_format, questions) == ("%d/%m/%Y", [])


def test_what_stands_late_in_a_long_file_is_seen(project, monkeypatch):
    monkeypatch.setattr(tables, "WHOLE", 1)
    monkeypatch.setattr(tables, "HEAD", 4_096)
    monkeypatch.setattr(tables, "PIECE", 512)
    rows = [["user_id", "item_id", "stars"], *([n % 90, n % 70, 1 + n % 5] for n in range(9_000))]
    log = write(project / "log.csv", [*rows[:-50], *([n % 90, f"A{n % 70}", 2 * (n % 6)] for n in range(50))])
    found, _ = guessed([log])
    assert found.log.table.sample.height < len(rows) / 2
    assert found.log.scale == (0, 10)
    write_guess(found, "new", project)
    assert counts(run_ingestion(project / "conf", "new"))["interactions"] > 7_000  # some are repeated


def test_an_array_of_json_is_read_by_all_of_its_records(project):
    items = [n // 20 if n < 150 else f"B{n // 20}" for n in range(300)]
    log = [{"user": 1 + n % 20, "item": item, "rating": 1 + n % 5, "at": DAYS[n % 28]} for n, item in enumerate(items)]
    log[-1] |= {"rating": 3.5}
    found, _ = guessed([json_lines(project / "log.json", [log])])
    write_guess(found, "new", project)
    read = run_ingestion(project / "conf", "new").load("interactions").collect()
    assert (read["rating"] == 3.5).sum() == 1
    assert {"3", "B9"} <= {*read["item_id"]}


def test_lines_of_json_may_be_blank_and_have_any_character_within(project):
    rows = [{"user": n % 9, "item": n % 7, "review": "good\u2028and\x85bad", "day": DAYS[n % 28]} for n in range(60)]
    (project / "log.jsonl").write_text("\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n\n")
    assert guessed([project / "log.jsonl"])[0].log.table.sample.height == 60


def test_a_field_may_be_long_and_begin_with_a_quotation_mark(project):
    rows = [names("user_id,item_id,day"), *([n % 9, n % 70, DAYS[n % 28]] for n in range(200))]
    items = "\n".join(f"{n}\tLamp number {n}" for n in range(9_000)).replace("\tLamp number 3\n", '\t"Lamp number 3\n')
    (project / "items.tsv").write_text(f"item_id\ttitle\n{items}\n")
    found, _ = guessed([write(project / "log.csv", rows), project / "items.tsv"])
    assert found.items is not None
    assert found.items.table.sample["title"][3] == '"Lamp number 3'
    reviews = [[*rows[0], "review"], *([*row, "x" * (200_000 if n == 5 else 9)] for n, row in enumerate(rows[1:]))]
    assert guessed([write(project / "log.csv", reviews)])[0].log.table.sample.height == 200


def test_columns_of_what_is_no_text_are_not_looked_into(project):
    rows = pl.DataFrame({"user_id": [n % 9 for n in range(60)], "item_id": [n % 7 for n in range(60)]}).with_columns(
        picture=pl.lit(b"\xff\xd8"),
        pictures=pl.lit([b"\xff\xd8"]),
        length=pl.duration(seconds="user_id"),
        day=pl.date(2019, 3, 1 + pl.int_range(60) % 28),
    )
    rows.write_parquet(project / "log.parquet")
    found, _ = guessed([project / "log.parquet"])
    assert ("not used", "of log.parquet: picture, pictures, length") in description(found)


BAD_FILES = {
    b"user_id,item_id\n": "has no row below its header",
    b"user_id,weight\n1,0.5\n2,0.7\n": "has no pair of columns with users and items",
    b"user_id,item_id,${conf:x}_rating\n1,2,3\n1,3,4\n2,2,5\n2,3,1\n": r"has '\$\{'.*\. Rename it",
}


@pytest.mark.parametrize(("content", "said"), BAD_FILES.items(), ids=[*BAD_FILES.values()])
def test_what_cannot_be_read_is_refused_before_anything_is_written(content, said, project):
    (project / "log").write_bytes(content)
    with pytest.raises(ValueError, match=said):
        write_guess(guessed([project / "log"])[0], "new", project)
    assert not (project / "conf" / "new").exists()


@pytest.mark.parametrize(
    "row",
    [
        lambda user, item: {"customer": {"id": user, "country": "DE"}, "sku": f"S{item}", "day": DAYS[user + item]},
        lambda user, item: {
            "user_id": user,
            "event_date": 20190301 + item,
            "items": [{"item_id": item, "name": "Lamp"}],
        },
    ],
)
def test_columns_of_records_are_refused_with_the_line_that_makes_columns_of_them(row, project):
    log = json_lines(project / "log.jsonl", (row(n % 9, n % 7) for n in range(60)))
    with pytest.raises(ValueError, match=r"olumns of records, (customer|items), have fields") as refused:
        guessed([log])
    exec(str(refused.value).split("`")[1], {"pl": pl})  # as typed in the folder of the file
    found, _ = guessed([project / "log-flat.parquet"])
    assert (found.log.user, found.log.item) in (("customer_id", "sku"), ("user_id", "items_item_id"))


def test_an_export_of_orders_is_read_by_its_customers_and_a_time_that_all_rows_have(project):
    rows = [["Name", "Email", "Paid at", "Created at", "Lineitem sku", "Lineitem name"]]
    for n in range(60):
        at = f"2024-01-{1 + n // 3:02} 10:00:00 +0100"
        rows.append([f"#{n // 2}", f"u{n // 2 % 8}@x.org", at if n % 2 else "", at, f"S{n % 7}", f"Red Lamp {n % 7}"])
    found, questions = guessed([write(project / "orders_export.csv", rows)])
    assert (found.log.user, found.log.item, found.log.times) == ("Email", "Lineitem sku", ["Created at"])
    assert found.items is not None
    assert found.items.title == "Lineitem name"
    assert questions == []


def test_titles_are_known_by_their_values_where_their_name_tells_nothing(project):
    log = write(
        project / "log.csv", [names("Kunde,Artikel,Datum"), *([n % 9, n % 30, DAYS[n % 28]] for n in range(90))]
    )
    goods = [
        names("Artikel,Farbe,Bezeichnung"),
        *([n, f"ganz {'rot' if n % 2 else 'blau'}", f"Lampe {n}"] for n in range(30)),
    ]
    found, _ = guessed([log, write(project / "artikel.csv", goods)])
    assert found.items is not None
    assert found.items.title == "Bezeichnung"


@pytest.mark.parametrize(("highest", "rating"), [(5, "column_3"), (11, None)])
def test_numbers_without_a_name_are_ratings_where_they_end_as_a_scale_does(highest, rating, project):
    rows = ([n % 90, n % 70 + 1000, 1 + n // 90 % highest, 1_500_000_000 + n] for n in range(1_800))
    assert guessed([write(project / "log.csv", rows)])[0].log.rating == rating


@pytest.mark.parametrize(("customer", "likeliest"), [("K {}", "Hvem"), ("{} Anna {}", "Hvad")])
def test_ids_of_users_may_have_blanks_where_names_tell_nothing(customer, likeliest, project):
    rows = [[customer.format(n % 60, "Roth" * (n % 2)), f"A{n * 7 % 40}", DAYS[n % 28]] for n in range(600)]
    log = write(project / "log.csv", [names("Hvem,Hvad,Hvornår"), *rows])
    found, [question] = guessed([log])
    assert question.startswith("Which columns of log.csv have the users and the items?\n  1: ")
    assert "     user " in question  # sentences
    assert found.log.user == likeliest  # texts may be titles
    [(label, doubt)] = found.log.doubts
    assert (label, doubt.endswith(f"users {found.log.item}, items {found.log.user}")) == ("or else", True)
    other = guess(read_raw_tables([log]), lambda question, answers, guessed: answers[1])
    assert (other.log.user, other.log.item) == (found.log.item, found.log.user)


def a_log(project: Path, name: str, values: list[Any], days: Sequence[Any] = DAYS) -> Path:
    """A log of 20 users and 30 items, with some values of a column, and of the time, in turn."""
    random = Random(1)
    rows = ([random.randrange(1, 21), n // 20, values[n % len(values)], days[n % len(days)]] for n in range(600))
    return write(project / "log.csv", [["user_id", "item_id", name, "timestamp"], *rows])


FEW_VALUES = {  # the last of them alone is a like; and the column of clicks, or the threshold of ratings
    "rating,0,1": ("rating", None),
    "rating,False,True": ("rating", None),
    "clicked,0.0,1.0": ("clicked", None),
    "liked,no,Yes": ("liked", None),
    "rating,-1,1": (None, 1),
    "rating,1,5": (None, 4),
    "rating,0,5": (None, 4),
    "rating,-1,0,1": (None, 1),
}


@pytest.mark.parametrize("written", FEW_VALUES)
def test_ratings_and_clicks_of_few_values_are_no_likes_throughout(written, project):
    [name, *values] = names(written)
    found, questions = guessed([a_log(project, name, values)])
    assert (found.log.clicked, found.log.rating and found.log.threshold) == FEW_VALUES[written]
    assert (found.log.drop, questions) == ({}, [])
    write_guess(found, "new", project)
    read = counts(run_ingestion(project / "conf", "new"))
    assert (read["interactions"], read["positives"]) == (600, 600 // len(values))


def test_a_log_is_built_from_ratings_of_more_values_than_levels(project):
    found, _ = guessed([a_log(project, "rating", [n / 30 for n in range(300)])])
    write_guess(found, "new", project)
    written = yaml.safe_load((project / "conf/new/parameters.yml").read_text())
    assert written["history"]["rating_levels"] == 10


@pytest.mark.parametrize(("items", "few_shot"), [(10, None), (70, 512)])
def test_a_log_of_repeats_is_as_short_as_its_pairs_of_user_and_item(items, few_shot, project):
    rows = ([n % 60, n // 60 % items, f"2024-01-{n % 28 + 1:02}"] for n in range(4200))
    found, _ = guessed([write(project / "log.csv", [names("customer_id,product_id,date"), *rows])])
    written = yaml.safe_load(environment_files(found, "new", project)["parameters.yml"])
    assert written["history"].get("prompt_rows", {"few_shot": 512})["few_shot"] == few_shot


def test_what_may_be_ratings_by_its_values_alone_is_asked_for_and_told(project):
    log = a_log(project, "评分", [1, 2, 3, 4, 5])
    found, questions = guessed([log])
    assert questions == ["Which column of log.csv has the ratings, if any?\n  评分: 1, 2, 3\n"]
    assert found.log.rating == "评分"
    assert dict(description(found))["or else"] == "ratings are read of 评分; they may be of none"
    assert guess(read_raw_tables([log]), lambda question, answers, guessed: "none").log.kind == "purchases"
    [question] = guessed([a_log(project, "amount", [1, 2, 3, 4, 5])])[1]
    assert question == "Column 'amount' has 1, 2, 3, 4: does an event count by it?"
    for name, values in (("vote", ["+", "-"]), ("rating", ["80%", "20%"]), ("liked", ["1", ""])):
        found, _ = guessed([a_log(project, name, values)])
        assert dict(description(found))["rating?"].startswith(name)


def test_the_plainest_of_several_names_of_ratings_counts(project):
    rows = ([n % 9, n % 7, 3.5 + n % 7 / 10, 1 + n % 5] for n in range(90))
    found, _ = guessed([write(project / "log.csv", [names("user_id,item_id,average_rating,rating"), *rows])])
    assert found.log.rating == "rating"


def test_some_decimal_commas_are_enough(project):
    rows = [[n % 20 + 1, n // 20, ("4", "3,5", "5", "1")[n % 4], f"{n % 3},{n % 2}"[: 1 + n % 3]] for n in range(600)]
    log = write(project / "log.csv", [names("user_id,item_id,rating,tags"), *rows], delimiter=";")
    found, _ = guessed([log])
    assert (found.log.scale, found.log.table.sample["tags"][2]) == ((0.5, 5), "2,0")
    write_guess(found, "new", project)
    assert counts(run_ingestion(project / "conf", "new"))["positives"] == 300


def test_what_is_no_number_hides_neither_ratings_nor_returns(project):
    with pytest.raises(ValueError, match=r"'rating' .* hold ratings, but .* of 600 .* the first of them '-'"):
        guessed([a_log(project, "rating", ["4", "3", "-", "5"])])
    found, _ = guessed([a_log(project, "quantity", ["1,000", "2", "-3", "0", "7"])])
    write_guess(found, "new", project)
    assert counts(run_ingestion(project / "conf", "new"))["interactions"] == 360


def test_numbers_that_are_text_and_days_that_are_numbers_are_read_as_guessed(project):
    rows = [[n % 20 + 1, n // 20, str(1 + n % 5), 20_220_101 + n % 28] for n in range(600)]
    pl.DataFrame(rows, names("user_id,item_id,rating,day"), orient="row").write_parquet(project / "log.parquet")
    found, _ = guessed([project / "log.parquet"])
    assert (found.log.rating, found.log.time_format) == ("rating", "%Y%m%d")
    write_guess(found, "new", project)
    assert counts(run_ingestion(project / "conf", "new"))["positives"] == 240


TIMES = [f"2022-01-{n % 28 + 1:02} 10:00:00" for n in range(199)]


@pytest.mark.parametrize(
    ("times", "time_format"),
    [
        ([*TIMES, "1900-01-01 00:00:00"], "%Y-%m-%d %H:%M:%S"),
        ([*TIMES, "0000-00-00 00:00:00"], "%Y-%m-%d %H:%M:%S"),
        ([*(f"{time}+00" for time in TIMES), ""], "%Y-%m-%d %H:%M:%S%z"),
    ],
)
def test_some_odd_times_hide_no_others(times, time_format, project):
    found, _ = guessed([a_log(project, "rating", [1, 4], times)])
    assert (found.log.times, found.log.time_format) == (["timestamp"], time_format)
    write_guess(found, "new", project)
    assert counts(run_ingestion(project / "conf", "new"))["interactions"] == 597


@pytest.mark.parametrize("times", [TIMES, range(1_600_000_000, 1_600_000_199)])
def test_some_times_that_are_none_are_refused(times, project):
    with pytest.raises(ValueError, match=r"'timestamp' .* hold times .* 3 of 600 .* the first of them 'soon'"):
        guessed([a_log(project, "rating", [1, 4], [*times, "soon"])])


def test_times_without_a_known_format_are_told(project):
    found, _ = guessed([a_log(project, "rating", [1, 4], ["Sat Jan 01 2022 00:00:00"])])
    assert "timestamp (Sat Jan 01 2022 00:00:00) has no known format" in dict(description(found))["time?"]


def test_what_spark_leaves_beside_the_parts_of_a_folder_is_no_part(project):
    (project / "log").mkdir()
    for number in range(2):
        rows = {"user_id": range(30), "item_id": number, "rating": [number + 1.0] * 30, "timestamp": range(30)}
        pl.DataFrame(rows).with_columns(pl.col("timestamp") + 1_600_000_000).write_parquet(
            project / f"log/part-{number}.snappy.parquet"
        )
        (project / f"log/.part-{number}.snappy.parquet.crc").write_bytes(b"crc\0")
    (project / "log/_SUCCESS").touch()
    found, _ = guessed([project / "log"])
    write_guess(found, "new", project)
    assert counts(run_ingestion(project / "conf", "new"))["interactions"] == 60


def test_values_of_files_never_leave_their_comment(project):
    rows = [["user_id", "item_id", "rating"]]
    rows += [[f"u\nlens: {{dropout: 9}}\x1b[2J{n % 3}", n % 4, n % 5] for n in range(36)]
    found, _ = guessed([write(project / "log.csv", rows)])
    write_guess(found, "new", project)
    assert yaml.safe_load((project / "conf/new/parameters.yml").read_text()).keys() <= {"ingestion", "history"}
    assert "\x1b" not in str(description(found)) + (project / "conf/new/parameters.yml").read_text()


def test_the_command_writes_tries_and_tells_what_comes_next(tmp_path, monkeypatch):
    project = copy_code(tmp_path)
    monkeypatch.chdir(project)
    tables = [str(path) for path in LOGS["multi_category_store"](project)]
    typed = ["new-log", *tables, "--name", "mine"]
    done = CliRunner().invoke(cli.cli, typed, input="cart, purchase\n", catch_exceptions=False)
    assert "event_type: [view, remove_from_cart]" in done.output
    [log] = (project / "data/mine/03_primary/interactions.parquet").glob("*/interactions.parquet")
    assert pl.read_parquet(log).height == 240
    assert done.output.endswith("kedro recommend --env mine\n")
    rated = ["new-log", *(str(path) for path in LOGS["yelp"](project)), "--name", "rated", "--yes"]
    assert CliRunner().invoke(cli.cli, rated, catch_exceptions=False).output.endswith("kedro recommend --env rated\n")
    assert "'../mine' may contain only letters" in CliRunner().invoke(cli.cli, [*typed[:-1], "../mine"]).output
    again = CliRunner().invoke(cli.cli, [*typed, "--yes"])
    assert again.exit_code == 2
    assert "conf/mine already exists" in again.output
    assert "Answered by the guess: view 0.2, cart 0.5, purchase 1\n" in again.output


def test_an_empty_folder_becomes_a_project_that_reads_what_is_installed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command.LOGGING, "configure", lambda settings: None)
    monkeypatch.setattr(environment, "missing_extra", lambda extra, needed_by: "transformers are missing")
    tables = [str(path) for path in LOGS["food_com"](tmp_path)]
    refused = CliRunner().invoke(cli.cli, ["new-log", *tables, "--name", "base"])
    assert (refused.exit_code, (tmp_path / "conf").exists()) == (2, False)
    assert "conf/base belongs to every project: choose another --name." in refused.output
    done = CliRunner().invoke(cli.cli, ["new-log", *tables, "--name", "mine"], catch_exceptions=False)
    assert "is now a project" in done.output
    assert (tmp_path / ".telemetry").read_text() == "consent: false\n"
    assert {path.name for path in (tmp_path / "conf").iterdir()} == {"base", "local", "logging.yml", "mine", "studies"}
    assert [*(tmp_path / "data/mine/03_primary/interactions.parquet").glob("*/interactions.parquet")]
    written = yaml.safe_load((tmp_path / "conf/mine/parameters.yml").read_text())
    assert "item_embedding" not in written["history"]  # as what is installed reads titles
    assert written["service"] == {"variant": None}
    (tmp_path / "pyproject.toml").unlink()
    refused = CliRunner().invoke(cli.cli, ["new-log", *tables]).output
    assert "is not a Kedro project, but already has a conf: change to an empty folder" in refused


def test_titles_of_purchases_are_read_by_what_is_installed(project, monkeypatch):
    found, _ = guessed(LOGS["shop"](project))
    for installed, encoders in (("sentence_encoder", ["tfidf", "sentence_encoder"]), ("tfidf", ["tfidf"])):
        monkeypatch.setattr(suiting, "default_encoders", lambda installed=installed: (installed,))
        written = yaml.safe_load(environment_files(found, "new", project)["parameters.yml"])
        assert written["history"]["item_embedding"]["encoders"] == encoders


def test_a_file_without_a_header_gets_the_questions_that_its_values_leave_open(project):
    rows = [[f"s{n}", f"u{n % 7}", f"i{n % 5}", n % 2, f"2019-03-01 {n % 24:02}:00"] for n in range(60)]
    found, questions = guessed([write(project / "shown.csv", rows)])
    assert (found.log.user, found.log.item, found.log.clicked) == ("column_2", "column_3", "column_4")
    [ids, clicks] = questions
    assert ids.startswith(
        "Which columns of shown.csv have the users and the items?\n  1: users column_2, items column_3"
    )
    assert clicks == "Column column_4 of shown.csv has 0 and 1 (50.0% are 1): is 1 a click?"


def test_a_table_describes_items_or_users_and_nothing_else_that_it_is_numbered_as(project):
    rows = [[n % 30 + 1, f"u{n % 7}", n % 40 + 1, f"2019-03-{n % 28 + 1:02}"] for n in range(120)]
    table = [[n + 1, f"Red {n} Lamp"] for n in range(30)]
    files = [
        write(project / "log.csv", [names("basket,user_id,item_id,day"), *rows]),
        write(project / "table.csv", [names("id,name"), *table]),
    ]
    found, _ = guessed(files)
    assert found.items is not None
    assert ("items", "table.csv, separator ',', by id (1, 2): 75% of the log's") in description(found)
    other = write(project / "other.csv", [names("id,name"), *([n + 1_000, f"Red {n} Lamp"] for n in range(30))])
    assert ("not used", "other.csv: it has none of the log's ids") in description(guessed([files[0], other])[0])


def test_of_tables_that_fit_the_one_with_words_is_read_and_others_are_told(project):
    log = names("userId,movieId,rating,timestamp")
    rows = [[n % 40 + 1, n % 61 + 100, n % 5 + 1, 1_600_000_000 + n] for n in range(600)]
    tables = {
        "movies": [names("movieId,title"), *([n, f"Film {n} again"] for n in range(100, 161))],
        "links": [names("movieId,imdbId"), *([n, n * 37] for n in range(100, 161))],
        "tags": [names("userId,movieId,tag,timestamp"), *([n % 9, n, "funny", 1_600_000_000] for n in range(100, 161))],
        "test": [log, *rows[::3]],
        "ratings": [log, *rows],
    }
    files = [write(project / f"{name}.csv", table) for name, table in tables.items()]
    for given in (files, files[::-1]):
        found, _ = guessed(given)
        assert found.items is not None
        assert (found.log.table.path.name, found.items.table.path.name, found.users) == (
            "ratings.csv",
            "movies.csv",
            None,
        )
        assert {path.stem: reason for path, reason in found.unused.items()} == {
            "links": "another table describes the same ids better",
            "tags": "another table describes the same ids better",
            "test": "it seems to be another log, and ratings.csv is read; write the rows of both to one file",
        }
