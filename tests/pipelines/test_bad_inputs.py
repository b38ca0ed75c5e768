"""Raw data that are refused before anything is written."""

import json
import shutil
from pathlib import Path

import pytest

from bad_inputs import BAD_INPUTS, CATALOG, PARAMETERS, BadInput, rows_with, write_sound
from ingestion_run import refusal

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the step's own configuration and sound raw files, entered."""
    (tmp_path / "conf/base").mkdir(parents=True)
    for kind in ("catalog", "parameters"):
        shutil.copy(ROOT / f"conf/base/{kind}_ingestion.yml", tmp_path / "conf/base")
    write_sound(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ingest(project: Path, bad: BadInput | None = None) -> str | None:
    """Run the step on the raw files; what is said if it is refused."""
    (project / "conf/mine").mkdir()
    catalog, parameters = CATALOG | dict(bad.catalog if bad else {}), PARAMETERS | dict(bad.parameters if bad else {})
    (project / "conf/mine/catalog.yml").write_text(json.dumps(catalog))
    (project / "conf/mine/parameters.yml").write_text(json.dumps({"ingestion": parameters}))
    return refusal(project / "conf", "mine")


def written(project: Path) -> list[Path]:
    """What a run left but its lock."""
    return [path for path in project.glob("data/*") if path.name not in ("01_raw", ".run.lock")]


def test_sound_raw_data_are_taken(project: Path) -> None:
    assert ingest(project) is None
    assert written(project)


def test_a_long_id_is_taken(project: Path) -> None:
    rows_with(user_id="u" * 300)(project)
    sound = BadInput("a long id", lambda _: None, (), {}, {"users": None})
    assert ingest(project, sound) is None


@pytest.mark.parametrize("bad", BAD_INPUTS, ids=[bad.name for bad in BAD_INPUTS])
def test_bad_raw_data_are_refused_before_anything_is_written(project: Path, bad: BadInput) -> None:
    bad.make(project)
    said = ingest(project, bad)
    assert said is not None
    assert not [words for words in bad.words if words not in said], said
    assert not written(project)
