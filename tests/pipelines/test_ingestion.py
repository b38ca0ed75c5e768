"""The ingestion step through Kedro: on MovieLens-100K, on another data set, and on faulty data."""

import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from kedro.config import OmegaConfigLoader
from kedro.io import DataCatalog, DatasetError
from kedro.runner import SequentialRunner
from kedro.validation import ParameterValidationError, ParameterValidator

from reclora_kedro.pipelines.ingestion import create_pipeline
from reclora_kedro.settings import CONFIG_LOADER_ARGS

ROOT = Path(__file__).parents[2]
MOVIETWEETINGS = ROOT.parent / "shared" / "data" / "movietweetings" / "10K"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with the step's own configuration, entered."""
    for kind in ("catalog", "parameters"):
        (tmp_path / "conf" / "base").mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "conf" / "base" / f"{kind}_ingestion.yml", tmp_path / "conf" / "base")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ingest(catalog: dict[str, Any] | None = None, parameters: dict[str, Any] | None = None) -> DataCatalog:
    """Run the step in an environment that overrides these catalog entries and these keys of its parameters."""
    environment = Path("conf/swap")
    environment.mkdir()
    (environment / "catalog.yml").write_text(yaml.safe_dump(catalog or {}))
    (environment / "parameters.yml").write_text(yaml.safe_dump({"ingestion": parameters or {}}))
    config = OmegaConfigLoader("conf", env="swap", **CONFIG_LOADER_ARGS)
    validated = ParameterValidator({"ingestion": create_pipeline()}).validate_raw_params(config["parameters"])
    filled = DataCatalog.from_config(config["catalog"], save_version="2026-01-01T00.00.00.000Z")
    filled["params:ingestion"] = validated["ingestion"]
    SequentialRunner().run(create_pipeline(), filled)
    return filled


def counts(catalog: DataCatalog) -> dict[str, int]:
    return {row["check"]: row["rows"] for row in catalog.load("ingestion_report")}


def csv(path: str, **columns: list[Any]) -> dict[str, Any]:
    """A raw catalog entry over a CSV file with these columns."""
    pl.DataFrame(columns).write_csv(path)
    return {"type": "polars.EagerPolarsDataset", "file_format": "csv", "filepath": path}


def test_movielens_100k(project: Path) -> None:
    catalog = ingest()
    interactions, items, users = (catalog.load(name) for name in ("interactions", "items", "users"))
    assert (interactions.height, items.height, users.height) == (100_000, 1_682, 943)
    assert interactions["label"].sum() == 55_375
    assert items.row(0) == (1, "Toy Story (1995)", "Animation, Children's, Comedy")
    assert items.filter(item_id=127)["title"].item() == "The Godfather (1972)"
    assert users.row(0) == (1, "24", "M", "technician", "85711")
    dropped = [row for row in catalog.load("ingestion_report") if row["rule"].startswith("dropped")]
    assert dropped
    assert not any(row["rows"] for row in dropped)


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
    log = catalog.load("interactions")
    assert log.height == 100_000 - counts(catalog)["outside the k-core"]
    for column in ("user_id", "item_id"):
        assert log[column].value_counts()["count"].min() >= 5


@pytest.mark.skipif(not MOVIETWEETINGS.exists(), reason=f"the second data set is not at {MOVIETWEETINGS}")
def test_another_data_set_by_configuration_alone(project: Path) -> None:
    """The swap that the comment in parameters_ingestion.yml spells out: other separators, no user table, pandas."""
    text = (ROOT / "conf" / "base" / "parameters_ingestion.yml").read_text()
    comment = text[text.index("#   catalog.yml") : text.index("\ningestion:")]
    catalog_yaml, parameters_yaml = re.split("^#   parameters.yml\n", comment, flags=re.MULTILINE)
    catalog = yaml.safe_load(uncommented(catalog_yaml.split("\n", 1)[1]))
    for entry, file in (("raw_interactions", "ratings.dat"), ("raw_items", "movies.dat")):
        catalog[entry]["filepath"] = str(MOVIETWEETINGS / file)

    filled = ingest(catalog, yaml.safe_load(uncommented(parameters_yaml))["ingestion"])

    interactions, items, users = (filled.load(name) for name in ("interactions", "items", "users"))
    assert (interactions.height, items.height, users.height) == (10_000, 3_096, 3_794)
    assert users.columns == ["user_id"]
    assert items.row(0) == ("0002844", "Fantômas - À l'ombre de la guillotine (1913)", "Crime, Drama")
    assert 0.4 < interactions["label"].mean() < 0.6
    assert counts(filled)["items without a row"] == 0


def uncommented(comment: str) -> str:
    return textwrap.dedent("\n".join(line.removeprefix("#") for line in comment.splitlines()))


SOUND = {"user_id": [1, 2], "movie_id": [1, 2], "rating": [4, 2], "timestamp": [100, 200]}


@pytest.mark.parametrize(
    ("columns", "parameters", "refusal"),
    [
        (SOUND | {"movie_id": None}, {}, "raw_interactions has no column 'movie_id', only: user_id, rating"),
        (SOUND | {"rating": ["good", "bad"]}, {}, "'rating' of raw_interactions is of type String"),
        (SOUND | {"movie_id": [1.5, 2.0]}, {}, "ids are whole numbers or text"),
        (SOUND | {"timestamp": ["1/2/2020", "2020-01-03"]}, {"timestamp_format": "%Y-%m-%d"}, "don't match"),
        (SOUND | {"rating": [50, 60]}, {}, "No interaction is left after cleaning"),
        (SOUND | {"user_id": [10_001, 10_002]}, {}, "No user_id of raw_interactions occurs in raw_users"),
    ],
    ids=["missing column", "rating of text", "ids with fractions", "timestamps", "empty", "foreign users"],
)
def test_faulty_data_stops_before_anything_is_written(
    project: Path, columns: dict[str, Any], parameters: dict[str, Any], refusal: str
) -> None:
    entry = csv("ratings.csv", **{name: values for name, values in columns.items() if values})
    with pytest.raises(ValueError, match=refusal):
        ingest({"raw_interactions": entry}, {"interactions": parameters})
    assert not Path("data").exists()


def test_broken_raw_contract_stops_before_anything_is_written(project: Path) -> None:
    base = yaml.safe_load((ROOT / "conf" / "base" / "catalog_ingestion.yml").read_text())
    entry = csv("ratings.csv", **SOUND | {"rating": ["good", "bad"]})
    with pytest.raises(DatasetError, match="expected column 'rating' to have type Int64, got String") as refusal:
        ingest({"raw_interactions": entry | {"validator": base["raw_interactions"]["validator"]}})
    assert "raw_interactions" in str(refusal.value)
    assert not Path("data").exists()


@pytest.mark.parametrize(
    ("typo", "named"),
    [
        ({"kcore": 5}, "kcore"),
        ({"items": {"tittle": "name"}}, "items.tittle"),
        ({"label_threshold": "four"}, "label_threshold"),
    ],
)
def test_parameter_typo_stops_before_any_node(project: Path, typo: dict[str, Any], named: str) -> None:
    with pytest.raises(ParameterValidationError, match=f"'ingestion'[^$]*{named}"):
        ingest(parameters=typo)
    assert not Path("data").exists()


def test_ingestion_loads_no_deep_learning() -> None:
    code = """
        import sys
        from kedro.validation.core import ValidatorSpec, resolve_validator
        from reclora_kedro.pipelines.ingestion import create_pipeline
        create_pipeline()
        resolve_validator(ValidatorSpec("reclora_kedro.interactions.schema.Interactions"))
        print(*({"torch", "transformers", "peft", "sklearn", "plotly"} & set(sys.modules)))
    """
    result = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""
