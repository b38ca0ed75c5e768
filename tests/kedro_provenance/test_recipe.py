"""Versions know what they were made of."""

import json
import shutil
from dataclasses import replace

import pytest

from kedro_provenance import lineage
from kedro_provenance.lineage import Ancestor, remembered
from kedro_provenance.recipe import FILE, Recipe, StoredVersion, parse_version, read_version

RECIPE = Recipe("train", "1", {"lens": {"seed": 42}}, {"log": "2"}, {"lens": "3"})
MADE = StoredVersion(RECIPE, run="now", seconds=2.5, revision="abc", parents=(remembered(Ancestor("log", "2")),))


def test_a_version_keeps_what_it_was_made_of_and_shows_when_its_files_were_changed(tmp_path):
    (tmp_path / "part").mkdir()
    (tmp_path / "part/a.json").write_text("[1]")
    MADE.write(tmp_path)
    stored = read_version(tmp_path)
    assert (stored.recipe, stored.run, stored.seconds, stored.revision, stored.lineage) == (
        *(RECIPE, "now", 2.5, "abc", MADE.lineage),
    )
    assert stored.recipe.key == RECIPE.key
    assert stored.is_intact
    (tmp_path / "part/a.json").write_text("[2]")
    assert not stored.is_intact


@pytest.mark.parametrize("text", [None, "", "{", "[]", "{}", '{"recipe": 1}', "lineage", "recipe"])
def test_what_cannot_be_read_says_nothing(tmp_path, text):
    (tmp_path / "a.json").write_text("[1]")
    if text in ("lineage", "recipe"):
        MADE.write(tmp_path)
        text = json.dumps(json.loads((tmp_path / FILE).read_text()) | {text: [3]})
    if text is not None:
        (tmp_path / FILE).write_text(text)
    stored = read_version(tmp_path)
    assert stored.recipe is None
    assert stored.content
    assert stored.is_intact


@pytest.mark.parametrize("change", [{"code": "9"}, {"parameters": {}}, {"inputs": {"log": "9"}}, {"entries": {}}])
def test_the_key_is_of_all_that_a_recipe_says(change):
    said = {name: getattr(RECIPE, name) for name in ("node", "code", "parameters", "inputs", "entries")}
    assert Recipe(**said).key == RECIPE.key != Recipe(**said | change).key


def test_another_name_of_a_node_makes_no_other_recipe():
    assert replace(RECIPE, node="fit", parts={"nodes.fit": "1"}).key == RECIPE.key


def test_a_record_does_not_grow_with_its_lineage(tmp_path, monkeypatch):
    states, made = tmp_path / "lineage", MADE
    for step in range(50):
        (folder := tmp_path / f"{step:02}").mkdir()
        made.write(folder, folder, states)
        made = replace(made, parents=(remembered(made.ancestor(f"entry {step:02}")),))
    records = [folder / FILE for folder in sorted(tmp_path.glob("??"))]
    assert {record.stat().st_size for record in records} == {records[0].stat().st_size}
    assert len(list(states.iterdir())) == 50
    monkeypatch.setattr(lineage, "_known", {})  # as in another process
    assert [each.entry for each in read_version(tmp_path / "49").lineage][:2] == ["log", "entry 00"]
    whole = parse_version(read_version(tmp_path / "49").to_json(), "")  # of an object storage
    assert [each.entry for each in whole.lineage][-1] == "entry 48"
    monkeypatch.setattr(lineage, "_known", {})
    shutil.rmtree(states)
    assert read_version(tmp_path / "49").recipe is None


def test_records_of_earlier_releases_are_read(tmp_path):
    (tmp_path / "a.json").write_text("[1]")
    MADE.write(tmp_path)
    record = json.loads((tmp_path / FILE).read_text())
    del record["kinds"], record["recipe"]["parts"]
    record["recipe"]["declared"] = {}
    (tmp_path / FILE).write_text(json.dumps(record))
    assert read_version(tmp_path).recipe == RECIPE
