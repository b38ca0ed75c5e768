"""README and docs: every link leads somewhere, and every command of README and guides is one that runs."""

import re
import shlex

import pytest
from click.exceptions import Exit
from kedro.framework.project import pipelines

from projects import ROOT, kedro_run
from yaml_comments import CommentedYaml

README, DOCS = ROOT / "README.md", ROOT / "docs"
GUIDES = [*sorted((DOCS / "start").glob("*.md")), *sorted((DOCS / "guides").glob("*.md"))]
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


def test_the_readme_is_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 80


def commands():
    """Arguments of each `kedro run` in a block of commands of README and guides, lines that go on put together."""
    said = {}
    for page in (README, *GUIDES):
        for block in re.findall(r"```(?:console|bash)\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words[:2] == ["kedro", "run"]:
                    said.setdefault(
                        " ".join(words[2:]), pytest.param(words[2:], id=f"{page.stem}: {' '.join(words[2:])}")
                    )
    return said.values()


def options(words):
    """The values of the options of `kedro run`, flags as None."""
    found, words = {}, list(words)
    while words:
        name = words.pop(0)
        assert name.startswith("--"), name
        found[name] = words.pop(0) if words and not words[0].startswith("--") else None
    return found


def nested(assignments):
    """Runtime parameters as Kedro makes them of `a.b=1,c=x`."""
    from kedro.framework.cli.utils import _split_params

    return _split_params(None, None, assignments) if assignments else {}


@pytest.mark.slow
@pytest.mark.parametrize("words", commands())
def test_every_command_of_readme_and_guides_is_one_that_runs(finished_run, words):
    project, given = finished_run.project, options(words)
    assert given.keys() <= {"--env", "--pipelines", "--params", "--only-missing-outputs", "--from-nodes", "--tags"}
    environment = given.get("--env")
    assert environment is None or environment.startswith("your-") or (ROOT / "conf" / environment).is_dir()
    names = [name for name in (given.get("--pipelines") or "").split(",") if name]
    pipelines.set_requested(None)
    assert set(names) <= set(pipelines)
    parameters = nested(given.get("--params"))
    with pytest.raises(Exit):  # the parameters are checked, and the plan is made, but nothing is run
        kedro_run(project, runtime_params=parameters | {"dry_run": True}, pipeline_names=names or None)


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
