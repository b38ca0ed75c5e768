"""Versions know what they were made of, and code is known by what it does."""

import ast
from pathlib import Path

import pytest

from reclora_kedro.histories.config import HistoryConfig
from reclora_kedro.lens import base
from reclora_kedro.pipelines.evaluation import nodes as evaluation
from reclora_kedro.pipelines.lens import nodes as lens
from reclora_kedro.rivals import lens_probe
from reclora_kedro.runs import provenance
from reclora_kedro.runs.provenance import Origin, Provenance, code_digest, is_intact, read_provenance

MADE = Provenance("train", "1", {"lens": {"seed": 42}}, {"log": Origin("2", "a")}, {"train": Origin("3", "b")}, ("x",))


@pytest.fixture
def changed_code(monkeypatch):
    """Change the project's code as it is read: a file's text by another one."""
    read_text = Path.read_text

    def change(file, old, new):
        def changed(path, *arguments, **named):
            text = read_text(path, *arguments, **named)
            if path != Path(file):
                return text
            assert old in text
            return text.replace(old, new)

        monkeypatch.setattr(Path, "read_text", changed)
        forget()

    yield change
    monkeypatch.undo()
    forget()


def forget():
    for function in (code_digest, provenance._code_behind, provenance._imported_modules, provenance._Module.of):
        function.cache_clear()


def test_a_version_keeps_its_provenance_and_shows_when_its_files_were_changed(tmp_path):
    (tmp_path / "part").mkdir()
    (tmp_path / "part/a.json").write_text("[1]")
    MADE.write(tmp_path)
    kept = read_provenance(tmp_path)
    assert (kept.node, kept.parameters, kept.inputs, kept.origins, kept.mixed) == (
        *(MADE.node, MADE.parameters, MADE.inputs, MADE.origins, MADE.mixed),
    )
    assert is_intact(tmp_path, kept)
    (tmp_path / "part/a.json").write_text("[2]")
    assert not is_intact(tmp_path, kept)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"inputs": 1}', '{"inputs": {}, "origins": {}, "mixed": []}'])
def test_what_cannot_be_read_says_nothing(tmp_path, text):
    assert read_provenance(tmp_path) is None
    (tmp_path / provenance.FILE).write_text(text)
    assert read_provenance(tmp_path) is None


def test_comments_docstrings_and_layout_are_no_code():
    one = 'def f(x):\n    """Says."""\n    return x + 1\n'
    other = "def f(x):  # adds\n\n    '''Tells.'''\n    return (x\n            + 1)\n"
    assert provenance._digest(ast.parse(one)) == provenance._digest(ast.parse(other))
    assert provenance._digest(ast.parse(one)) != provenance._digest(ast.parse(one.replace("1", "2")))


def test_code_that_a_node_does_not_reach_does_not_count(changed_code):
    train, attribute = code_digest(lens.train_lens), code_digest(evaluation.attribute)
    changed_code(base.__file__, "def load_lens", "def load_the_lens")
    assert code_digest(lens.train_lens) != train
    assert code_digest(evaluation.attribute) == attribute


def test_a_node_s_own_helpers_count_and_its_neighbours_do_not(changed_code):
    node, helper = code_digest(lens_probe.scores), code_digest(lens_probe.probe_scores)
    changed_code(lens_probe.__file__, "return score_table(", "return score_table(1 + ")
    changed = code_digest(lens_probe.scores)
    assert changed != node
    assert code_digest(lens_probe.probe_scores) == helper
    changed_code(lens_probe.__file__, "max_iter=1_000", "max_iter=2_000")
    assert code_digest(lens_probe.scores) not in (node, changed)


def test_models_that_are_found_by_name_count_too(changed_code):
    train = code_digest(lens.train_lens)
    changed_code(Path(base.__file__).parent / "models/twin.py", "import", "import os; import")
    assert code_digest(lens.train_lens) != train


def test_what_is_not_the_project_s_is_known_by_its_name():
    assert code_digest(len) != code_digest(max)
    assert code_digest(HistoryConfig) != code_digest(len)
