"""What processes that kill themselves do until then, for `forked.exit_code`; see also `killing`."""

import logging
import os
import signal
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from kedro_provenance.catalog import AtomicCatalog
from kedro_provenance.files.atomic import UNFINISHED
from killing import install
from projects import kedro_command, kedro_run
from reclora_kedro import cells, commands
from reclora_kedro.datasets.causal_lm import CausalLMDataset
from reclora_kedro.distributed.checkpoints import CheckpointStore


def dying_at(kill_at, function, *arguments, **named):
    """Call a function in a process that kills itself at a write of a checkpoint."""
    install(kill_at)
    function(*arguments, **named)


def begin_and_die(*arguments):
    """What a process that runs cells does first, when it kills itself after its first checkpoint."""
    install("moved:1")
    cells.begin(*arguments)


def score_and_die(project):
    """Score with what the LLM's dataset loads, whole at first; its second load is killed at the second batch."""
    loads, batches, load = count(1), count(1), CausalLMDataset.load

    def die(*_):
        if next(batches) == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    def load_and_die(dataset):
        llm = load(dataset)
        if next(loads) == 2:
            llm.model.get_input_embeddings().register_forward_pre_hook(die)
        return llm

    CausalLMDataset.load = load_and_die
    kedro_run(project, pipeline_names=["scoring"], only_missing_outputs=True)


def update_and_die(project, entry, nth=1, settings=None):
    """Update, with some settings, in a process that is killed before it saves an entry for the nth time."""
    save, saves = AtomicCatalog.save, count(1)

    def save_or_die(catalog, name, data):
        if name == entry and next(saves) == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        save(catalog, name, data)

    AtomicCatalog.save = save_or_die
    kedro_run(project, settings, pipeline_names=["update"])


def forget_and_die(project, user, number):
    """Forget a user, in a process that is killed while the version with this number is only half erased."""
    left, clean_up = count(1), TemporaryDirectory.cleanup

    def clean_up_or_die(folder):
        hidden = Path(folder.name)
        files = [file for file in hidden.rglob("*") if file.is_file()] if hidden.name.startswith(UNFINISHED) else []
        if files and next(left) == number:
            files[0].unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        clean_up(folder)

    TemporaryDirectory.cleanup = clean_up_or_die
    settings = {"forget": {"users": [user], "erase": True}}
    kedro_command(commands.forget, project, settings, only_missing_outputs=True)


FORGETTING = (
    *("interactions", "log", "forgotten_users", "lens", "forget_report", "champion"),  # before these are saved
    *("journal", "recommendations_csv"),  # after its events are erased, and before its lines are
    *("erasing 1", "erasing 20"),  # while this version is only half erased
    "certificate",  # before it is finished
)
"""Places at which a forgetting can be killed, in the order in which it comes to them."""


def forget_and_die_at(project, user, place):
    """Forget a user and erase, in a process that is killed at one of these places."""
    if place.startswith("erasing"):
        return forget_and_die(project, user, int(place.removeprefix("erasing ")))
    save, erase = AtomicCatalog.save, commands.erase_events

    def save_or_die(catalog, name, data):
        if name == place:
            os.kill(os.getpid(), signal.SIGKILL)
        save(catalog, name, data)

    def erase_and_die(*arguments):
        erase(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    def finish_and_die(*arguments, **said):
        os.kill(os.getpid(), signal.SIGKILL)

    AtomicCatalog.save = save_or_die
    if place == "journal":
        commands.erase_events = erase_and_die
    if place == "certificate":
        commands.finish_certificate = finish_and_die
    kedro_command(commands.forget, project, {"forget": {"users": [user], "erase": True}})


class DyingStore(CheckpointStore):
    """A store whose process is killed after the checkpoint of the fifth step."""

    def save(self, step, *parts):
        file = super().save(step, *parts)
        if step == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return file


class TellingStore(CheckpointStore):
    """A store whose processes log to a file beside it."""

    def newest(self):
        logging.basicConfig(level=logging.INFO, filename=f"{self.folder}.txt", force=True)
        return super().newest()
