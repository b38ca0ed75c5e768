"""Parameters of the evaluation."""

from typing import Annotated

from pydantic import Field

from reclora_kedro.parameters import Block, Count, Real, Seed


class EvaluationConfig(Block):
    """How scores are turned into intervals and p-values."""

    confidence: Real = Field(0.95, gt=0.5, lt=1, description="Level of the intervals, a share of one.")
    bootstrap_samples: Annotated[Count, Field(ge=100)] = Field(
        2000, description="Draws of users that intervals and p-values are made of."
    )
    seed: Seed = Field(description="Seed of these draws.")


class BootstrapConfig(Block):
    """How intervals over users are made."""

    confidence: Real = Field(gt=0.5, lt=1, description="level of the intervals, a share of one")
    samples: Count = Field(description="draws of users, with replacement, that intervals are made of")
    seed: Seed = Field(description="of these draws")
