"""Settings of scoring."""

from typing import Annotated, Literal

from pydantic import Field

from kedro_provenance.parameters import Block, Resource
from reclora_kedro.parameters import Count, EachOnce, Seed

PermutedInput = Literal["user", "item", "history", "rating statistics", "title", "prompt", "gate inputs", "lens logit"]
"""Inputs that are permuted: the first four of the lens, the others of an LLM."""


class ScoringConfig(Block):
    """Settings of scoring and of permuted inputs."""

    baselines: Annotated[tuple[str, ...], EachOnce]
    tokens_per_batch: Resource[Count]
    permuted_inputs: tuple[PermutedInput, ...]
    permuted_rows: Annotated[Count, Field(ge=2)] | None
    seed: Seed
