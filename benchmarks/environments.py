"""Install the plug-in in fresh environments of several versions of Python and Kedro, and try it in a small project.

    python benchmarks/environments.py 3.11:1.0.0 3.12:1.4.0 3.13:1.7.0

In each environment, the four commands of the plug-in's README are typed in a project that has no line of it, then an
edit of a function and a command that asks for its effect. The Pythons have to be on this machine; uv installs packages.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests/support"))

from small_project import edit, make_project  # noqa: E402 - found there

PACKAGES = ["kedro-datasets", "pandas", "pyarrow", str(ROOT / "src/codeprint"), str(ROOT / "src/kedro_provenance")]


def outcome(python: str, kedro: str, folder: Path) -> str:
    """Return what is wrong in an environment; "passed" if nothing is."""
    uv, environment = Path(sys.executable).with_name("uv"), folder / "environment"

    def run(*command: object) -> str:
        ended = subprocess.run(
            list(map(str, command)),
            cwd=project if project.is_dir() else folder,
            env={**os.environ, "DO_NOT_TRACK": "1", "COLUMNS": "200", "VIRTUAL_ENV": str(environment)},
            capture_output=True,
            text=True,
        )
        if ended.returncode:
            raise RuntimeError(" ".join(f"{ended.stdout}{ended.stderr}".split())[-400:])
        return ended.stdout

    def commanded(*words: str) -> tuple[str, list[int]]:
        """Return what a command of Kedro says, and how many versions of both results there are then."""
        said = run(environment / "bin/kedro", *words)
        places = (project / "data/02_intermediate/cleaned.parquet", project / "data/03_primary/totals.parquet")
        return said, [len([*place.glob("*")]) for place in places]

    project = folder / "shop"
    try:
        run(uv, "venv", "--quiet", "--python", python, environment)
        run(uv, "pip", "install", "--quiet", f"kedro=={kedro}", *PACKAGES)
        make_project(project)
        (project / "src/shop/settings.py").write_text("")
        edit(project, "pyproject.toml", "1.7.0", kedro)
        commanded("provenance", "init")
        numbers = [commanded("run")[1], commanded("run", "--only-missing-outputs")[1]]
        edit(project, "src/shop/prices.py", "round(1)", "round()")
        why, _ = commanded("provenance", "why", "total")
        numbers.append(commanded("run", "--only-missing-outputs")[1])
    except RuntimeError as error:
        return str(error)
    if numbers != [[1, 1], [1, 1], [1, 2]]:
        return f"versions of both results after each run: {numbers}"
    return "passed" if re.search(r"its code: shop\.prices\.rounded changed", why) else why


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("environments", nargs="+", help="versions of Python and Kedro, such as 3.12:1.4.0")
    print("| Python | Kedro | seconds | outcome |\n| --- | --- | --- | --- |")
    outcomes = []
    for python, kedro in (each.split(":") for each in parser.parse_args().environments):
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            outcomes.append(outcome(python, kedro, Path(folder)))
            print(f"| {python} | {kedro} | {time.perf_counter() - began:.0f} | {outcomes[-1]} |", flush=True)
    sys.exit({*outcomes} != {"passed"})


if __name__ == "__main__":
    main()
