"""Kill, edit and damage runs of the small environment, updates and rollbacks, and count how they end.

    python benchmarks/faults.py --trials 100

Each trial is a process with hashes of its own. It begins with a project that was run before, and ends with a run that
must leave what one clean run leaves, bit for bit, or with a refusal that writes nothing. `--seed` draws other trials.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import polars as pl
from results import publish
from running import ROOT
from tqdm import tqdm

sys.path.insert(0, str(ROOT / "tests" / "support"))

from edit_sequences import SETTINGS, Sequence, flip_a_byte, nested, results
from projects import copy_project, stored

IDENTICAL, REFUSED = "identical", "refused before it wrote"
UNHELPFUL, DIFFERENT, SILENT = "refused without its reason", "different", "silent"
OUTCOMES = (IDENTICAL, REFUSED, UNHELPFUL, DIFFERENT, SILENT)


class Trial:
    """One trial in a folder of its own.

    Args:
        clean: folder of the clean runs, a project per number of the settings.
        folder: where the trial's project lies.
        seed: of all that is drawn.
    """

    def __init__(self, clean: Path, folder: Path, seed: str) -> None:
        self.clean, self.project, self.random = clean, folder / "project", random.Random(seed)
        self.place = int(seed.rpartition(".")[2])
        self.number = self.random.randrange(len(SETTINGS))  # of the settings of the earlier run
        shutil.copytree(clean / BEFORE.get(seed.partition(" ")[0], str(self.number)), self.project)

    def _seconds(self, pipeline: str = "run") -> float:
        """The seconds that a clean run takes."""
        return float((self.clean / f"seconds of {pipeline}").read_text())

    def kills(self) -> str:
        """Kill a run at a random moment, up to three times, and give the same command again."""
        number = self.random.randrange(len(SETTINGS))
        for _ in range(self.random.randint(1, 3)):
            run(self.project, SETTINGS[number], self.random.uniform(0, self._seconds()))
        return self._compare(number)

    def edits(self) -> str:
        """Edit settings, raw files and what is stored between runs that are killed, then run what is missing."""
        sequence = Sequence(self.project, self.random.random())
        for _ in range(self.random.randint(1, 3)):
            sequence.edit()
            moment = self.random.uniform(0, 1.5 * self._seconds())
            run(self.project, sequence.settings, moment, only_missing_outputs=True)
        sequence.edit()
        if sequence.changed_rating:
            sequence.change_a_rating()
        return self._compare(SETTINGS.index(sequence.settings), only_missing_outputs=True)

    def flips(self) -> str:
        """Change a bit of something stored, then score and evaluate: refused by name, or nothing that came of it."""
        expected = results(self.project)
        versions = sorted(file.parent for file in self.project.glob("data/0[2-8]*/**/provenance.json"))
        version = self.random.choice(versions)
        flip_a_byte(version, self.random)
        before = stored(self.project)
        done, output = run(self.project, SETTINGS[self.number], pipeline_names=["scoring", "evaluation"])
        if done:
            entry = str(version.parent.relative_to(self.project))
            after = results(self.project)
            same = all(after[name] == content for name, content in expected.items() if name != entry)
            return IDENTICAL if same else SILENT
        named = str(version) in output and all(self.project.joinpath(file).exists() for file in before)
        return REFUSED if named else DIFFERENT

    def runners(self) -> str:
        """Use another runner of Kedro's."""
        import kedro.runner

        before = stored(self.project)
        runner = getattr(kedro.runner, self.random.choice(["ThreadRunner", "ParallelRunner"]))()
        done, _ = run(self.project, {}, runner=runner)
        return REFUSED if not done and stored(self.project) == before else SILENT

    def forgettings(self) -> str:
        """Kill a forgetting at the next of its places, type it again, and search all that is left by content."""
        from dying import FORGETTING, forget_and_die_at
        from forked import exit_code
        from projects import kedro_command
        from reclora_kedro import commands

        place = FORGETTING[self.place % len(FORGETTING)]
        killed = exit_code(forget_and_die_at, self.project, FORGOTTEN, place)
        kedro_command(commands.forget, self.project, FORGET)
        left, same = named_files(self.project), kept(self.project) == kept(self.clean / "forgetting/after")
        print(place, killed, left, same, file=sys.stderr)
        return IDENTICAL if killed == -signal.SIGKILL and not left and same else SILENT if left else DIFFERENT

    def updates(self) -> str:
        """Kill an update at random moments, up to three times, and type it again."""
        return self._killed("update", "updated")

    def rollbacks(self) -> str:
        """Kill a rollback likewise: typed again, it goes no further back."""
        return self._killed("rollback", "rolled back")

    def _killed(self, pipeline: str, after: str) -> str:
        done, output, kills = False, "", self.random.randint(1, 3)
        for kill_after in [*(self.random.uniform(0, self._seconds(pipeline)) for _ in range(kills)), None]:
            if not done:
                done, output = run(self.project, {}, kill_after, pipeline_names=[pipeline])
        left = list(self.project.glob("data/**/.unfinished-*"))
        if done and not left and current_model(self.project) == current_model(self.clean / after):
            return IDENTICAL
        print(output, left, file=sys.stderr)
        return DIFFERENT

    def _compare(self, number: int, **arguments: Any) -> str:
        done, output = run(self.project, SETTINGS[number], **arguments)
        left = list(self.project.glob("data/**/.unfinished-*"))
        if done and not left and results(self.project) == results(self.clean / str(number)):
            return IDENTICAL
        print(output, left, file=sys.stderr)
        return DIFFERENT


KINDS = ("kills", "edits", "flips", "runners", "updates", "rollbacks", "forgettings")
BEFORE = {"updates": "0", "rollbacks": "updated", "forgettings": "forgetting/before"}
"""The clean project that a trial of these kinds begins with."""
FORGOTTEN = "quokka-4x"  # id of the user that is forgotten, which no other text has in it
FORGET = {"forget": {"users": [FORGOTTEN], "erase": True}}


def make_updates(folder: Path) -> None:
    """What a finished project is after an update, and after the rollback of it, and the seconds that each takes."""
    for kind, pipeline, after in (("updates", "update", "updated"), ("rollbacks", "rollback", "rolled back")):
        shutil.copytree(folder / BEFORE[kind], folder / after)
        command = [sys.executable, "-m", "kedro", "run", "--env", "test", "--pipelines", pipeline]
        subprocess.run(command, cwd=folder / after, check=True, capture_output=True)
        manifest = max(folder.glob(f"{after}/data/test/08_reporting/run_manifest.json/*/run_manifest.json"))
        (folder / f"seconds of {pipeline}").write_text(str(json.loads(manifest.read_text())["seconds"]))


def make_forgetting(folder: Path) -> None:
    """A finished project whose ids are texts, with a journal, and the same after one clean forgetting."""
    from projects import kedro_command, kedro_run
    from reclora_kedro import commands

    before, after = folder / "forgetting/before", folder / "forgetting/after"
    before.mkdir(parents=True)
    copy_project(before)
    for name in ("interactions", "users", "new_interactions"):
        file = before / f"data/01_raw/fabricated/{name}.csv"
        table = pl.read_csv(file, infer_schema=False)
        table.with_columns(user_id=pl.format("quokka-{}x", "user_id")).write_csv(file)
    kedro_run(before)
    kedro_run(before, pipeline_names=["update"])
    (journal := before / "data/test/01_raw/service/journal.sqlite").parent.mkdir(parents=True)
    with closing(sqlite3.connect(journal)) as database:  # as an earlier release left it, without checksums
        database.executescript(
            "CREATE TABLE events (sequence INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT NOT NULL UNIQUE, "
            "user_id TEXT NOT NULL, item_id TEXT NOT NULL, rating REAL, timestamp INTEGER NOT NULL, request_id TEXT);"
            "CREATE TABLE dropped_users (user_id TEXT PRIMARY KEY, timestamp INTEGER NOT NULL);"
            f"INSERT INTO events VALUES (1, 'a', '{FORGOTTEN}', '5', 4, 890009000, NULL), "
            f"(2, 'b', 'quokka-5x', '5', 4, 890009000, NULL), (3, 'c', '{FORGOTTEN}', '6', 4, 890009001, NULL);"
        )
    shutil.copytree(before, after)
    kedro_command(commands.forget, after, FORGET)
    assert named_files(before)
    assert not named_files(after)


def named_files(project: Path) -> list[str]:
    """The files of a project, but for raw tables, in which the user's id is found: in bytes, or in cells of a table."""
    tables = {".parquet": pl.read_parquet, ".arrow": pl.read_ipc}
    found = []
    for file in sorted(path for path in project.rglob("*") if path.is_file()):
        named = FORGOTTEN.encode() in file.read_bytes()
        if file.suffix in tables:
            named |= any(FORGOTTEN in str(cell) for column in tables[file.suffix](file) for cell in column.to_list())
        if named and "fabricated" not in file.parts:
            found.append(str(file.relative_to(project)))
    return found


def kept(project: Path) -> dict[str, Any]:
    """What must be there of the others: tables, log and weights in use, lists, and events of the journal."""
    from projects import catalog_of

    catalog = catalog_of(project)
    in_use = {name: catalog.stored(name).content for name in catalog.load("champion")["versions"]}
    with closing(sqlite3.connect(project / "data/test/01_raw/service/journal.sqlite")) as journal:
        events = journal.execute("SELECT event_id, user_id, item_id FROM events").fetchall()
    lists = (project / "data/test/07_model_output/recommendations.csv").read_text()
    return in_use | {"events": events, "lists": lists}


def current_model(project: Path) -> dict[str, Any]:
    """The contents of the versions that the current model names, by entry, and why it is the one."""
    from kedro_provenance.archive import Archive
    from projects import catalog_of

    catalog = catalog_of(project)
    model = catalog.load("champion")
    versions = Archive(catalog, []).versions()
    named = {each.entry: each.content for each in versions if model["versions"].get(each.entry) == each.version}
    return named | {"chosen": model["decision"]["chosen"], "number": len(model["versions"])}


def bad_inputs(folder: Path) -> Counter[str]:
    """Give ingestion every kind of bad raw data of the tests' table."""
    from bad_inputs import BAD_INPUTS, ingest, lay_out, written

    outcomes = Counter[str]()
    for number, bad in enumerate(BAD_INPUTS):
        (folder / f"bad-{number}").mkdir()
        project = lay_out(folder / f"bad-{number}")
        bad.make(project)
        said = ingest(project, bad)
        refused = REFUSED if said and all(words in said for words in bad.words) else UNHELPFUL if said else SILENT
        outcomes[DIFFERENT if written(project) else refused] += 1
    return outcomes


def bad_parameters() -> Counter[str]:
    """Give every parameter of conf/base the wrong values of the tests' table."""
    from bad_parameters import CASES, is_helpful, refusals, types_of_parameters

    types, outcomes = types_of_parameters(), Counter[str]()
    for path, value, words in CASES:
        lines = refusals(path, value, types)
        outcomes[REFUSED if is_helpful(lines, path, words) else UNHELPFUL if lines else SILENT] += 1
    return outcomes


def run(project: Path, settings: dict[str, Any], kill_after: float | None = None, **arguments: Any) -> tuple[bool, str]:
    """Run pipelines as `kedro run --env test` does, in a process that may be killed after some seconds.

    Returns:
        Whether it ended well, and what it printed.
    """
    log = project / "output.txt"
    child = os.fork()
    if child == 0:
        streams = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(streams, 1)
        os.dup2(streams, 2)
        ended_well = False
        try:
            session_of(project, settings).run(**arguments)
            ended_well = True
        except Exception as error:
            print(error, file=sys.stderr, flush=True)
        finally:
            os._exit(0 if ended_well else 1)
    end = time.monotonic() + (kill_after if kill_after is not None else 600)
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.01)
    return ended[1] == 0, log.read_text(errors="replace")


def session_of(project: Path, settings: dict[str, Any]) -> Any:
    """A session of the project, of the class that `kedro run` takes."""
    from kedro.framework.project import settings as project_settings
    from kedro.framework.startup import bootstrap_project

    os.chdir(project)
    bootstrap_project(project)
    return project_settings.SESSION_CLASS.create(project, env="test", runtime_params=nested(settings))


def prepare() -> None:
    """Import what runs need before processes are forked, so that a kill hits the run and not its start.

    Nothing may use the threads of polars before: a fork does not take them along.
    """
    import peft
    import torch
    import transformers

    assert peft
    assert transformers
    torch.set_num_threads(1)


def main() -> None:
    """Run the campaign, then show and keep the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100, help="of each kind; of other runners a tenth")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="kinds of trials")
    parser.add_argument("--workers", type=int, default=2, help="trials at a time")
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn")
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        kind, clean, seed = arguments.measure
        prepare()
        with tempfile.TemporaryDirectory() as folder:
            print(getattr(Trial(Path(clean), Path(folder), f"{kind} {seed}"), kind)())
        return
    with tempfile.TemporaryDirectory() as folder:
        clean, kinds = Path(folder), {*arguments.kinds} if arguments.trials else set()
        if kinds - {"forgettings"}:
            make_clean_runs(clean, SETTINGS if kinds & {"kills", "edits", "flips", "runners"} else SETTINGS[:1])
        if kinds & {"updates", "rollbacks"}:
            make_updates(clean)
        if "forgettings" in kinds:
            make_forgetting(clean)

        def outcome(trial: tuple[str, int]) -> tuple[str, str]:
            kind, number = trial
            command = [sys.executable, __file__, "--measure", kind, folder, f"{arguments.seed}.{number}"]
            environment = {name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"}
            done = subprocess.run(
                command, stdout=subprocess.PIPE, text=True, env=environment | {"OMP_NUM_THREADS": "1"}
            )
            return kind, done.stdout.splitlines()[-1] if done.returncode == 0 else DIFFERENT

        trials = [
            (kind, number)
            for number in range(arguments.trials)
            for kind in arguments.kinds
            if kind != "runners" or number % 10 == 0
        ]
        with ThreadPoolExecutor(arguments.workers) as pool:
            outcomes = Counter(tqdm(pool.map(outcome, trials), total=len(trials), desc="trials", disable=None))
        counts = {kind: {name: outcomes[kind, name] for name in OUTCOMES} for kind in arguments.kinds}
        counts |= {"bad inputs": bad_inputs(clean), "bad parameters": bad_parameters()}
    rows = [
        {"kind": kind, "trials": sum(of_kind.values()), **{name: of_kind[name] for name in OUTCOMES}}
        for kind, of_kind in counts.items()
    ]
    bars = [go.Bar(name=name, x=list(counts), y=[row[name] for row in rows]) for name in OUTCOMES]
    figure = go.Figure(bars).update_layout(title="How trials ended", barmode="stack", yaxis_title="trials")
    publish("faults", {"How trials ended": rows}, figure)


def make_clean_runs(folder: Path, chosen: tuple[dict[str, Any], ...]) -> None:
    """A finished project for each of the settings, and the seconds that a run takes."""
    for number, settings in enumerate(tqdm(chosen, desc="clean runs", disable=None)):
        project = folder / str(number)
        project.mkdir()
        copy_project(project)
        params = ",".join(f"{path}={value}" for path, value in settings.items())
        command = [sys.executable, "-m", "kedro", "run", "--env", "test", *(["--params", params] if params else [])]
        subprocess.run(command, cwd=project, check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        (manifest,) = project.glob("data/test/08_reporting/run_manifest.json/*/run_manifest.json")
        (folder / "seconds of run").write_text(str(json.loads(manifest.read_text())["seconds"]))


if __name__ == "__main__":
    main()
