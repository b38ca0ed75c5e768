"""README and docs: every link leads somewhere, and every command of README and guides is one that runs."""

import json
import re
from itertools import pairwise
from typing import Annotated

import nbformat
import pytest
from click import Context, Group
from click.exceptions import Exit
from kedro.framework.cli.cli import KedroCLI
from kedro.framework.cli.utils import find_run_command
from kedro.framework.project import pipelines
from kedro.framework.startup import bootstrap_project
from pydantic import Field

from documented import README, arguments, calls, commands, options
from edit_sequences import nested
from parameter_types import alternatives, joined, kinds_at
from pictures import DARK, LIGHT, darkened
from projects import ROOT, kedro_run
from reclora_kedro.cli import cli
from reclora_kedro.lens.config import LensConfig
from reclora_kedro.parameters import Count
from tutorials import code_hash
from yaml_comments import CommentedYaml

pytest.importorskip("reclora_extras", reason="the documentation tells of its pipelines, too")

DOCS = ROOT / "docs"
PAGES = [README, ROOT / "SECURITY.md", *sorted(DOCS.rglob("*.md"))]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def anchor(heading):
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).strip().replace(" ", "-")


def targets(page):
    return [target for target in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in target]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_heading_that_are_there(page):
    broken = []
    for target in targets(page):
        path, _, fragment = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        outside_of_site = file.suffix == ".md" and DOCS in page.parents and DOCS not in file.parents
        if not file.exists() or outside_of_site:
            broken.append(target)
        elif fragment:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
            if fragment not in map(anchor, headings):
                broken.append(target)
    assert broken == []


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_tutorial_has_the_outputs_of_its_code(path):
    notebook = nbformat.read(path, as_version=4)
    assert notebook["metadata"].get("executed_code") == code_hash(notebook), "type `make tutorials`"
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    assert len(outputs) >= 5
    assert not any(output["output_type"] == "error" for output in outputs)
    shown = json.dumps([output.get("text") or {**output["data"], "image/png": ""} for output in outputs])
    assert re.findall(r"/(?:work|home|root|tmp|usr)/|\\u001b|\d\d:\d\d:\d\d\.|T\d\d\.\d\d\.\d\d", shown) == []
    assert path.stat().st_size < 500_000


def test_the_dark_picture_is_the_light_one():
    light = LIGHT.read_text(encoding="utf-8")
    assert DARK.read_text(encoding="utf-8") == darkened(light), "type `python docs/_extensions/pictures.py`"


def test_the_readme_is_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 80


@pytest.fixture(scope="module")
def registered():
    """Names of all pipelines."""
    bootstrap_project(ROOT)
    pipelines.set_requested(None)
    return set(pipelines)


@pytest.mark.parametrize(
    "command", [pytest.param(command, id=f"{page}: {command}") for command, page in commands().items()]
)
def test_every_command_of_readme_and_guides_names_what_is_there(command, registered):
    given = options(command)
    assert given.keys() <= {
        "--env",
        "--pipelines",
        "--params",
        "--only-missing-outputs",
        "--from-nodes",
        "--to-nodes",
        "--tags",
    }
    environment = given.get("--env")
    assert environment is None or environment.startswith("your-") or (ROOT / "conf" / environment).is_dir()
    assert {*(arguments(command)["pipeline_names"] or ())} <= registered


def planned_together():
    """Arguments of runs that plan all documented commands in the environment `test`.

    Commands of the same pipelines are planned in one run if none of them gives a parameter another value.
    """
    runs = []
    for command in commands():
        given = arguments(command)
        values = settings(given.pop("runtime_params"))
        for run, others in runs:
            if run == given and all(others.get(path, value) == value for path, value in values.items()):
                others |= values
                break
        else:
            runs.append((given, values))
    return runs


def settings(block, path=""):
    """Values of nested blocks by their dotted paths."""
    if not isinstance(block, dict) or not block:
        return {path: block} if path else {}
    return {
        name: value for key in block for name, value in settings(block[key], f"{path}.{key}" if path else key).items()
    }


@pytest.mark.slow
@pytest.mark.parametrize(("run", "values"), planned_together(), ids=lambda given: str([*given.values()]))
def test_every_command_of_readme_and_guides_is_one_that_runs(finished_run, run, values):
    with pytest.raises(Exit):  # the parameters are checked, and the plan is made, but nothing is run
        kedro_run(finished_run.project, **run, runtime_params=nested(values | {"dry_run": True}))


@pytest.mark.slow
def test_every_command_that_the_docs_name_is_there_with_its_options():
    project, wrong, count = KedroCLI(ROOT), [], 0
    of_package = {command.name: command for command in (find_run_command("reclora_kedro"), *cli.commands.values())}
    pipelines.set_requested(None)
    for words, page in calls():
        if words[0] == "airflow":  # of a plug-in that is not among those of the tests
            continue
        said, command = list(words), of_package.get(words[0]) or project.get_command(Context(project), words[0])
        while isinstance(command, Group) and words[1:] and not words[1].startswith("-"):
            words = words[1:]
            command = command.get_command(Context(command), words[0])
        options = {name for each in getattr(command, "params", ()) for name in (*each.opts, *each.secondary_opts)}
        given = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        values = dict(pairwise(words))
        named = {name for name in values.get("--pipelines", "").split(",") if re.fullmatch("[a-z_]+", name)}
        named -= {"longest_titles"}  # which the guide's reader writes
        if command is None or given - options - {"--help"} or (words[0] == "run" and named - {*pipelines}):
            wrong.append(f"{page}: {' '.join(said)}")
        count += 1
    assert "\n".join(wrong) == ""
    assert count > 150


def test_an_hour_of_reading_names_files_that_are_there():
    """Names without a folder are of the folder of the first one in their line, or lie in the package itself."""
    package = ROOT / "src/reclora_kedro"
    _, _, reading = (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition("## An hour of reading")
    lines = [re.findall(r"`([\w/]+\.py)`", line) for line in reading.splitlines() if line[:1].isdigit()]
    assert len(lines) == 12
    missing = [
        name
        for first, *others in lines
        for name in (first, *others)
        if not any((folder / name).exists() for folder in (package, (package / first).parent))
    ]
    assert not missing


def test_every_file_that_the_docs_name_is_there():
    kinds, folders = "py|yml|toml|j2|ipynb", "benchmarks|conf|deploy|notebooks|src|tests"
    path = re.compile(rf"(?<![\w/.-])(?:{folders})/[\w./-]*\.(?:{kinds})\b")
    named = {file for page in PAGES for file in path.findall(page.read_text(encoding="utf-8"))}
    of_reader = re.compile(r"conf/(local|your-.*|studies/my_.*)")
    assert {file for file in named if not (ROOT / file).exists() and not of_reader.match(file)} == set()
    assert len(named) > 20


def test_every_target_of_make_is_documented_and_there():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    said = {target for page in PAGES for target in re.findall(r"`?make ([a-z]+[a-z-]*)`", page.read_text("utf-8"))}
    assert said <= {*re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE)}


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("dropout", "number ≥ 0, < 1"),
        ("co_occurrence_folds", "whole number ≥ 0, ≤ 10"),
        ("long_history.kind", "`retrieved` or `recent`"),
        ("statistics_delay", "number ≥ 0 or `frozen`"),
        ("item_text", "true or false"),
    ],
)
def test_the_reference_tells_the_type_of_a_parameter(path, words):
    found = joined(word for kind in kinds_at(LensConfig, path.split(".")) for word in alternatives(kind))
    assert found.replace("\N{NO-BREAK SPACE}", " ") == words
    lists = joined(alternatives(Annotated[tuple[Count, ...], Field(min_length=1)] | None))
    assert lists.replace("\N{NO-BREAK SPACE}", " ") == "list of whole numbers ≥ 1; at least 1; or null"
    models = joined(
        alternatives(LensConfig.model_fields["model"].annotation, LensConfig.model_fields["model"].metadata)
    )
    assert models.startswith("`autoint`, ")


def test_comments_above_and_behind_keys_are_the_meanings_of_the_reference(tmp_path):
    (tmp_path / "parameters.yml").write_text("""\
# The header.

# Shared.
_base: &base
  depth: 3      # layers, "#" aside
  # above
  names: [a, b]  # behind,
                 # and on
block:
  <<: *base
  like: *base
  text: "no # comment"
  items:
    - x
""")
    written = CommentedYaml(tmp_path / "parameters.yml")
    assert written.header() == "The header."
    assert list(written.keys(depth=2)) == [
        ("_base", "", "Shared."),
        ("_base.depth", "3", 'layers, "#" aside'),
        ("_base.names", "[a, b]", "above\nbehind,\nand on"),
        ("block", "", ""),
        ("block.like", "*base", ""),
        ("block.text", '"no # comment"', ""),
        ("block.items", "[x]", ""),
    ]
