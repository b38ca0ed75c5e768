"""Whatever was edited, damaged or interrupted before: a run ends with what a clean run leaves."""

import random
import shutil
from contextlib import suppress
from functools import cache

import pytest

from edit_sequences import SETTINGS, Sequence, nested, results
from kedro_provenance.catalog import AtomicCatalog
from projects import copy_project, kedro_run

LAST_SETTINGS = SETTINGS[:2]  # so that few clean runs are needed to compare with


@pytest.fixture(scope="module")
def clean_run(pristine_run, tmp_path_factory):
    """The project of one clean run, by the number of its settings; the first ones are no changes."""

    @cache
    def run(number):
        if not LAST_SETTINGS[number]:
            return pristine_run
        project = copy_project(tmp_path_factory.mktemp("clean"))
        kedro_run(project, nested(LAST_SETTINGS[number]))
        return project

    return run


def interrupted_run(project, settings, saves):
    """A run that ends at one of its saves, as by Ctrl-C, or well if it has fewer."""
    left = saves

    def save(catalog, *arguments):
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        whole(catalog, *arguments)

    whole = AtomicCatalog.save
    with pytest.MonkeyPatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(AtomicCatalog, "save", save)
        kedro_run(project, nested(settings), only_missing_outputs=True)


@pytest.mark.parametrize("seed", range(3))
def test_a_run_ends_with_what_a_clean_run_leaves(seed, clean_run, tmp_path):
    """A seed takes up to 9 s: each makes two runs of the whole flow, and the second one a clean run to compare with."""
    project = shutil.copytree(clean_run(0), tmp_path / "project")
    sequence, generator = Sequence(project, seed), random.Random(seed)
    for _ in range(generator.randint(1, 3)):
        sequence.edit()
    interrupted_run(project, sequence.settings, generator.randrange(12))
    sequence.edit()
    if sequence.changed_rating:
        sequence.change_a_rating()
    number = seed % len(LAST_SETTINGS)
    kedro_run(project, nested(LAST_SETTINGS[number]), only_missing_outputs=True)
    assert results(project) == results(clean_run(number)), sequence.happened
    assert not list(project.glob("data/test/**/.unfinished-*"))
