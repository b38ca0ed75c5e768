"""Count the ways back on a walk through the code, from one function to the next that a run calls for the first time.

    python tests/support/fabricate.py
    python benchmarks/walk.py ingestion history lens      # from the raw log to a trained lens
    python benchmarks/walk.py candidates recommendation   # and from there to recommendations, once those have run
    python benchmarks/walk.py --plan ingestion            # the plug-in's plan, up to the first node

Whoever reads along enters a room with the first function called there, and comes back to a room with each further
function that is called for the first time after they had left it. Rooms are the folders of the recommender that nodes
use; modules of its ground floor, which every room uses, are none, and neither are pipelines and datasets. Of the
plug-in, rooms are its files. It runs in the folder of the project whose package is installed.
"""

import argparse
import sys
from collections.abc import Iterator
from importlib import import_module
from inspect import CO_OPTIMIZED
from itertools import dropwhile, takewhile
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple
from unittest.mock import patch

from kedro.framework.cli.cli import KedroCLI
from kedro.pipeline.node import Node

HALLS = ("pipelines", "datasets")


class Call(NamedTuple):
    """The first call of a function."""

    file: Path
    function: str
    in_node: bool


def first_calls(pipelines: list[str], plan: bool) -> list[Call]:
    """Run pipelines in the environment `test`; return the first call of each function in Python, in order.

    Without `plan`, calls are those of nodes alone.
    """
    seen, calls, running = set(), list[Call](), list[str]()
    run_node = Node.run

    def run(node: Node, inputs: Any = None) -> Any:
        running.append(node.name)
        sys.setprofile(profile)
        try:
            return run_node(node, inputs)
        finally:
            sys.setprofile(outside)
            running.pop()

    def profile(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code not in seen:
            seen.add(code)
            if code.co_flags & CO_OPTIMIZED and not code.co_name.startswith("<"):  # else a module, class or lambda
                calls.append(Call(Path(code.co_filename), code.co_qualname, bool(running)))

    outside = profile if plan else None  # all that is called takes several times longer
    with patch.object(Node, "run", run):
        sys.setprofile(outside)
        command = ["run", "--env", "test", "--pipelines", ",".join(pipelines)]
        KedroCLI(project_path=Path.cwd()).main(command, standalone_mode=False)
        sys.setprofile(None)
    return calls


def rooms_of(calls: list[Call], plan: bool) -> Iterator[tuple[str, str]]:
    """Yield the room and name of each function that the walk passes."""
    package = folder_of("kedro_provenance" if plan else "reclora_kedro")
    if plan:
        calls = list(takewhile(lambda call: not call.in_node, calls))
        calls = list(dropwhile(lambda call: call.file != package / "plan.py", calls))
    for call in calls:
        if package in call.file.parents and (plan or call.in_node):
            path = call.file.relative_to(package)
            if plan:
                yield str(path), call.function
            elif len(path.parts) > 1 and path.parts[0] not in HALLS:
                yield path.parts[0], call.function


def folder_of(package: str) -> Path:
    """Return the folder of an installed package."""
    return Path(str(import_module(package).__file__)).parent


def main() -> None:
    """Print each change of room, and their numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipelines", nargs="+", help="run together, as by kedro run --pipelines")
    parser.add_argument("--plan", action="store_true", help="walk the plug-in up to the first node")
    arguments = parser.parse_args()
    here, visited, back = None, set[str](), 0
    for room, function in rooms_of(first_calls(arguments.pipelines, arguments.plan), arguments.plan):
        if room != here:
            is_back = room in visited
            back += is_back
            print(f"{'back to' if is_back else '':8}{room:24}{function}")
            here = room
            visited.add(room)
    print(f"{len(visited)} rooms, {back} ways back")


if __name__ == "__main__":
    main()
