"""Whatever was edited, damaged or interrupted before: a run ends with what a clean run leaves."""

import random
import shutil
from contextlib import suppress

import pytest

from edits import Sequence, nested, results
from projects import kedro_run
from reclora_kedro.runs.catalog import AtomicCatalog


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


@pytest.mark.parametrize("seed", range(2))
def test_a_run_ends_with_what_a_clean_run_leaves(seed, pristine_run, tmp_path):
    project = shutil.copytree(pristine_run, tmp_path / "project")
    sequence, generator = Sequence(project, seed), random.Random(seed)
    for _ in range(generator.randint(1, 3)):
        sequence.edit()
    interrupted_run(project, sequence.settings, generator.randrange(12))
    sequence.edit()
    if sequence.changed_rating:
        sequence.change_a_rating()
    kedro_run(project, only_missing_outputs=True)
    assert results(project) == results(pristine_run), sequence.happened
    assert not list(project.glob("data/test/**/.unfinished-*"))
