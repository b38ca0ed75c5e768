"""Settings of the merging of LoRAs, and its ways."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from kedro_provenance.parameters import Block
from reclora_kedro.parameters import Count, CountOrZero, Seed

ITERIS = "iteris"
BASELINES = {"linear": ("linear", 2), "svd": ("svd", 1), "ties": ("ties_svd", 0), "dare": ("dare_linear_svd", 1)}
"""PEFT's ways of merging: what ``add_weighted_adapter`` calls each, and the power of 1/K that weighs each of K LoRAs.

Where all are the same, they give it back: ``linear`` has the root of a weight in either factor's sum, and TIES takes
the mean itself.
"""


class MergingConfig(Block):
    """LoRAs to merge, and settings of the merge."""

    test_rows: ClassVar[int] = (
        200  # of new users at most: an AUC of .7 is known to ±.07 (95%), and of pairs more precisely
    )

    variants: Annotated[tuple[str, ...], Field(min_length=2)] | None
    users: Annotated[Count, Field(ge=2)]
    prompts: Count
    iterations: CountOrZero
    solve_for: Literal["weight", "update"]
    method: Literal["iteris", "linear", "svd", "ties", "dare"]
    seed: Seed
