"""Sequences of edits, interrupted runs and runs in the small environment, and what must stand at their end.

Whatever happened before, `kedro run --only-missing-outputs` leaves what one clean run with the last settings leaves.
The tests run a few sequences in one process; `benchmarks/faults.py` runs many, with runs that are really killed.
"""

import json
import random
import shutil

from kedro_provenance.recipe import FILE

SETTINGS = (
    {},
    {"lens.hidden_dim": 16},
    {"history.prompt_rows.few_shot": 48},
    {"finetuning.variants.reclora.training.seed": 3},
    {"bootstrap.confidence": 0.9},
)
# Entries that tell how long something took, or are drawn from one that does.
TIMED = (
    "run_manifest",
    "training_log",
    "training_figure",
    "evaluation_report",
    "training_report",
)


def nested(settings):
    """Runtime parameters as `--params` gives them."""
    parameters = {}
    for path, value in settings.items():
        *blocks, key = path.split(".")
        block = parameters
        for name in blocks:
            block = block.setdefault(name, {})
        block[key] = value
    return parameters


class Sequence:
    """A project that is edited and run.

    Args:
        project: its folder.
        seed: of all that is drawn.
    """

    def __init__(self, project, seed):
        self.project, self.random = project, random.Random(seed)
        self.settings, self.changed_rating = {}, False
        self.happened = []

    def edit(self):
        """Change settings, a raw file, or what an earlier run left; `happened` says what."""
        what = self.random.choice(["settings", "settings", "raw", "flip", "remove", "forget", "leftover"])
        if what == "settings":
            self.settings = self.random.choice(SETTINGS)
            self.happened.append(f"settings {self.settings}")
        elif what == "raw":
            self.change_a_rating()
        else:
            self.damage(what)

    def change_a_rating(self):
        """Another rating in a raw row, or the first one again."""
        file = self.project / "data/01_raw/fabricated/interactions.csv"
        header, row, *rest = file.read_text().splitlines()
        user, item, rating, time = row.split(",")
        row = ",".join([user, item, "2" if rating == "3" else "3", time])
        file.write_text("\n".join([header, row, *rest]) + "\n")
        self.changed_rating = not self.changed_rating
        self.happened.append("another raw rating")

    def damage(self, what):
        """Change a byte of a stored file, remove a version or its provenance, or leave a draft."""
        versions = sorted(self.project.glob("data/test/0[2-8]*/**/provenance.json"))
        if not versions:
            return
        version = self.random.choice(versions).parent
        self.happened.append(f"{what} {version.relative_to(self.project)}")
        if what == "flip":
            flip_a_byte(version, self.random)
        elif what == "remove":
            shutil.rmtree(version)
        elif what == "forget":
            (version / FILE).unlink()
        else:
            (version.parent / ".unfinished-abc/draft").mkdir(parents=True)
            (version.parent / ".unfinished-abc/draft/half").write_text("half")


def flip_a_byte(version, generator):
    """Change one bit of a file of a version; the file."""
    file = generator.choice(sorted(path for path in version.rglob("*") if path.is_file() and path.name != FILE))
    content = bytearray(file.read_bytes())
    content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
    file.write_bytes(content)
    return file


def results(project):
    """Digest of the newest version of everything whose content does not tell how long it took."""
    newest = {}
    for file in sorted(project.glob("data/test/0[2-8]*/**/provenance.json")):  # versions in the order of their names
        entry = file.parents[1].relative_to(project)
        if not any(name in str(entry) for name in TIMED):
            newest[str(entry)] = json.loads(file.read_text())["content"]
    return newest
