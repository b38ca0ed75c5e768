"""README shows what its reader gets: its Python example, and the tables of a run, on MovieLens-100K."""

import doctest
import logging
import re

import pytest
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from documented import README
from projects import ROOT, copy_code, kedro_run

pytestmark = pytest.mark.benchmark
TEXT = README.read_text(encoding="utf-8")


def test_the_python_example_prints_what_it_shows(tmp_path, monkeypatch, caplog):
    bootstrap_project(ROOT)
    with KedroSession.create(ROOT) as session:
        catalog = session.load_context().catalog
        catalog.load("raw_interactions").write_csv(tmp_path / "ratings.csv")
        catalog.load("raw_items").write_csv(tmp_path / "films.csv")
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.ERROR, "reclora_kedro")
    [example] = re.findall(r"```pycon\n(.*?)```", TEXT, flags=re.DOTALL)
    parsed = doctest.DocTestParser().get_doctest(example, {}, "README", None, 0)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.DocTestRunner(optionflags=flags).run(parsed) == (0, 3)


def test_a_run_prints_the_rows_it_shows(tmp_path, monkeypatch, capsys):
    """Figures may differ by the processor in their third digit."""
    monkeypatch.setenv("COLUMNS", "160")
    project = copy_code(tmp_path / "project")
    kedro_run(project, env=None, to_nodes=["recommendation.show_recommendations"])
    printed = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in TEXT.splitlines() if line.startswith("│")]
    assert len(rows) == 6
    for row in rows:
        cells = [re.escape(cell).replace("…", ".*") for cell in row if cell]
        pattern = r"[^\n]*".join(re.sub(r"(0\\\.\d\d)\d", r"\1\\d", cell) for cell in cells)
        assert re.search(pattern, printed), row
