"""Kill, edit and damage runs of the small environment for a while, and count how they end.

    python benchmarks/faults.py --minutes 30

Each trial begins with a project that has been run before, and ends with a run that must leave what one clean run
leaves, bit for bit. `--seed` draws other trials.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from results import publish
from running import ROOT
from tqdm import tqdm

sys.path.insert(0, str(ROOT / "tests"))

from edits import SETTINGS, Sequence, flip_a_byte, results
from projects import copy_project, stored

Outcome = str
IDENTICAL, DIFFERENT, REFUSED, SILENT = "identical", "different", "refused before it wrote", "silent"
GOOD = (IDENTICAL, REFUSED)


class Campaign:
    """Trials in a folder, which keeps the clean runs that they are compared with.

    Args:
        folder: of all projects.
        seed: of all that is drawn.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.random = folder, random.Random(seed)
        self._clean: dict[str, Path] = {}
        self.seconds = 0.0

    def kedro(self, project: Path, *options: str, kill_after: float | None = None) -> subprocess.CompletedProcess[str]:
        """`kedro run --env test`, with hashes that differ from process to process, killed after some seconds."""
        command = [sys.executable, "-m", "kedro", "run", "--env", "test", *options]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"}
        environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        with subprocess.Popen(command, cwd=project, env=environment, start_new_session=True, **streams) as process:  # type: ignore[call-overload]
            try:
                output, _ = process.communicate(timeout=kill_after)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                output, _ = process.communicate()
        return subprocess.CompletedProcess(command, process.returncode, output)

    def clean(self, settings: dict[str, Any]) -> Path:
        """The project of one clean run."""
        key = json.dumps(settings)
        if key not in self._clean:
            project = self.folder / f"clean-{len(self._clean)}"
            project.mkdir()
            copy_project(project)
            start = time.monotonic()
            done = self.kedro(project, *options(settings))
            self.seconds = time.monotonic() - start
            if done.returncode:
                raise RuntimeError(done.stdout)
            self._clean[key] = project
        return self._clean[key]

    def project(self) -> Path:
        """A project with an earlier run of some settings."""
        project = self.folder / "trial"
        shutil.rmtree(project, ignore_errors=True)
        return shutil.copytree(self.clean(self.random.choice(SETTINGS[:3])), project)

    # Kinds of trials

    def kill(self) -> Outcome:
        """Kill a run at a random moment, up to three times, and type the same command again."""
        project, settings = self.project(), self.random.choice(SETTINGS)
        clean = self.clean(settings)
        for _ in range(self.random.randint(1, 3)):
            self.kedro(project, *options(settings), kill_after=self.random.uniform(0.2, 1.1) * self.seconds)
        return self._compare(project, settings, clean)

    def edit(self) -> Outcome:
        """Edit settings, raw files and stored files between runs that are killed, then run what is missing."""
        sequence = Sequence(self.project(), self.random.random())
        for _ in range(self.random.randint(1, 3)):
            sequence.edit()
            moment = self.random.uniform(0.2, 1.5) * self.seconds
            self.kedro(sequence.project, "--only-missing-outputs", *options(sequence.settings), kill_after=moment)
        sequence.edit()
        if sequence.changed_rating:
            sequence.change_a_rating()
        clean = self.clean(sequence.settings)
        return self._compare(sequence.project, sequence.settings, clean, "--only-missing-outputs")

    def flip(self) -> Outcome:
        """Change a bit of something stored, and evaluate: refused, or what is read is none of it."""
        project = self.project()
        expected = results(project)
        versions = [file.parent for file in sorted(project.glob("data/0[2-8]*/**/provenance.json"))]
        file = flip_a_byte(self.random.choice(versions), self.random)
        before = stored(project)
        done = self.kedro(project, "--pipelines", "scoring,evaluation")
        if done.returncode and str(file.parents[0].name) in done.stdout and stored(project).items() >= before.items():
            return REFUSED
        damaged = str(next(parent for parent in file.parents if parent.parent.parent.name.startswith("0")))
        after = results(project)
        same = all(after[entry] == digest for entry, digest in expected.items() if entry not in damaged)
        return IDENTICAL if not done.returncode and same else SILENT

    def runner(self) -> Outcome:
        """Use another runner of Kedro's."""
        project = self.project()
        before = stored(project)
        done = self.kedro(project, "--runner", self.random.choice(["ThreadRunner", "ParallelRunner"]))
        return REFUSED if done.returncode and stored(project) == before else SILENT

    def _compare(self, project: Path, settings: dict[str, Any], clean: Path, *further: str) -> Outcome:
        done = self.kedro(project, *further, *options(settings))
        left = list(project.glob("data/**/.unfinished-*"))
        if done.returncode or left or results(project) != results(clean):
            print(done.stdout[-3000:], left)
            return DIFFERENT
        return IDENTICAL


def options(settings: dict[str, Any]) -> list[str]:
    """What gives a run its settings."""
    return ["--params", ",".join(f"{path}={value}" for path, value in settings.items())] if settings else []


def draw(campaign: Campaign) -> Iterator[tuple[str, Callable[[], Outcome]]]:
    """Kinds of trials without end: mostly runs that are killed, and runs after edits."""
    kinds = {"kills": campaign.kill, "edits and kills": campaign.edit, "flipped bits": campaign.flip}
    while True:
        yield from kinds.items()
        if campaign.random.random() < 0.1:
            yield "other runners", campaign.runner


def main() -> None:
    """Run the campaign, then show and keep the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10, help="after which no trial begins")
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn")
    arguments = parser.parse_args()
    outcomes: dict[str, Counter[Outcome]] = {}
    end = time.monotonic() + 60 * arguments.minutes
    with tempfile.TemporaryDirectory() as folder:
        campaign = Campaign(Path(folder), arguments.seed)
        for kind, trial in tqdm(draw(campaign), desc="trials", disable=None):
            outcomes.setdefault(kind, Counter())[trial()] += 1
            if time.monotonic() > end:
                break
    rows = [
        {"trials": kind, "number": counts.total(), **{name: counts[name] for name in (*GOOD, DIFFERENT, SILENT)}}
        for kind, counts in outcomes.items()
    ]
    figure = go.Figure(
        [
            go.Bar(name=name, x=list(outcomes), y=[row[name] for row in rows])
            for name in rows[0]
            if name not in ("trials", "number")
        ]
    )
    figure.update_layout(title="How trials ended", barmode="stack", yaxis_title="trials")
    publish("faults", {"How trials ended": rows}, figure)


if __name__ == "__main__":
    main()
