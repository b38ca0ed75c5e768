"""Searches by Optuna, with a function of the settings in place of cells."""

import math

import pytest

from reclora_kedro.study.config import SearchConfig
from reclora_kedro.study.search import Measured, Search

NOW = {"lens": {"learning_rate": 1.0e-3, "layers": 2, "model": "sim"}, "study": {"seeds": [0]}}
SPACE = {
    "lens.learning_rate": {"low": 1.0e-4, "high": 1.0e-2, "log": True},
    "lens.layers": {"low": 1, "high": 4},
    "lens.model": ["sim", "din"],
}


def search_of(trials=12, space=SPACE, **settings):
    config = SearchConfig(
        title="Mine", maximise="lens_training_log.validation_auc", trials=trials, search=space, settings=settings
    )
    return Search("mine", config, [7, 8, 9], NOW)


class Cells:
    """Cells whose value is best at a learning rate of 3e-3 and four layers; one may kill the search."""

    def __init__(self, recipe="recipe", killed_at=None):
        self.recipe, self.killed_at, self.run = recipe, killed_at, []

    def __call__(self, cell):
        if len(self.run) == self.killed_at:
            raise KeyboardInterrupt
        settings = {path: cell.settings[path] for path in SPACE}
        self.run.append((*settings.values(), cell.seed))
        distance = abs(math.log10(settings["lens.learning_rate"] / 3.0e-3)) + (4 - settings["lens.layers"]) / 10
        return Measured(1 - distance + cell.seed / 1000, self.recipe)


def test_the_first_trial_has_the_settings_as_they_are_and_the_best_one_beats_it(tmp_path):
    search, cells = search_of(), Cells()
    trials = search.run(cells, tmp_path, workers=1)
    assert {path: trials[0][path] for path in SPACE} == search.default
    assert (trials[0]["seeds"], trials[0]["validation_auc"]) == (3, pytest.approx(1 - 0.4771 - 0.2 + 0.008, abs=1e-3))
    best = search.best_trial(trials)
    assert max(trials, key=lambda trial: trial["validation_auc"])["validation_auc"] > trials[0]["validation_auc"]
    assert search.comparison(best).axes == {"settings": {"as they are": {}, "best": best}}
    assert all(isinstance(trial["lens.layers"], int) and trial["lens.model"] in ("sim", "din") for trial in trials)


def test_trials_below_the_median_are_stopped_before_their_last_seed(tmp_path):
    cells = Cells()
    trials = search_of().run(cells, tmp_path, workers=1)
    stopped = [trial for trial in trials if trial["stopped"]]
    assert trials.index(stopped[0]) == 2  # by the settings as they are, and the first trial drawn
    assert all(trial["seeds"] < 3 for trial in stopped)
    assert all(trial["seeds"] == 3 for trial in trials if not trial["stopped"])
    assert len(cells.run) == 1 + sum(trial["seeds"] for trial in trials)


@pytest.mark.parametrize("killed_at", [0, 14])
def test_a_killed_search_goes_on_with_the_trials_of_one_that_was_not(killed_at, tmp_path):
    whole = search_of().run(Cells(), tmp_path / "whole", workers=1)
    killed, rest = Cells(killed_at=killed_at), Cells()
    with pytest.raises(KeyboardInterrupt):
        search_of().run(killed, tmp_path / "killed", workers=1)
    assert search_of().run(rest, tmp_path / "killed", workers=1) == whole
    assert (
        len({run[:-1] for run in killed.run} & {run[:-1] for run in rest.run}) <= 2
    )  # the first trial and the interrupted one


def test_a_finished_search_runs_its_first_cell_alone_and_more_trials_go_on_from_it(tmp_path):
    trials, cells = search_of(4).run(Cells(), tmp_path, workers=1), Cells()
    assert search_of(4).run(cells, tmp_path, workers=1) == trials
    assert len(cells.run) == 1  # whether its recipe has changed
    assert search_of(6).run(Cells(), tmp_path, workers=1)[:4] == trials


def test_another_recipe_of_the_first_trial_begins_another_search(tmp_path):
    search_of(3).run(Cells(), tmp_path, workers=1)
    cells = Cells(recipe="another")
    trials = search_of(3).run(cells, tmp_path, workers=1)
    assert len(cells.run) == 1 + sum(trial["seeds"] for trial in trials)


def test_two_workers_run_all_trials(tmp_path):
    assert len(search_of(5).run(Cells(), tmp_path, workers=2)) == 5


def test_a_search_is_refused_where_its_space_lacks_the_settings_as_they_are():
    with pytest.raises(ValueError, match=r"mine searches lens\.layers among values without 2, .* widen"):
        search_of(space={"lens.layers": [1, 3]})
    with pytest.raises(ValueError, match=r"mine searches lens\.layers among values without 5"):
        search_of(**{"lens.layers": 5})
    with pytest.raises(ValueError, match=r"Grid mine sets lens\.layer, .* nearest one is lens\.layers"):
        search_of(space={"lens.layer": [1, 2]})
