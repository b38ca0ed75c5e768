"""README and docs: every link leads somewhere, and every command of README and guides is one that runs."""

import json
import re

import nbformat
import pytest
from click.exceptions import Exit
from kedro.framework.project import pipelines

from documented import README, arguments, commands, options
from pictures import DARK, LIGHT, darkened
from projects import ROOT, kedro_run
from tutorials import code_hash
from yaml_comments import CommentedYaml

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


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [pytest.param(command, id=f"{page}: {command}") for command, page in commands().items()]
)
def test_every_command_of_readme_and_guides_is_one_that_runs(finished_run, command):
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
    run = arguments(command)
    pipelines.set_requested(None)
    assert {*(run["pipeline_names"] or ())} <= set(pipelines)
    with pytest.raises(Exit):  # the parameters are checked, and the plan is made, but nothing is run
        kedro_run(finished_run.project, **run | {"runtime_params": run["runtime_params"] | {"dry_run": True}})


def test_every_target_of_make_is_documented_and_there():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    said = {target for page in PAGES for target in re.findall(r"`?make ([a-z]+[a-z-]*)`", page.read_text("utf-8"))}
    assert said <= {*re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE)}


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
