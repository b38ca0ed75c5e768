"""Searches for the settings that validate best, by Optuna; each trial is one cell per seed.

The first trial has the settings as they are, and all seeds. A later one is stopped after a seed where its mean so far
is below the median of the trials that have had all seeds (Optuna's MedianPruner). Trials are kept in a journal: an
interrupted search goes on with the trial that it was interrupted in, and then draws those that it would have drawn
without the interruption.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from importlib.util import find_spec
from operator import getitem, itemgetter
from pathlib import Path
from statistics import fmean
from threading import Lock
from typing import Any, NamedTuple

import polars as pl

from kedro_provenance.files.digests import digest
from kedro_provenance.parameters import soft_merge
from reclora_kedro.cells import FinishedCell
from reclora_kedro.evaluation.metrics import kept_validation
from reclora_kedro.extras import install_line
from reclora_kedro.study.config import GridConfig, NumberRange, SearchConfig, Settings, Space
from reclora_kedro.study.grid import Cell, pipelines_of, require_parameters
from reclora_kedro.study.results import Record, Records, recipe_key

logger = logging.getLogger(__name__)


class Measured(NamedTuple):
    """What a cell reached, and the key of the recipe by which it did."""

    value: float
    recipe: str


def measure(cell: FinishedCell, column: str) -> Measured:
    """Return the value of the weights that a cell kept, in a column of its training log."""
    [entry] = cell.outputs
    log = pl.DataFrame(cell.catalog.load(entry))
    value = kept_validation(log, column)
    if value is None:
        raise ValueError(f"{entry} has no {column}: nothing was validated")
    return Measured(value, recipe_key(cell, entry))


class Search:
    """A search of a study; ValueError for unknown parameters, or a space that lacks the settings as they are."""

    def __init__(self, name: str, config: SearchConfig, seeds: Sequence[int], parameters: Mapping[str, Any]) -> None:
        require_parameters(name, [*config.settings, *config.search], parameters)
        self.name, self.config, self.seeds = name, config, config.seeds or seeds
        self.entry, _, self.column = config.maximise.rpartition(".")
        values = soft_merge(parameters, self.cell({}, 0).parameters(parameters))
        self.default = {path: reduce(getitem, path.split("."), values) for path in config.search}
        for path, space in config.search.items():
            if not _contains(space, self.default[path]):
                raise ValueError(
                    f"{name} searches {path} among values without {self.default[path]!r}, its current value. The first "
                    "trial has the current settings: widen the range or the list."
                )
        if find_spec("optuna") is None:
            raise ValueError(f"{name} is a search, and Optuna is not installed: `{install_line('search')}`.")

    def cell(self, settings: Settings, seed: int) -> Cell:
        place = {path: str(value) for path, value in settings.items()}
        return Cell(
            self.name, place, seed, {**self.config.settings, **settings}, (self.entry,), pipelines_of(self.config.until)
        )

    def corners(self) -> list[Cell]:
        """Return the cells at both ends of the space, which show whether its values can be run."""
        ends = ({path: _ends(space)[side] for path, space in self.config.search.items()} for side in (0, -1))
        return [self.cell(settings, self.seeds[0]) for settings in ends]

    def run(self, run: Callable[[Cell], Measured], folder: Path, workers: int) -> list[Record]:
        """Run the missing trials, up to `workers` at a time, with their journal in `folder`; return all trials.

        Besides the columns below, a record has the value of each parameter.
        """
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
        from optuna.trial import TrialState

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        # Another log, other code or other parameters change the recipe of the first trial: then another search begins.
        first = run(self.cell(self.default, self.seeds[0]))
        identity = digest(
            [first.recipe, self.config.model_dump(exclude={"title", "until", "trials"}), list(self.seeds)]
        )
        folder.mkdir(parents=True, exist_ok=True)
        study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(folder / f"{self.name}.journal"))),
            study_name=identity,
            direction="maximize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=1, n_warmup_steps=0),
            load_if_exists=True,
        )
        if not study.trials:
            study.enqueue_trial(self.default)
        for trial in study.get_trials(states=[TrialState.RUNNING]):
            study.enqueue_trial(trial.params)
            study.tell(trial.number, state=TrialState.FAIL)
        distributions = {path: _distribution(space) for path, space in self.config.search.items()}
        one_at_a_time = Lock()

        def finished() -> list[Any]:
            return study.get_trials(deepcopy=False, states=[TrialState.COMPLETE, TrialState.PRUNED])

        def run_trial() -> None:
            with one_at_a_time:
                begun = len(study.get_trials(deepcopy=False, states=[TrialState.RUNNING])) + len(finished())
                study.sampler = optuna.samplers.TPESampler(seed=self.seeds[0] + begun)
                trial = study.ask(distributions)
            values, stopped = list[float](), False
            for step, seed in enumerate(self.seeds):
                values.append(run(self.cell(trial.params, seed)).value)
                trial.report(fmean(values), step)
                if stopped := step + 1 < len(self.seeds) and trial.params != self.default and trial.should_prune():
                    break
            state = TrialState.PRUNED if stopped else TrialState.COMPLETE
            study.tell(trial, None if stopped else fmean(values), state)
            self.report(trial.params, values, stopped, len(finished()), study.best_value)

        if done := len(finished()):
            logger.info("%s: %d of %d trials are kept.", self.name, done, self.config.trials)
        with ThreadPoolExecutor(workers) as threads:
            running = [threads.submit(run_trial) for _ in range(self.config.trials - done)]
            try:
                for future in running:
                    future.result()
            finally:
                threads.shutdown(wait=False, cancel_futures=True)
        records = []
        for number, trial in enumerate(finished()):
            means, stopped = trial.intermediate_values, trial.state is TrialState.PRUNED  # means over the seeds so far
            record = {"grid": self.name, "trial": number, "stopped": stopped, "seeds": len(means)}
            records.append(record | {self.column: means[max(means)], **trial.params})
        return records

    def report(self, settings: Settings, values: list[float], stopped: bool, number: int, best: float) -> None:
        """Log a trial that has ended."""
        described = ", ".join(
            f"{path} {value:.3g}" if isinstance(value, float) else f"{path} {value}" for path, value in settings.items()
        )
        trial = f"trial {number} of {self.config.trials}, {described}"
        end = f"{fmean(values):.4f} after {len(values)} of {len(self.seeds)} seeds{', stopped' if stopped else ''}"
        logger.info("%s: %s: %s %s; the best so far is %.4f.", self.name, trial, self.column, end, best)

    def best_trial(self, trials: Records) -> Settings:
        """Return the settings of the best trial among those that had all seeds."""
        trial = max((trial for trial in trials if not trial["stopped"]), key=itemgetter(self.column))
        return {path: trial[path] for path in self.config.search}

    def comparison(self, best: Settings) -> GridConfig:
        """Return the grid that measures the best settings beside the settings as they are, on test rows, too."""
        kept = self.config.model_dump(include={"title", "until", "settings"})
        axes = {"settings": {"as they are": {}, "best": dict(best)}}
        return GridConfig(seeds=list(self.seeds), axes=axes, **kept)


def _distribution(space: Space) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if not isinstance(space, NumberRange):
        return CategoricalDistribution(space)
    if isinstance(space.low, int) and isinstance(space.high, int):
        return IntDistribution(space.low, space.high, log=space.log)
    return FloatDistribution(space.low, space.high, log=space.log)


def _ends(space: Space) -> Sequence[Any]:
    return (space.low, space.high) if isinstance(space, NumberRange) else space


def _contains(space: Space, value: Any) -> bool:
    if not isinstance(space, NumberRange):
        return value in space
    return isinstance(value, int | float) and space.low <= value <= space.high
