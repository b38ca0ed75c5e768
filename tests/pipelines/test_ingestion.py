"""The ingestion step through Kedro: on MovieLens-100K, on other sources, and on hard and faulty data."""

import shutil
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from kedro.config import OmegaConfigLoader
from kedro.io import DataCatalog, DatasetError
from kedro.pipeline import Node, Pipeline
from kedro.validation import ParameterValidationError

from ingestion_run import NAMES, canonical_tables, counts, dropped, run_ingestion
from kedro_provenance.session import CachingConfigLoader
from reclora_kedro.distributed.engine import LOCAL
from reclora_kedro.history.config import HistoryConfig
from reclora_kedro.ingestion.config import IngestionConfig
from reclora_kedro.pipelines.checks import checks, require_negatives
from reclora_kedro.pipelines.ingestion import create_pipeline
from reclora_kedro.settings import CONFIG_LOADER_ARGS
from reference_log import reference_log

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with the step's own configuration, entered."""
    (tmp_path / "conf" / "base").mkdir(parents=True)
    for file in ("catalog_ingestion.yml", "parameters_ingestion.yml", "parameters_engine.yml", "globals.yml"):
        shutil.copy(ROOT / "conf" / "base" / file, tmp_path / "conf" / "base")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ingest(catalog: dict[str, Any] | None = None, parameters: dict[str, Any] | None = None) -> DataCatalog:
    """Run the step in an environment that overrides these catalog entries and these keys of its parameters."""
    environment = Path("conf/swap")
    environment.mkdir()
    (environment / "catalog.yml").write_text(yaml.safe_dump(catalog or {}))
    block = {"plausible_times": {"first_day": "1970-01-01"}, **(parameters or {})}
    (environment / "parameters.yml").write_text(yaml.safe_dump({"ingestion": block}))
    return run_ingestion(Path("conf"), "swap")


def csv(path: str, **columns: list[Any]) -> dict[str, Any]:
    """A raw catalog entry over a CSV file with these columns."""
    pl.DataFrame(columns).write_csv(path)
    return {"type": "polars.EagerPolarsDataset", "file_format": "csv", "filepath": path}


def test_movielens_100k(project: Path) -> None:
    catalog = ingest()
    interactions, items, users = canonical_tables(catalog)
    assert (interactions.height, items.height, users.height) == (100_000, 1_682, 943)
    assert interactions["label"].sum() == 55_375
    assert items.row(0) == (1, "Toy Story (1995)", "Animation, Children's, Comedy")
    assert items.filter(item_id=127)["title"].item() == "The Godfather (1972)"
    assert users.row(0) == (1, "24", "M", "technician", "85711")
    assert not dropped(catalog)


def test_tables_are_versioned(project: Path) -> None:
    ingest()
    written = {str(path.relative_to(project)) for path in project.glob("data/**/*") if path.is_file()}
    version = "2026-01-01T00.00.00.000Z"
    assert written == {
        f"data/03_primary/interactions.parquet/{version}/interactions.parquet",
        f"data/03_primary/items.parquet/{version}/items.parquet",
        f"data/03_primary/users.parquet/{version}/users.parquet",
        f"data/08_reporting/ingestion_report.json/{version}/ingestion_report.json",
    }


def test_five_core_of_movielens_100k(project: Path) -> None:
    catalog = ingest(parameters={"k_core": 5})
    log = catalog.load("interactions").collect()
    assert log.height == 100_000 - counts(catalog)["outside the k-core"]
    for column in ("user_id", "item_id"):
        assert log[column].value_counts()["count"].min() >= 5


SOURCES = {
    "pandas CSV": {"type": "pandas.CSVDataset", "filepath": "log.csv"},
    "polars CSV": {"type": "polars.CSVDataset", "filepath": "log.csv"},
    "JSON lines": {"type": "polars.EagerPolarsDataset", "file_format": "ndjson", "filepath": "log.json"},
    "parquet": {"type": "pandas.ParquetDataset", "filepath": "log.parquet"},
    "parquet files in a folder": {"type": "polars.LazyPolarsDataset", "file_format": "parquet", "filepath": "parts"},
    "SQL": {"type": "pandas.SQLTableDataset", "table_name": "log", "credentials": {"con": "sqlite:///log.db"}},
}


@pytest.mark.parametrize("source", SOURCES)
def test_any_polars_or_pandas_source_does(project: Path, source: str) -> None:
    log = pl.DataFrame({"user_id": [1, 2, 3], "movie_id": 7, "rating": [5, 3, 4], "timestamp": [100, 200, 300]})
    log.write_csv("log.csv")
    log.write_ndjson("log.json")
    log.write_parquet("log.parquet")
    for month in (1, 2, 3):
        Path(f"parts/month={month}").mkdir(parents=True)
        log[month - 1 : month].write_parquet(f"parts/month={month}/0.parquet")
    with closing(sqlite3.connect("log.db")) as database, database:
        database.execute("create table log (user_id integer, movie_id integer, rating real, timestamp integer)")
        database.executemany("insert into log values (?, ?, ?, ?)", log.rows())

    interactions = ingest({"raw_interactions": SOURCES[source]}).load("interactions").collect()

    assert interactions.rows() == [(1, 7, 5.0, 100, 1), (2, 7, 3.0, 200, 0), (3, 7, 4.0, 300, 1)]


SOUND = {"user_id": [1, 2], "movie_id": [1, 2], "rating": [4, 2], "timestamp": [100, 200]}


def ingest_log(log: pl.DataFrame, **parameters: Any) -> DataCatalog:
    """Run the step on a log of these rows, their items, and no user table."""
    log.write_parquet("log.parquet")
    log.select(pl.col("movie_id").unique(), movie_title=pl.lit("Film")).write_parquet("items.parquet")
    entries = {
        f"raw_{name}": {"type": "polars.EagerPolarsDataset", "file_format": "parquet", "filepath": f"{file}.parquet"}
        for name, file in (("interactions", "log"), ("items", "items"))
    }
    no_users = {"type": "MemoryDataset", "data": None}
    return ingest(entries | {"raw_users": no_users}, {"users": None, "items": {"fields": []}, **parameters})


def samples_of(catalog: DataCatalog, min_history: int) -> pl.DataFrame:
    return reference_log(*canonical_tables(catalog), min_history).samples


def test_a_user_with_50_000_rows_and_one_with_one(project: Path) -> None:
    rows = 50_000
    log = pl.DataFrame(
        {
            "user_id": [7] * rows + [8],
            "movie_id": [*range(rows), 3],
            "rating": 4,
            "timestamp": range(1, rows + 2),
        }
    )
    samples = samples_of(ingest_log(log), min_history=5)
    assert samples.height == rows - 5
    assert samples["user_index"].unique().to_list() == [0]
    assert samples["history_end"].to_list() == list(range(5, rows))


def test_all_rows_at_one_timestamp(project: Path) -> None:
    log = pl.DataFrame({"user_id": [1, 1, 1, 2, 2], "movie_id": [9, 8, 7, 9, 7], "rating": 4, "timestamp": 100})
    catalog = ingest_log(log)
    assert catalog.load("interactions").collect().select("user_id", "item_id").rows() == [
        (1, 9),
        (1, 8),
        (1, 7),
        (2, 9),
        (2, 7),
    ]
    assert samples_of(catalog, min_history=1).is_empty()  # no row sees another one of its own second
    samples = samples_of(catalog, min_history=0)
    assert samples.select("user_index", "history_end").rows() == [(0, 0)] * 3 + [(1, 3)] * 2


@pytest.mark.parametrize(
    "ids",
    [["", "-1", "00", "a b", "ü", "😀"], [-(2**63), -1, 0, 1, 2**53 + 1, 2**63 - 1]],
    ids=["text", "64 bits and negative"],
)
def test_any_id_survives(project: Path, ids: list[Any]) -> None:
    log = pl.DataFrame({"user_id": ids, "movie_id": ids[::-1], "rating": 4, "timestamp": 100})
    interactions = ingest_log(log).load("interactions").collect()
    named = [pair for pair in zip(ids, ids[::-1], strict=True) if "" not in pair]
    assert interactions.select("user_id", "item_id").rows() == named


def test_items_and_log_that_only_meet_in_part(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    items = csv("items.csv", movie_id=[1, 3], movie_title=["Seen", "Never seen"])
    catalog = ingest({"raw_interactions": csv("log.csv", **SOUND), "raw_items": items}, {"items": {"fields": []}})
    assert catalog.load("items").rows() == [(1, "Seen"), (2, "Unknown title"), (3, "Never seen")]
    assert counts(catalog)["items without a row"] == 1
    assert "1 of 3 items have no title and are called 'Unknown title'" in caplog.text


def test_any_title_becomes_one_line(project: Path) -> None:
    titles = {
        1: ("x" * 10_000, "x" * 10_000),
        2: ("", "Unknown title"),
        3: ("\x00\t \x7f", "Unknown title"),
        4: ("Up\r\n\u2028User: 👩‍🚀\x1b[31m é", "Up User: 👩‍🚀 [31m é"),
    }
    log = pl.DataFrame({"user_id": 1, "movie_id": list(titles), "rating": 4, "timestamp": 100})
    log.write_parquet("log.parquet")
    pl.DataFrame({"movie_id": list(titles), "movie_title": [raw for raw, _ in titles.values()]}).write_ndjson(
        "items.json"
    )
    catalog = ingest(
        {
            "raw_interactions": {
                "type": "polars.EagerPolarsDataset",
                "file_format": "parquet",
                "filepath": "log.parquet",
            },
            "raw_items": {"type": "polars.EagerPolarsDataset", "file_format": "ndjson", "filepath": "items.json"},
        },
        {"items": {"fields": []}},
    )
    assert dict(catalog.load("items").rows()) == {item: expected for item, (_, expected) in titles.items()}


def test_texts_of_a_second_table_join_the_items(project: Path) -> None:
    texts = csv("texts.csv", film=[127, 5_000], plot=["A family &amp; a feud.", "None of these"])
    columns = {"item_id": "film", "fields": [{"name": "description", "column": "plot"}]}
    catalog = ingest({"raw_item_texts": texts}, {"item_texts": columns})
    items = catalog.load("items")
    assert items.columns == ["item_id", "title", "genres", "description"]
    assert items.drop_nulls("description").rows() == [
        (127, "The Godfather (1972)", "Action, Crime, Drama", "A family & a feud.")
    ]
    assert counts(catalog)["items without item texts"] == 1_681


HEADER = "user_id,movie_id,rating,timestamp"
TYPED = {"dtype": {"user_id": "Int64", "movie_id": "Int64", "rating": "Float64", "timestamp": "Int64"}}
READERS = {
    "pandas": {"type": "pandas.CSVDataset", "load_args": TYPED | {"low_memory": False}},
    "pandas, types guessed": {"type": "pandas.CSVDataset", "load_args": {"low_memory": False}},
    "pandas, python engine": {"type": "pandas.CSVDataset", "load_args": TYPED | {"engine": "python"}},
    "polars": {"type": "polars.CSVDataset"},
}


def write_log(broken: str) -> Path:
    """A log whose line 40,001 is another one."""
    lines = [HEADER, *(f"{row % 943 + 1},{row % 1_682 + 1},4,{row + 1}" for row in range(60_000))]
    lines[40_000] = broken
    file = Path("ratings.csv")
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.mark.parametrize(
    ("reader", "broken", "refusal"),
    [
        ("pandas", "1,2,4,100,7", r"ratings\.csv.*Expected 4 fields in line 40001, saw 5"),
        ("pandas", "1,2,four,100", r"ratings\.csv.*Unable to parse string 'four' at position 39999"),
        ("pandas, types guessed", "1,2,four,100", r"'rating' of raw_interactions.*row 40,000 holds 'four'"),
        ("pandas, python engine", "1,2,4,100,7", r"ratings\.csv.*Expected 4 fields in line 40001, saw 5"),
        ("pandas, python engine", "1,2,four,100", r"ratings\.csv.*Unable to parse string 'four' at position 39999"),
        ("polars", "1,2,4,100,7", r"ratings\.csv.*found more fields than defined"),
        ("polars", "1,2,four,100", r"ratings\.csv.*could not parse `four` as dtype `i64` at column 'rating'"),
    ],
)
def test_a_broken_line_stops_before_anything_is_written(project: Path, reader: str, broken: str, refusal: str) -> None:
    file = write_log(broken)
    with pytest.raises((DatasetError, ValueError), match=f"(?s){refusal}"):
        ingest({"raw_interactions": READERS[reader] | {"filepath": str(file)}})
    assert not Path("data").exists()


@pytest.mark.parametrize("reader", READERS)
def test_a_line_cut_short_is_counted_and_dropped(project: Path, reader: str) -> None:
    file = write_log("1,2")
    catalog = ingest({"raw_interactions": READERS[reader] | {"filepath": str(file)}})
    assert counts(catalog)["interactions"] == 59_999
    assert dropped(catalog) == {"missing rating": 1}


@pytest.mark.parametrize(
    ("columns", "parameters", "refusal"),
    [
        (SOUND | {"movie_id": None}, {}, "raw_interactions has no column 'movie_id', only: user_id, rating"),
        (SOUND | {"rating": ["good", "bad"]}, {}, "'rating' of raw_interactions is of type String"),
        (SOUND | {"movie_id": [1.5, 2.0]}, {}, "ids are whole numbers or text"),
        (SOUND | {"timestamp": ["1/2/2020", "2020-01-03"]}, {"timestamp_format": "%Y-%m-%d"}, "do not match"),
        (SOUND | {"rating": [50, 60]}, {}, "'rating' of raw_interactions ranges from 50 to 60"),
        (SOUND, {"drop": {"rating": [4, 5, 3, 2, 1]}}, "has no interaction left after cleaning"),
        (SOUND | {"user_id": [10_001, 10_002]}, {}, "raw_users has none of the log's user_ids"),
    ],
    ids=["missing column", "rating of text", "ids with fractions", "timestamps", "scale", "empty", "foreign users"],
)
def test_faulty_data_stops_before_anything_is_written(
    project: Path, columns: dict[str, Any], parameters: dict[str, Any], refusal: str
) -> None:
    entry = csv("ratings.csv", **{name: values for name, values in columns.items() if values})
    with pytest.raises(ValueError, match=refusal):
        ingest({"raw_interactions": entry}, {"interactions": parameters})
    assert not Path("data").exists()


@pytest.mark.parametrize(
    ("columns", "refusal"),
    [
        ({"item_id": "plots"}, "raw_item_texts has no column 'plots'"),
        ({"fields": [{"name": "plot", "column": "plots"}]}, r"no column 'plots'.*item_texts.fields\[plot\]"),
        ({}, "raw_item_texts has none of the log's item_ids"),
    ],
)
def test_faulty_item_texts_stop_before_anything_is_written(
    project: Path, columns: dict[str, Any], refusal: str
) -> None:
    texts = csv("texts.csv", film=[10_000], plot=["x"])
    sound = {"item_id": "film", "fields": [{"name": "plot", "column": "plot"}]}
    with pytest.raises(ValueError, match=refusal):
        ingest({"raw_item_texts": texts}, {"item_texts": sound | columns})
    assert not Path("data").exists()


def test_a_wrong_parameter_stops_before_any_node(project: Path) -> None:
    with pytest.raises(ParameterValidationError, match=r"'ingestion'[^$]*kcore"):
        ingest(parameters={"kcore": 5})
    assert not Path("data").exists()


def test_ingestion_loads_no_deep_learning() -> None:
    code = """
        import sys
        from kedro.validation.core import ValidatorSpec, resolve_validator
        from reclora_kedro.pipelines.ingestion import create_pipeline
        create_pipeline(names=None)
        resolve_validator(ValidatorSpec("reclora_kedro.ingestion.schema.Interactions"))
        print(*({"torch", "transformers", "peft", "sklearn", "plotly"} & set(sys.modules)))
    """
    result = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""


@pytest.mark.parametrize("filepath", ["log", "log/*.parquet"])
def test_an_empty_part_of_a_table_is_refused_before_the_run(project: Path, filepath: str) -> None:
    Path("log").mkdir()
    pl.DataFrame(SOUND).write_parquet("log/part-0.parquet")
    Path("log/_SUCCESS").touch()
    log = {"type": "polars.LazyPolarsDataset", "file_format": "parquet", "filepath": filepath}
    catalog = DataCatalog.from_config({"raw_interactions": log})
    pipeline = Pipeline([Node(lambda log: log, "raw_interactions", "interactions", name="clean")])
    assert not any(check() for check in checks(pipeline, catalog))
    Path("log/part-1.parquet").touch()
    with pytest.raises(
        ValueError, match=r"^raw_interactions: log/part-1\.parquet is empty: copy or download this part"
    ):
        [check() for check in checks(pipeline, catalog)]


def test_tables_of_an_environment_beside_those_of_conf_base_are_refused(project: Path) -> None:
    mine, none = csv("log.csv", **SOUND), {"type": "MemoryDataset", "data": None}
    items = csv("items.csv", movie_id=[1, 2], movie_title=["Mine", "Mine, too"])

    def try_out(**environment: Any) -> None:
        Path("conf/swap").mkdir(exist_ok=True)
        Path("conf/swap/catalog.yml").write_text(yaml.safe_dump(environment))
        config = CachingConfigLoader("conf", env="swap", **CONFIG_LOADER_ARGS)
        catalog = DataCatalog.from_config(config["catalog"])
        catalog["params:engine"] = LOCAL
        for check in checks(create_pipeline(NAMES), catalog):
            check()

    with pytest.raises(
        ValueError, match=r"raw_interactions of one without a name, raw_items of MovieLens-100K, raw_us"
    ):
        try_out(raw_interactions=mine)
    with pytest.raises(
        ValueError, match=r"raw_users of MovieLens-100K.*`raw_users: {type: MemoryDataset, data: null}`"
    ):
        try_out(raw_interactions=mine, raw_items=items)
    try_out()
    try_out(raw_interactions=mine, raw_items=items, raw_users=none)
    try_out(raw_users=csv("users.csv", user_id=[1]) | {"metadata": {"data_set": "MovieLens-100K"}})


def test_a_log_of_likes_alone_says_which_lines_it_needs() -> None:
    base = OmegaConfigLoader(str(ROOT / "conf"), base_env="base", default_run_env="base")["parameters"]
    history = HistoryConfig(**base["history"] | {"seed": 0})
    ingestion = IngestionConfig(**base["ingestion"])
    likes = ingestion.model_copy(update={"interactions": ingestion.interactions.model_copy(update={"rating": None})})
    require_negatives(ingestion, history)
    with pytest.raises(ValueError, match=r"`history: {negatives: {kind: matched}}`.*`prompt: {template: purchases}`"):
        require_negatives(likes, history)
    drawn = history.negatives.model_copy(update={"kind": "matched"})
    require_negatives(likes, history.model_copy(update={"negatives": drawn}))
