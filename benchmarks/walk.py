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
from collections.abc import Callable, Iterable, Iterator
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
    """The first call of a function, in a node or outside of any."""

    file: Path
    function: str
    node: str | None


def first_calls(run: Callable[[], Any], plan: bool = False, steps: tuple[str, ...] = ("",)) -> list[Call]:
    """Run pipelines by a function; return the first call of each function in Python, in order.

    Without `plan`, calls are those of nodes alone, whose names begin with one of `steps`.
    """
    seen, calls, running = set(), list[Call](), list[str]()
    run_node = Node.run

    def run_profiled(node: Node, inputs: Any = None) -> Any:
        running.append(node.name)
        sys.setprofile(profile if node.name.startswith(steps) else None)
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
                calls.append(Call(Path(code.co_filename), code.co_qualname, running[-1] if running else None))

    outside = profile if plan else None  # all that is called takes several times longer
    with patch.object(Node, "run", run_profiled):
        sys.setprofile(outside)
        run()
        sys.setprofile(None)
    return calls


def rooms_of(calls: list[Call], plan: bool = False) -> Iterator[tuple[str, str]]:
    """Yield the room and name of each function that the walk passes."""
    package = folder_of("kedro_provenance" if plan else "reclora_kedro")
    if plan:
        calls = list(takewhile(lambda call: call.node is None, calls))
        calls = list(dropwhile(lambda call: call.file != package / "plan.py", calls))
    for call in calls:
        if package in call.file.parents and (plan or call.node is not None):
            path = call.file.relative_to(package)
            if plan:
                yield str(path), call.function
            elif len(path.parts) > 1 and path.parts[0] not in HALLS:
                yield path.parts[0], call.function


def folder_of(package: str) -> Path:
    """Return the folder of an installed package."""
    return Path(str(import_module(package).__file__)).parent


def changes_of(rooms: Iterable[tuple[str, str]]) -> Iterator[tuple[bool, str, str]]:
    """Yield each change of room: whether it is a way back, the room, and the function called there."""
    here, visited = None, set[str]()
    for room, function in rooms:
        if room != here:
            yield room in visited, room, function
            here = room
            visited.add(room)


def main() -> None:
    """Print each change of room, and their numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipelines", nargs="+", help="run together, as by kedro run --pipelines")
    parser.add_argument("--plan", action="store_true", help="walk the plug-in up to the first node")
    arguments = parser.parse_args()
    command = ["run", "--env", "test", "--pipelines", ",".join(arguments.pipelines)]

    def run() -> None:
        KedroCLI(project_path=Path.cwd()).main(command, standalone_mode=False)

    changes = list(changes_of(rooms_of(first_calls(run, arguments.plan), arguments.plan)))
    for is_back, room, function in changes:
        print(f"{'back to' if is_back else '':8}{room:24}{function}")
    back = sum(is_back for is_back, _, _ in changes)
    print(f"{len(changes) - back} rooms, {back} ways back")


if __name__ == "__main__":
    main()
