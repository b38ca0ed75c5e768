"""Raw data that are refused before anything is written."""

from pathlib import Path

import pytest

from bad_inputs import BAD_INPUTS, BadInput, ingest, lay_out, rows_with, written


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the step's own configuration and sound raw files."""
    return lay_out(tmp_path)


def test_sound_raw_data_are_taken(project: Path) -> None:
    assert ingest(project) is None
    assert written(project)


def test_a_long_id_is_taken(project: Path) -> None:
    rows_with(user_id="u" * 200)(project)
    sound = BadInput("a long id", lambda _: None, (), {}, {"users": None})
    assert ingest(project, sound) is None


@pytest.mark.parametrize("bad", BAD_INPUTS, ids=[bad.name for bad in BAD_INPUTS])
def test_bad_raw_data_are_refused_before_anything_is_written(project: Path, bad: BadInput) -> None:
    bad.make(project)
    said = ingest(project, bad)
    assert said is not None
    assert not [words for words in bad.words if words not in said], said
    assert not written(project)
