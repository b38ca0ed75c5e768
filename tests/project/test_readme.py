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
NUMBER = re.compile(r"0\.\d{3}")


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
    """Figures of boosted trees differ by the number of threads."""
    monkeypatch.setenv("COLUMNS", "160")
    project = copy_code(tmp_path / "project")
    kedro_run(project, env=None, to_nodes=["recommendation.show_recommendations"])
    printed = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in TEXT.splitlines() if line.startswith("│")]
    assert len(rows) == 6
    for row in rows:
        texts = [[re.escape(text).replace("…", ".*") for text in NUMBER.split(cell)] for cell in row if cell]
        found = re.search(r"[^\n]*".join(f"({NUMBER.pattern})".join(text) for text in texts), printed)
        assert found, row
        shown = [float(number) for number in NUMBER.findall(" ".join(row))]
        assert [float(number) for number in found.groups()] == pytest.approx(shown, abs=0.01)
