"""How alike the lists of different users are."""

from typing import Self

import numpy as np

from kedro_provenance.parameters import Block
from reclora_kedro.candidates.moments import NO_ITEM

MOST_FREQUENT = 10  # items whose share of all places is told
ALIKE = 0.5  # mean overlap of two users' lists from which on lists are nearly the same
TIMES, LEAST_MORE = 1.5, 0.05  # by which delivered lists may be more alike than those at test moments


class Concentration(Block):
    """Figures of the lists of at least two users."""

    lists: int  # their number
    coverage: float  # share of the catalogue in any list
    first_share: float  # share of all places that the ten most frequent items take
    overlap: float  # mean share of a list that another user's list has, too
    most_frequent: float  # share of the lists that have the most frequent item

    @classmethod
    def from_lists(cls, items: np.ndarray, catalogue: int) -> Self | None:
        """Measure lists of item indices, (lists, n), padded with `NO_ITEM`; None for fewer than two.

        Examples:
            >>> Concentration.from_lists(np.array([[0, 1], [0, 2]]), catalogue=10).overlap
            0.5
        """
        listed = items[items != NO_ITEM]
        if len(items) < 2 or not len(listed):
            return None
        counts = np.bincount(listed, minlength=catalogue)
        shared, pairs = (counts * (counts - 1.0)).sum(), len(items) * (len(items) - 1.0)
        return cls(
            lists=len(items),
            coverage=float((counts > 0).mean()),
            first_share=float(np.sort(counts)[-MOST_FREQUENT:].sum() / len(listed)),
            overlap=float(shared / pairs / (len(listed) / len(items))),
            most_frequent=float(counts.max() / len(items)),
        )

    def warnings(self, at_test_moments: Self | None) -> list[str]:
        """Return a sentence for each way in which lists are too alike, or more so than those at test moments."""
        found = []
        if self.overlap > ALIKE:
            found.append(
                f"Nearly everyone gets the same items: two users share {self.overlap:.0%} of their lists, and the ten "
                f"most frequent items take {self.first_share:.0%} of all places."
            )
        if at_test_moments is not None:
            for name, words in (("overlap", "two users share"), ("first_share", "the ten most frequent items take")):
                now, then = getattr(self, name), getattr(at_test_moments, name)
                if now > TIMES * then + LEAST_MORE:
                    found.append(
                        f"What is delivered is more alike than what was measured: {words} {now:.0%} of the places, and "
                        f"{then:.0%} at test moments."
                    )
        return found
