"""Whatever stands in a title is shown as it is, and the end of a run points to its results."""

import sys
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest

from kedro_provenance.catalog import AtomicCatalog
from reclora_kedro import hooks
from reclora_kedro.recommendation.delivery import titles_table
from reclora_kedro.terminal import show

TITLES = ["[/]", "[bold]x", "[red]Heat[/red]", "\\[b]", ":smile: (1990)", "[link=http://a.b]c[/link]"]


@pytest.mark.parametrize("title", TITLES)
def test_titles_and_ids_are_text(title, capsys):
    recommendations = pl.DataFrame(
        {
            "user_id": [title],
            "rank": [1],
            "title": [title],
            "because": [[title]],
            "score": [0.5],
            "fallback": [False],
        }
    )
    show(titles_table(recommendations))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["Recommended", "to", "user", *title.split()]
    cells = ["1", title, title]
    assert any([cell.strip() for cell in line.split("│")[1:-1]] == cells for line in lines)


@pytest.mark.parametrize("columns", [80, 60, 56, 52, 40])
def test_narrow_terminals_show_titles_whole_and_shorten_reasons_or_leave_them_out(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    title, reasons = "Star Trek Into Darkness (2013)", ["The Hangover Part III (2013)", "Identity Thief (2013)"]
    record = {"user_id": ["7"], "rank": [1], "title": [title], "because": [reasons], "score": [0.5]}
    show(titles_table(pl.DataFrame(record | {"fallback": [False]})))
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    [line] = [line for line in lines if title in line]
    assert ("The Hang" in line) == (columns > 54)
    assert {line[0] + line[-1] for line in lines[1:]} == {"┏┓", "┃┃", "┡┩", "││", "└┘"}
    assert len(line) <= columns


@pytest.mark.parametrize("on_path", [True, False])
def test_the_end_of_a_run_names_files_and_tables_and_how_to_go_on(tmp_path, capsys, monkeypatch, on_path):
    own = Path(sys.executable).with_name("kedro")
    monkeypatch.setattr(hooks.shutil, "which", lambda name: str(own) if on_path else None)
    table = {"type": "reclora_kedro.datasets.database_table.DatabaseTableDataset", "table_name": "shop.best"}
    report = {"type": "text.TextDataset", "filepath": f"{tmp_path}/report.html"}
    catalog = AtomicCatalog.from_config(
        {
            "recommendations_csv": table | {"credentials": {"con": "sqlite://"}},
            "recommendations": report | {"versioned": True},
            "evaluation_report": report,
        }
    )
    catalog["params:service"] = {"host": "here", "port": 1}
    run = hooks.RecommenderHooks()
    run.after_context_created(SimpleNamespace(project_path=tmp_path, env=None))
    run.after_pipeline_run({}, SimpleNamespace(all_outputs=lambda: {*catalog}), catalog)
    said = capsys.readouterr().out
    assert "Recommendations of all users:\n  the table shop.best\n" in said
    assert "plots:\n  report.html\n" in said
    kedro = hooks.typed_kedro()
    assert (kedro == "kedro") == on_path
    assert f"  {kedro} recommend USER\n    ten titles with reasons for the user with this id\n" in said
    assert f"  {kedro} serve\n    the live page, http://here:1/\n  {kedro} new-log" in said


def test_the_end_of_a_run_of_lists_alone_names_them_and_its_environment(tmp_path, capsys):
    catalog = AtomicCatalog.from_config({"recommendations": {"type": "text.TextDataset", "filepath": f"{tmp_path}/a"}})
    catalog["params:service"] = {"host": "here", "port": 1}
    run = hooks.RecommenderHooks()
    run.after_context_created(SimpleNamespace(project_path=tmp_path, env="your-shop"))
    run.after_pipeline_run({"to_nodes": ["lists"]}, SimpleNamespace(all_outputs=lambda: {*catalog}), catalog)
    said = capsys.readouterr().out
    assert said.startswith("The same as a versioned table:\n  a\nNext:\n")
    assert f"  {hooks.typed_kedro()} recommend USER --env your-shop\n" in said
    assert said.endswith("kedro serve --env your-shop\n    the live page, http://here:1/\n")
