"""Code is known by what it does."""

import ast
from pathlib import Path

import pytest

from kedro_provenance import code, parameters
from kedro_provenance.code import code_digest
from reclora_kedro import lens as lens_package
from reclora_kedro.datasets import folders
from reclora_kedro.evaluation import page, report
from reclora_kedro.histories.config import HistoryConfig
from reclora_kedro.lens import base
from reclora_kedro.pipelines.evaluation import nodes as evaluation
from reclora_kedro.pipelines.lens import nodes as lens


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
    for function in (code._code_run_by, code._code_behind, code._references, code._Module.find):
        function.cache_clear()


def test_comments_docstrings_and_layout_are_no_code():
    one = 'def f(x):\n    """Says."""\n    return x + 1\n'
    other = "def f(x):  # adds\n\n    '''Tells.'''\n    return (x\n            + 1)\n"
    assert code._digest(ast.parse(one)) == code._digest(ast.parse(other))
    assert code._digest(ast.parse(one)) != code._digest(ast.parse(one.replace("1", "2")))


def test_code_that_a_node_does_not_reach_does_not_count(changed_code):
    train, plot = code_digest(lens.train_lens), code_digest(evaluation.plot_auc)
    changed_code(base.__file__, "def load_lens", "def load_the_lens")
    assert code_digest(lens.train_lens) != train
    assert code_digest(evaluation.plot_auc) == plot


def test_a_function_s_own_helpers_count_and_its_neighbours_do_not(changed_code):
    neighbour, user = code_digest(code._defined_names), code_digest(code_digest)
    changed_code(code.__file__, "whole.join(_code_behind(name))", "whole.join(_code_behind(name)), print()")
    assert code_digest(code._defined_names) == neighbour
    assert code_digest(code_digest) != user


def test_of_models_that_are_found_by_name_those_count_that_a_parameter_names(changed_code):
    twin, sim = code_digest(lens.train_lens, {"twin", "auto"}), code_digest(lens.train_lens, {"sim", "auto"})
    assert twin != sim
    changed_code(Path(base.__file__).parent / "models/twin.py", "import", "import os; import")
    assert code_digest(lens.train_lens, {"twin", "auto"}) != twin
    assert code_digest(lens.train_lens, {"sim", "auto"}) == sim


@pytest.mark.parametrize("template", [page.__file__, report.__file__])
def test_templates_of_pages_count(changed_code, template):
    before = {node: code_digest(node) for node in (evaluation.write_report, evaluation.plot_roc)}
    changed_code(template.replace(".py", ".html.jinja"), "<", "<!-- changed --><")
    assert code_digest(evaluation.write_report) != before[evaluation.write_report]
    assert code_digest(evaluation.plot_roc) == before[evaluation.plot_roc]


def test_code_in_packages_counts(changed_code):
    train, plot = code_digest(lens.train_lens), code_digest(evaluation.plot_auc)
    changed_code(lens_package.__file__, "LENS_MODELS =", "print()\nLENS_MODELS =")
    assert code_digest(lens.train_lens) != train
    assert code_digest(evaluation.plot_auc) == plot


def test_the_code_of_a_dataset_counts_with_that_of_its_base(changed_code):
    log, adapter = code_digest(folders.InteractionLogDataset), code_digest(folders.PeftAdapterDataset)
    changed_code(folders.__file__, "return InteractionLog.load(folder)", "return InteractionLog.load(folder / '.')")
    assert code_digest(folders.InteractionLogDataset) != log
    assert code_digest(folders.PeftAdapterDataset) == adapter
    changed_code(folders.__file__, "folder.mkdir(parents=True, exist_ok=True)", "folder.mkdir(parents=True)")
    assert code_digest(folders.PeftAdapterDataset) != adapter


def test_of_a_function_within_another_one_the_module_counts(changed_code):
    before = code_digest(parameters.reads())
    changed_code(parameters.__file__, "bound = signature.bind(", "bound = signature.bind_partial(")
    assert code_digest(parameters.reads()) != before


def test_what_is_not_the_project_s_is_known_by_its_name():
    assert code_digest(len) != code_digest(max)
    assert code_digest(HistoryConfig) != code_digest(len)
