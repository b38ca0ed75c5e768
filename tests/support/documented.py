"""Commands of README and guides: which there are, and runs of them."""

import re
import shlex

from projects import ROOT, kedro_run

README = ROOT / "README.md"
GUIDES = [*sorted((ROOT / "docs/start").glob("*.md")), *sorted((ROOT / "docs/guides").glob("*.md"))]

CALL = re.compile(r"(?:^|[ /])(?:kedro|reclora) ((?!reclora)[a-z]+(?:-[a-z]+)*\b[^`|&;#\n]*)", re.MULTILINE)


def commands():
    """The page of each `kedro run` in a block of commands, by its arguments; continued lines are joined.

    `kedro study` and `kedro forget` are runs of these pipelines.
    """
    pages = {}
    for page in (README, *GUIDES):
        for block in re.findall(r"```(?:console|bash)\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words[:2] == ["kedro", "run"]:
                    pages.setdefault(" ".join(words[2:]), page.stem)
                elif words[:2] == ["kedro", "forget"] and not words[2].startswith("--"):
                    users = ",".join(words[2:])
                    pages.setdefault(f"--pipelines forget --params forget.users=[{users}]", page.stem)
                elif words[:2] in (["kedro", "study"], ["kedro", "forget"]):
                    pages.setdefault(" ".join(["--pipelines", *words[1:]]), page.stem)
    return pages


def calls():
    """The words after `kedro` or `reclora` of each command in the docs, in a block or a sentence, with its page."""
    for page in (README, *sorted((ROOT / "docs").rglob("*.md"))):
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        sentences = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        blocks = re.findall(r"```(?:console|bash)\n(.*?)```", text, flags=re.DOTALL)
        for code in (*blocks, *(each.replace("\n", " ") for each in re.findall(r"`([^`]+)`", sentences))):
            for call in CALL.findall(code):
                yield shlex.split(call), page.stem


def config_files():
    """The files for `kedro run --config` in blocks of YAML."""
    blocks = [re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL) for page in GUIDES]
    return [block for found in blocks for block in found if block.startswith("run:\n")]


def options(command):
    """The values of the options of a command, flags as None."""
    values, words = {}, shlex.split(command)
    while words:
        name = words.pop(0)
        assert name.startswith("--"), name
        values[name] = words.pop(0) if words and not words[0].startswith("--") else None
    return values


def arguments(command):
    """The arguments of `kedro_run` for a command; its environment is left out."""
    from reclora_kedro.cli import split_params

    given = options(command)
    names = [name for name in (given.get("--pipelines") or "").split(",") if name]
    parameters = given.get("--params")
    return {
        "runtime_params": split_params(None, None, parameters or ""),
        "pipeline_names": names or None,
        "to_nodes": [name for name in (given.get("--to-nodes") or "").split(",") if name] or None,
    }


def run_documented(project, command):
    """Run a documented `kedro run` in the environment `test`; the catalog afterwards."""
    assert command in commands()
    return kedro_run(project, **arguments(command))
