"""Edit a Kedro project in many ways, and count results that stay out of date and nodes that run needlessly.

    python benchmarks/edits.py

Edits begin with a copy of a project that was run before. One run with `--only-missing-outputs` follows, and one that
makes everything, in a process of its own. A result of the first that differs from the second's is out of date; a node
run is needed if its results or what it reads change. Edits of different nodes' results are tried together; of a batch
in which something is out of date or runs needlessly, each edit is tried by itself.
"""

import argparse
import io
import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edited_project import CODE_EDITS, FILES, LIB, PROJECT_EDITS, Edit
from tqdm import tqdm


@dataclass(frozen=True)
class Outcome:
    """What a run after an edit did.

    Attributes:
        edits: names of the edits.
        ran: nodes that ran.
        needed: nodes whose results a run of everything changes, or that read results that it changes.
        stale: nodes whose results differ from those of a run of everything.
    """

    edits: tuple[str, ...]
    ran: tuple[str, ...]
    needed: tuple[str, ...]
    stale: tuple[str, ...]

    @property
    def needless(self) -> tuple[str, ...]:
        return tuple(sorted(set(self.ran) - set(self.needed)))


def write_project(folder: Path) -> None:
    for name, text in FILES.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.lstrip(), encoding="utf-8")


def apply_edit(edit: Edit, folder: Path) -> None:
    """Apply an edit to the files of a project."""
    file = folder / edit.file
    if edit.old is None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(edit.new, encoding="utf-8")
        return
    text, status = file.read_text(encoding="utf-8"), file.stat()
    assert edit.old in text, f"{edit.name}: {edit.file} has no {edit.old!r}"
    file.write_text(text.replace(edit.old, edit.new), encoding="utf-8")
    if edit.keeps_time:
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def results(folder: Path) -> dict[str, bytes]:
    """Return what nodes have left, by node."""
    return {file.stem: file.read_bytes() for file in (folder / "data/out").glob("[!.]*")}


def run_project(folder: Path, **arguments: Any) -> list[str]:
    """Run a project as `kedro run` does; return the names of the nodes that ran."""
    from kedro.framework.project import settings
    from kedro.framework.startup import bootstrap_project
    from kedro.pipeline import Node

    run, ran = Node.run, list[str]()

    def noting(node: Node, inputs: Any = None) -> Any:
        ran.append(node.name)
        return run(node, inputs)

    bootstrap_project(folder)
    Node.run = noting  # type: ignore[method-assign, assignment]
    try:
        with settings.SESSION_CLASS.create(folder) as session:
            session.run(**arguments)
    finally:
        Node.run = run  # type: ignore[method-assign]
    return ran


def in_child(function: Any, *arguments: Any) -> Any:
    """Return what a function returns in a child process, as JSON; raise RuntimeError with its output if it fails."""
    receiver, sender = os.pipe()
    if (child := os.fork()) == 0:
        said = io.StringIO()
        try:
            with redirect_stdout(said), redirect_stderr(said):
                answer: Any = {"value": function(*arguments)}
        except BaseException as error:
            answer = {"error": f"{said.getvalue()[-2000:]}\n{type(error).__name__}: {error}"}
        with os.fdopen(sender, "w") as stream:
            json.dump(answer, stream)
        os._exit(0)
    os.close(sender)
    with os.fdopen(receiver) as stream:
        answer = json.load(stream)
    os.waitpid(child, 0)
    if "error" in answer:
        raise RuntimeError(answer["error"])
    return answer["value"]


def prepare(folder: Path) -> list[str]:
    """Enter a project, as a shell does; return the names of the nodes that its first run runs."""
    enter(folder)
    return run_project(folder)


def enter(folder: Path) -> None:
    logging.disable(logging.CRITICAL)
    os.chdir(folder)
    sys.path[:0] = [str(folder / LIB)]


def try_edit(folder: Path) -> tuple[list[str], list[str], list[str]]:
    """Run an edited project twice; return the nodes that ran first, that changed, and that stayed out of date."""
    enter(folder)
    if (folder / "environment.json").exists():
        os.environ.update(json.loads((folder / "environment.json").read_text()))
    before = results(folder)
    ran = run_project(folder, only_missing_outputs=True)
    kept = results(folder)
    shutil.rmtree(folder / "data/out")
    run_project(folder)
    after = results(folder)
    changed = sorted(name for name in after if after[name] != before.get(name))
    if "total" in changed:  # all others read it
        changed = sorted({*changed, *ran})
    if "from_memory" in changed:
        changed.append("memory")  # which it reads, and which leaves no file
    return ran, changed, sorted(name for name in after if after[name] != kept.get(name))


def outcomes(edits: list[Edit], scratch: Path) -> Iterator[Outcome]:
    """Yield the outcome of each batch of edits, or of each edit of a batch that is not as it should be."""
    base = scratch / "mill"
    write_project(base)
    in_child(prepare, base)
    again = in_child(try_again, base)
    assert not again, f"Without an edit, {again} ran again."
    batches: dict[str, list[Edit]] = {}
    for edit in edits:
        batches.setdefault(edit.batch, []).append(edit)
    for batch in tqdm(batches.values(), "batches"):
        outcome = outcome_of(batch, base)
        alone = len(batch) > 1 and (outcome.stale or outcome.needless)
        yield from (outcome_of([edit], base) for edit in batch) if alone else [outcome]


def outcome_of(edits: list[Edit], base: Path) -> Outcome:
    """Return the outcome of edits of a project, which is as it was afterwards.

    The project keeps its place: what records say of it must not depend on the folder.
    """
    kept = base.with_name("kept")
    shutil.copytree(base, kept)
    for edit in edits:
        apply_edit(edit, base)
    ran, needed, stale = in_child(try_edit, base)
    shutil.rmtree(base)
    kept.rename(base)
    return Outcome(tuple(edit.name for edit in edits), tuple(ran), tuple(needed), tuple(stale))


def try_again(folder: Path) -> list[str]:
    """Run a project that is not edited; return the nodes that run all the same."""
    enter(folder)
    return run_project(folder, only_missing_outputs=True)


def table(suite: str, found: list[Outcome]) -> str:
    """Return a row of the table of all suites."""
    ran, needed = (sum(len(getattr(each, name)) for each in found) for name in ("ran", "needed"))
    stale, edits = sum(bool(each.stale) for each in found), sum(len(each.edits) for each in found)
    return f"| {suite} | {edits} | {stale} | {needed} | {ran} | {ran / max(needed, 1):.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="a text in the names of the edits to try")
    parser.add_argument("--suite", choices=["code", "project"], help="one of the two suites; else both")
    arguments = parser.parse_args()
    import kedro.framework.cli  # noqa: F401  # what children need is imported once
    import pandas  # noqa: F401

    import kedro_provenance.plugin  # noqa: F401

    sys.dont_write_bytecode = True  # else Python itself takes old code after an edit of the same size and time
    memory = Path("/dev/shm")
    rows, told = list[str](), list[str]()
    for suite, edits in (("code", CODE_EDITS), ("project", PROJECT_EDITS)):
        chosen = [each for each in edits if arguments.only in each.name and arguments.suite in (None, suite)]
        with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as scratch:
            found = [*outcomes(chosen, Path(scratch))] if chosen else []
        rows.append(table(suite, found))
        for each in found:
            if each.stale or each.needless:
                edits_of, lists = ", ".join(each.edits), (each.stale, each.needless)
                stale, needless = (", ".join(names) or "none" for names in lists)
                told.append(f"- {edits_of}: out of date {stale}; needless {needless}")
    print("| suite | edits | with stale results | needed node runs | node runs | ratio |")
    print("| --- | --- | --- | --- | --- | --- |")
    print("\n".join([*rows, "", *told]))


if __name__ == "__main__":
    main()
