"""The environment of each data set in conf/, run on files of exactly that data set's formats."""

import gzip
import json
import shutil
from pathlib import Path

import pandas as pd
import polars as pl
import pytest
from omegaconf import OmegaConf

from ingestion_run import canonical_tables, counts, dropped, run_ingestion
from kedro_provenance.session import CachingConfigLoader
from reclora_kedro.history.config import HistoryConfig
from reclora_kedro.history.log_builder import build_log
from reclora_kedro.history.splits import SplitConfig
from reclora_kedro.settings import CONFIG_LOADER_ARGS
from reference_log import reference_log

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
AMAZON_BEAUTY = SHARED / "data" / "amazon-beauty"
MOVIETWEETINGS_100K = SHARED / "data" / "movietweetings" / "100K"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty folder that the data lies in, entered."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def write(path, lines, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(f"{line}\n" for line in lines).encode(encoding))


def link(place, folder):
    place.parent.mkdir(parents=True)
    place.symlink_to(folder)


def with_frames(file):
    """A file of conf/ with the YAML at its end, which is commented out there, in place of what it replaces."""
    text, _, frames = file.read_text().partition("# The frames of the archive:\n")
    frames = "".join(line.removeprefix("#   ") for line in frames.splitlines(keepends=True))
    return OmegaConf.to_yaml(OmegaConf.merge(OmegaConf.create(text), OmegaConf.create(frames)))


def history_config(environment):
    return HistoryConfig(
        **CachingConfigLoader(str(ROOT / "conf"), env=environment, **CONFIG_LOADER_ARGS)["parameters"]["history"]
    )


def write_json_lines(path, records):
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)


def test_movielens_1m(project):
    folder = project / "data/01_raw/movielens-1m"
    write(folder / "ratings.dat", ["1::30::5::978300700", "1::20::3::978302100", "2::30::4::978298400"])
    write(
        folder / "movies.dat",
        [
            "20::A Peach (1996)::Animation|Children's|Musical",
            "30::City of Lost Children, The (Cité des enfants perdus, La) (1995)::Drama",
            '40::"Quoted": A Film (1987)::Action|Comedy',
        ],
        encoding="latin-1",
    )
    write(folder / "users.dat", ["1::F::1::10::00501", "2::M::56::16::02460-1234"])

    catalog = run_ingestion(ROOT / "conf", "movielens-1m")

    assert catalog.load("interactions").collect().rows() == [
        (2, 30, 4.0, 978298400, 1),
        (1, 30, 5.0, 978300700, 1),
        (1, 20, 3.0, 978302100, 0),
    ]
    assert catalog.load("items").rows() == [
        (20, "A Peach (1996)", "Animation, Children's, Musical"),
        (30, "The City of Lost Children (La Cité des enfants perdus) (1995)", "Drama"),
        (40, '"Quoted": A Film (1987)', "Action, Comedy"),
    ]
    users = catalog.load("users")
    assert users.columns == ["user_id", "gender", "age", "occupation", "zip_code"]
    assert users.rows() == [
        (1, "F", "under 18", "pupil", "00501"),
        (2, "M", "56 or older", "self-employed", "02460-1234"),
    ]
    assert not dropped(catalog)


@pytest.mark.parametrize("name", ["movielens-25m", "movielens-latest-small"])
def test_movielens_of_half_stars(project, name):
    folder = project / "data/01_raw" / name
    write(
        folder / "ratings.csv",
        ["userId,movieId,rating,timestamp", "1,20,3.0,1147880000", "1,30,3.5,1147868800", "2,30,0.5,1141415800"],
    )
    write(
        folder / "movies.csv",
        [
            "movieId,title,genres",
            '20,"American President, The (1995)",Comedy|Drama|Romance',
            '30,"Three Colors: ""Red"", Again (1994)",(no genres listed)',
            "40,Never Rated (2001),Drama",
        ],
    )

    catalog = run_ingestion(ROOT / "conf", name)

    assert catalog.load("interactions").collect().rows() == [
        (2, 30, 0.5, 1141415800, 0),
        (1, 30, 3.5, 1147868800, 1),
        (1, 20, 3.0, 1147880000, 0),
    ]
    assert catalog.load("items").rows() == [
        (20, "The American President (1995)", "Comedy, Drama, Romance"),
        (30, 'Three Colors: "Red", Again (1994)', None),
        (40, "Never Rated (2001)", "Drama"),
    ]
    assert catalog.load("users").rows() == [(1,), (2,)]
    assert not dropped(catalog)


def goodreads_interaction(user, book, rating, updated):
    return {
        "user_id": user,
        "book_id": book,
        "review_id": "0123456789abcdef0123456789abcdef",
        "is_read": rating > 0,
        "rating": rating,
        "review_text_incomplete": "",
        "date_added": "Sat Jan 01 00:00:00 -0800 2011",
        "date_updated": updated,
        "read_at": "",
        "started_at": "",
    }


def goodreads_book(book, title, publisher, year):
    return {
        "isbn": "0000000000",
        "series": [] if book == "21" else ["18"],
        "popular_shelves": [{"count": "58", "name": "to-read"}, {"count": "15", "name": "fantasy"}],
        "authors": [{"author_id": "10", "role": ""}],
        "average_rating": "4.03",
        "similar_books": [],
        "description": "A tale.\nOf two lines.",
        "format": "Hardcover",
        "publisher": publisher,
        "publication_year": year,
        "book_id": book,
        "title": title,
        "title_without_series": title,
    }


def test_goodreads(project):
    folder = project / "data/01_raw/goodreads"
    ann, bob = "aaaabbbbccccddddeeeeffff00001111", "11110000ffffeeeeddddccccbbbbaaaa"
    write_json_lines(
        folder / "goodreads_interactions_dedup.json.gz",
        [
            goodreads_interaction(ann, "830", 4, "Wed Mar 22 11:37:04 -0700 2017"),
            goodreads_interaction(ann, "21", 0, "Wed Mar 22 11:38:00 -0700 2017"),
            goodreads_interaction(bob, "830", 3, "Thu Nov 03 09:00:00 +0100 2016"),
        ],
    )
    write_json_lines(
        folder / "goodreads_books.json.gz",
        [
            goodreads_book("830", "The Wizard (Two Wolves, #1-2)", "Any House", "1987"),
            goodreads_book("21", "Lost", "", ""),
        ],
    )

    catalog = run_ingestion(ROOT / "conf", "goodreads")

    assert catalog.load("interactions").collect().rows() == [
        (bob, "830", 3.0, 1478160000, 0),
        (ann, "830", 4.0, 1490207824, 1),
    ]
    items = catalog.load("items")
    assert items.columns == ["item_id", "title", "format", "publisher", "publication_year"]
    assert items.rows() == [
        ("21", "Lost", "Hardcover", None, None),
        (
            "830",
            "The Wizard (Two Wolves, #1-2)",
            "Hardcover",
            "Any House",
            "1987",
        ),
    ]
    assert dropped(catalog) == {"rating is 0": 1}


def test_movietweetings(project):
    folder = project / "data/01_raw/movietweetings"
    write(folder / "ratings.dat", ["1::0120735::10::1363245118", "2::2592910::0::1362901837"])
    write(
        folder / "movies.dat",
        [
            "0120735::Lock, Stock and Two Smoking Barrels (1998)::Comedy|Crime",
            '2592910::CBGB: "Home" à la carte (2013)::',
        ],
    )
    write(folder / "users.dat", ["1::390000000", "2::40000000"])

    catalog = run_ingestion(ROOT / "conf", "movietweetings")

    assert catalog.load("interactions").collect().rows() == [
        (2, "2592910", 0.0, 1362901837, 0),
        (1, "0120735", 10.0, 1363245118, 1),
    ]
    assert catalog.load("items").rows() == [
        ("0120735", "Lock, Stock and Two Smoking Barrels (1998)", "Comedy, Crime"),
        ("2592910", 'CBGB: "Home" à la carte (2013)', None),
    ]
    assert catalog.load("users").rows() == [(1,), (2,)]


def test_two_domains(project):
    folder = project / "data/01_raw/movietweetings"
    later = [f"1::0120735::0::{1363245118 + day * 86_400}" for day in range(1, 149)]  # so many that the log ends there
    write(folder / "ratings.dat", ["1::0120735::10::1363245118", "2::2592910::0::1362901837", *later])
    write(folder / "movies.dat", ["0120735::Lock, Stock and Two Smoking Barrels (1998)::Comedy|Crime"])
    interactions, items, users = canonical_tables(run_ingestion(ROOT / "conf", "two-domains"))
    domain = pl.col("user_id").str.split("-").list.first()
    assert dict(interactions.group_by(domain).len().rows()) == {"movielens": 100_000, "movietweetings": 150}
    assert dict(interactions.group_by(domain).agg(pl.col("label").sum()).rows()) == {
        "movielens": 55_375, "movietweetings": 1
    }  # fmt: skip
    assert dict(items.filter(pl.col("domain").is_not_null()).group_by("domain").len().rows()) == {
        "movielens": 1_682, "movietweetings": 1
    }  # fmt: skip
    assert items.filter(item_id="movietweetings-0120735").rows() == [
        (
            "movietweetings-0120735",
            "Lock, Stock and Two Smoking Barrels (1998)",
            "movietweetings",
            "Comedy, Crime",
            None,
        )
    ]
    assert items.filter(item_id="movielens-1").select("title", "movielens_genres").rows() == [
        ("Toy Story (1995)", "Animation, Children's, Comedy")
    ]
    assert users.height == 943 + 2


@pytest.mark.skipif(not MOVIETWEETINGS_100K.exists(), reason=f"MovieTweetings is not at {MOVIETWEETINGS_100K}")
def test_the_real_movietweetings(project):
    # Counted in the files by hand, with awk and sort.
    link(project / "data/01_raw/movietweetings", MOVIETWEETINGS_100K)
    catalog = run_ingestion(ROOT / "conf", "movietweetings")
    interactions, items, users = canonical_tables(catalog)
    assert (interactions.height, items.height, users.height) == (100_000, 10_506, 16_554)
    assert interactions["label"].sum() == 50_542
    assert items["genres"].null_count() == 66
    assert items.row(0) == ("0002844", "Fantômas - À l'ombre de la guillotine (1913)", "Crime, Drama")
    assert counts(catalog)["items without a row"] == 0
    assert not dropped(catalog)

    config = SplitConfig(kind="global_time", train=0.8, validation=0.1)
    split = reference_log(interactions, items, users, min_history=5, split=config).samples["split"]
    assert dict(split.value_counts().iter_rows()) == {"train": 45_915, "validation": 5_739, "test": 5_740}


def test_amazon_beauty(project):
    folder = project / "data/01_raw/amazon-beauty"
    write(folder / "interactions.csv", ["user_id,item_id,timestamp", "7,203,1023840000", "8,200,1024185600"])
    write(folder / "items.csv", ["item_id,title", "200,Xtreme Brite Gel 1oz.", '203,"Soap, large"'])

    catalog = run_ingestion(ROOT / "conf", "amazon-beauty")

    assert catalog.load("interactions").collect().rows() == [
        (7, 203, 1.0, 1_023_840_000, 1),
        (8, 200, 1.0, 1_024_185_600, 1),
    ]
    assert catalog.load("items").rows() == [(200, "Xtreme Brite Gel 1oz."), (203, "Soap, large")]
    assert catalog.load("users").rows() == [(7,), (8,)]
    [positives] = [row for row in catalog.load("ingestion_report") if row["check"] == "positives"]
    assert positives["rule"] == "label 1: every row, as there are no ratings; 100.0% of the rows kept"
    assert not dropped(catalog)


def test_the_pickled_frames_of_amazon_beauty(project):
    folder = project / "data/01_raw/amazon-beauty"
    folder.mkdir(parents=True)
    log = pd.DataFrame(
        {"UserID": [100, 101], "ItemID": [[7, 8], [7]], "Timestamp": [[1_023_840_000] * 2, [1_024_185_600]]}
    )
    log.to_pickle(folder / "user2item.pkl")
    pd.DataFrame({"ItemID": [7, 8], "Title": ["Soap &amp; Gel", "Comb"]}).to_pickle(folder / "item2title.pkl")
    shutil.copytree(ROOT / "conf/base", "conf/base")
    shutil.copytree(ROOT / "conf/amazon-beauty", "conf/amazon-beauty")
    for name in ("catalog", "parameters"):
        Path(f"conf/amazon-beauty/{name}.yml").write_text(with_frames(Path(f"conf/amazon-beauty/{name}.yml")))

    catalog = run_ingestion(Path("conf"), "amazon-beauty")

    assert catalog.load("interactions").collect().rows() == [
        (100, 7, 1.0, 1_023_840_000, 1),
        (100, 8, 1.0, 1_023_840_000, 1),
        (101, 7, 1.0, 1_024_185_600, 1),
    ]
    assert catalog.load("items").rows() == [(7, "Soap & Gel"), (8, "Comb")]
    assert counts(catalog) | {"rows of lists": 2, "raw interactions": 3} == counts(catalog)


@pytest.mark.skipif(not AMAZON_BEAUTY.exists(), reason=f"Amazon Beauty is not at {AMAZON_BEAUTY}")
def test_the_real_amazon_beauty(project):
    link(project / "data/01_raw/amazon-beauty", AMAZON_BEAUTY)
    catalog = run_ingestion(ROOT / "conf", "amazon-beauty")
    tables = canonical_tables(catalog)
    assert [table.height for table in tables] == [198_215, 12_086, 22_332]
    assert not dropped(catalog)


def mind_behaviors():
    """Lines of behaviors.tsv: six users whose clicks before the log are listed in each, eight impressions each."""
    lines = []
    for user in range(6):
        clicked_before = " ".join(f"N{item}" for item in range(user, user + 6)) if user else ""
        for place in range(8):
            shown = [f"N{(user + place * 3 + step) % 20}-{int(step == place % 3)}" for step in range(3)]
            time = f"11/{11 + place}/2019 {user + 1}:05:58 {'AM' if place % 2 else 'PM'}"
            lines.append("\t".join([str(len(lines) + 1), f"U{user}", time, clicked_before, " ".join(shown)]))
    return lines


def mind_news():
    """Lines of news.tsv."""
    lines = [
        ["N0", "sports", "golf", 'A "Hole" in one &amp; none', "", "https://x.example/0", "[]", "[]"],
        [
            "N1",
            "news",
            "weather",
            "Rain, again",
            "It rains,\u2028says a man.",
            "https://x.example/1",
            '[{"Label": "x"}]',
            "[]",
        ],
    ]
    lines += [[f"N{item}", "news", "world", f"Item {item}", "Words.", "", "[]", "[]"] for item in range(2, 20)]
    return ["\t".join(line) for line in lines]


def test_mind(project):
    folder = project / "data/01_raw/mind"
    write(folder / "behaviors.tsv", mind_behaviors())
    write(folder / "news.tsv", mind_news())

    catalog = run_ingestion(ROOT / "conf", "mind")

    interactions, items, users = canonical_tables(catalog)
    assert counts(catalog)["raw interactions"] == 6 * 8 * 3
    assert counts(catalog)["events of starting histories"] == 5 * 6
    assert counts(catalog)["positives"] == 6 * 8
    assert counts(catalog)["item rows with HTML"] == 1
    assert not dropped(catalog)
    first = 1_573_491_958  # 11/11/2019 5:05:58 PM
    of_one = interactions.filter(user_id="U4").head(9).drop("user_id")
    assert of_one.rows() == [
        *((f"N{4 + place}", 1.0, first - 6 + place, None) for place in range(6)),
        ("N4", 1.0, first, 1),
        ("N5", None, first, 0),
        ("N6", None, first, 0),
    ]
    assert items.columns == ["item_id", "title", "category", "subcategory", "description"]
    assert items.filter(pl.col("item_id").is_in(["N0", "N1"])).rows() == [
        ("N0", 'A "Hole" in one & none', "sports", "golf", None),
        ("N1", "Rain, again", "news", "weather", "It rains, says a man."),
    ]
    assert users["user_id"].to_list() == [f"U{user}" for user in range(6)]

    log = build_log(interactions, items, users, history_config("mind"))
    assert len(log.sequences.label) == 5 * 6 + 6 * 8
    impressions = log.samples.group_by("user_index", "timestamp", "history_end", "split").agg(pl.col("label").sum())
    assert impressions["label"].to_list() == [1] * impressions.height
    assert impressions.height == 5 * 8 + 3  # U0 has five earlier clicks at its sixth impression
    assert log.samples.height == 3 * impressions.height


def amazon_review(user, item, rating, seconds, release):
    if release == 2018:
        return {
            "overall": rating,
            "vote": "2",
            "verified": True,
            "reviewTime": "09 9, 2001",
            "reviewerID": user,
            "asin": item,
            "style": {"Size:": " Large"},
            "reviewText": "Fine &amp; good",
            "unixReviewTime": seconds,
        }
    return {
        "rating": rating,
        "title": "Fine",
        "text": "Good<br />",
        "images": [{"small_image_url": "https://x.example/1.jpg"}],
        "asin": f"{item}-blue",
        "parent_asin": item,
        "user_id": user,
        "timestamp": seconds * 1_000 + 923,
        "helpful_vote": 0,
        "verified_purchase": True,
    }


def amazon_product(item, title, brand, categories, description, release):
    names = ("asin", "brand", "category") if release == 2018 else ("parent_asin", "store", "categories")
    product = dict(zip(names, (item, brand, categories), strict=True)) | {"title": title, "description": description}
    if release == 2018:
        return product | {"feature": [], "rank": "5 in Beauty", "price": "$5.00", "details": {}, "also_buy": []}
    return product | {"main_category": "All Beauty", "features": ["Soft"], "price": None, "details": {"Size": "1"}}


@pytest.mark.parametrize(
    ("environment", "release", "ending"),
    [("amazon-reviews", 2023, "jsonl.gz"), ("amazon-reviews-2018", 2018, "json.gz")],
)
def test_amazon_reviews(project, environment, release, ending):
    folder = project / "data/01_raw" / environment
    reviews = [("A1", "B01", 5.0, 1_000_000_000), ("A1", "B02", 3.0, 1_000_086_400), ("A2", "B01", 4.0, 999_993_600)]
    products = [
        ("B01", "Soap &amp; Brush &#39;X&#39;", "Acme", ["Home & Kitchen", "Bath"], ["Clean.<br>", "", "<b>Soft</b>."]),
        ("B02", "Comb", None, [], []),
        ("B01", "Again", "Acme", None, None),
    ]
    write_json_lines(folder / f"All_Beauty.{ending}", [amazon_review(*review, release) for review in reviews])
    write_json_lines(folder / f"meta_All_Beauty.{ending}", [amazon_product(*product, release) for product in products])

    catalog = run_ingestion(ROOT / "conf", environment)

    assert catalog.load("interactions").collect().rows() == [
        ("A2", "B01", 4.0, 999_993_600, 1),
        ("A1", "B01", 5.0, 1_000_000_000, 1),
        ("A1", "B02", 3.0, 1_000_086_400, 0),
    ]
    items = catalog.load("items")
    category = () if release == 2018 else ("All Beauty",)
    assert items.rows() == [
        ("B01", "Soap & Brush 'X'", "Acme", *category, "Home & Kitchen, Bath", "Clean. Soft."),
        ("B02", "Comb", None, *category, None, None),
    ]
    assert counts(catalog)["item rows with HTML"] == 1
    assert dropped(catalog) == {"repeated item rows": 1}
