"""Count the edits of code that each tool's own hash of a function misses, beside codeprint's.

    python benchmarks/hashes.py

The edits are those of `benchmarks/edits.py`. Each is made in a copy of the project, whose functions are then called
with the same argument in a process of its own: a hash misses an edit if a function returns something else and has the
hash from before. Functions whose hash changes though they return the same are counted, too. Tools that are not
installed are left out.
"""

import inspect
import shutil
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from edited_project import CODE_EDITS
from edits import apply_edit, enter, in_child, write_project
from tqdm import tqdm

ARGUMENT = 6
NO_HASH = "no hash"
Hash = Callable[[Any], str]


def of_codeprint(function: Any) -> str:
    from codeprint import fingerprint

    return fingerprint(function, imported=("mill.settings", "mill.pipeline_registry", "mill.pipelines.*")).digest


def of_joblib(function: Any) -> str:
    from joblib.func_inspect import get_func_code

    return get_func_code(function)[0]


def of_redun(function: Any) -> str:
    from redun import task

    return task(namespace="mill")(function).hash


def of_hamilton(function: Any) -> str:
    from hamilton.graph_types import hash_source_code

    return hash_source_code(function, strip=True)


TOOLS: dict[str, tuple[str, Hash]] = {
    "codeprint": ("codeprint", of_codeprint),
    "joblib's Memory": ("joblib", of_joblib),
    "redun's task": ("redun", of_redun),
    "Hamilton's cache": ("sf-hamilton", of_hamilton),
    "ZenML's step (its source, as ZenML reads it)": ("", inspect.getsource),
}


def state(folder: Path) -> dict[str, Any]:
    """Return what the functions of a project return, and their hashes by tool, by the names of their nodes."""
    enter(folder)
    from kedro.framework.project import pipelines
    from kedro.framework.startup import bootstrap_project

    bootstrap_project(folder)
    found: dict[str, Any] = {}
    for node in pipelines["__default__"].nodes:
        if node.inputs == ["total"] and inspect.isfunction(node.func) and node.func.__name__ != "<lambda>":
            hashes = {}
            for tool in installed():
                try:
                    hashes[tool] = TOOLS[tool][1](node.func)
                except Exception as error:  # whatever a tool raises: its user would have no hash
                    hashes[tool] = f"{NO_HASH}: {error}"
            found[node.name] = [repr(node.func(ARGUMENT)), hashes]
    return found


def installed() -> dict[str, str]:
    """Return the tools that are installed, with their versions."""
    versions = {}
    for tool, (package, _) in TOOLS.items():
        try:
            versions[tool] = version(package) if package and package != "codeprint" else ""
        except PackageNotFoundError:
            continue
    return versions


def main() -> None:
    import kedro.framework.cli  # noqa: F401  # what children need is imported once
    import pandas  # noqa: F401

    import kedro_provenance.plugin  # noqa: F401

    sys.dont_write_bytecode = True
    tools = installed()
    missed: dict[str, list[str]] = {tool: [] for tool in tools}
    needless = dict.fromkeys(tools, 0)
    mattering = set[str]()
    with tempfile.TemporaryDirectory() as scratch:
        base, kept = Path(scratch, "mill"), Path(scratch, "kept")
        write_project(base)
        before = in_child(state, base)
        for edit in tqdm(CODE_EDITS, disable=None):
            shutil.copytree(base, kept)
            apply_edit(edit, base)
            after = in_child(state, base)
            shutil.rmtree(base)
            kept.rename(base)
            for name, (result, hashes) in after.items():
                if result != before[name][0]:
                    mattering.add(edit.name)
                for tool in tools:
                    is_same = hashes[tool] == before[name][1][tool]
                    if result != before[name][0] and is_same and edit.name not in missed[tool]:
                        missed[tool].append(edit.name)
                    needless[tool] += result == before[name][0] and not is_same
    print(f"{len(mattering)} of {len(CODE_EDITS)} edits change what one of {len(before)} functions returns.\n")
    print("| hash of | version | edits missed | functions marked needlessly | without a hash |")
    print("| --- | --- | --- | --- | --- |")
    for tool, shown in tools.items():
        without = sum(each[1][tool].startswith(NO_HASH) for each in before.values())
        print(f"| {tool} | {shown} | {len(missed[tool])} | {needless[tool]} | {without} of {len(before)} |")
    print("\n".join(f"\n{tool} misses: {', '.join(edits) or 'none'}." for tool, edits in missed.items()))


if __name__ == "__main__":
    main()
