"""How alike lists are, and what is said of that."""

import re
from itertools import permutations

import numpy as np
import pytest

from reclora_kedro.candidates.moments import NO_ITEM
from reclora_kedro.recommendation.chosen import Concentration


def alike(overlap, first_share=0.1, most_frequent=0.5):
    return Concentration(lists=9, coverage=0.1, first_share=first_share, overlap=overlap, most_frequent=most_frequent)


def test_figures_are_those_of_all_pairs_of_lists():
    random = np.random.default_rng(0)
    lists = np.stack([random.permutation(40)[:6] for _ in range(12)])
    figures = Concentration.from_lists(lists, catalogue=50)
    counts = np.bincount(lists.ravel(), minlength=50)
    shared = [len({*one} & {*other}) / 6 for one, other in permutations(lists.tolist(), 2)]
    assert figures.overlap == pytest.approx(np.mean(shared))
    assert figures.coverage == (counts > 0).sum() / 50
    assert figures.first_share == np.sort(counts)[-10:].sum() / counts.sum()
    assert figures.most_frequent == counts.max() / 12


def test_lists_that_end_early_count_by_their_items_and_a_single_one_has_no_figures():
    figures = Concentration.from_lists(np.array([[3, NO_ITEM], [3, NO_ITEM]]), catalogue=4)
    assert (figures.overlap, figures.coverage) == (1, 0.25)
    assert Concentration.from_lists(np.array([[3, 1]]), catalogue=4) is None
    assert Concentration.from_lists(np.full((2, 2), NO_ITEM), catalogue=4) is None


@pytest.mark.parametrize(
    ("now", "before", "words"),
    [
        (alike(0.3), alike(0.25), []),
        (alike(0.6), None, ["Nearly everyone gets the same items: two users share 60% of their lists"]),
        (alike(0.3), alike(0.1), ["more alike than measured ones: two users share 30% .* and 10% at test moments"]),
        (alike(0.3, most_frequent=0.99), None, ["One item is in 99% of all lists"]),
        (alike(0.02), alike(0.001), []),  # too little to speak of
        (alike(0.1, 0.75), alike(0.1, 0.04), ["the ten most frequent items take 75% of the places, and 4% at test"]),
    ],
)
def test_lists_that_are_too_alike_are_warned_of(now, before, words):
    warnings = now.warnings(before)
    assert len(warnings) == len(words)
    for warning, pattern in zip(warnings, words, strict=True):
        assert re.search(pattern, warning)
