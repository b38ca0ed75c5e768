"""Settings of the recommendation and ranking steps."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from reclora_kedro.parameters import Block, Count, Positive, Seed

CandidateKind = Literal["neighbours", "unseen", "popular_recent", "table"]
CandidateOrder = Literal["candidates", "lens"]
"""What puts candidates in order: where they come from, nearest or most popular ones first, or the lens."""


class RecommendationConfig(Block):
    """Whom to recommend what, and in which order."""

    variant: str | None
    users: tuple[int | str, ...] | None = Field(min_length=1)
    candidates: CandidateKind
    order: Literal["validation"] | CandidateOrder
    validation_likes: Count | None
    neighbours: Count
    pool_items: Count
    pool_days: Positive
    shortlist: Count | None
    top_n: Count
    seed: Seed

    @property
    def validates_order(self) -> bool:
        """Whether likes of the validation split choose the order; of the other kinds of candidates none is chosen."""
        return self.order == "validation" and self.candidates == "neighbours"

    @model_validator(mode="after")
    def _enough_candidates_are_kept(self) -> Self:
        if self.shortlist is not None and self.shortlist < self.top_n:
            raise ValueError(
                f"shortlist keeps {self.shortlist} candidates of each user, but top_n recommends {self.top_n}: raise "
                "shortlist, or set it to null to rank all candidates"
            )
        if self.candidates == "neighbours" and self.neighbours < self.top_n:
            raise ValueError(
                f"neighbours are {self.neighbours} candidates of each user, but top_n recommends {self.top_n}: raise "
                "neighbours"
            )
        return self


class RankingConfig(Block):
    """Which likes of the test split are ranked among what, by whom, and what is measured."""

    users: Count | None
    rows: Count | None
    candidates: Literal["full", "sampled"]
    sampled: Count
    cutoffs: tuple[Count, ...] = Field(min_length=1)
    variant: str | None
    shortlist: Count
    seed: Seed

    @field_validator("cutoffs")
    @classmethod
    def _cutoffs_are_lengths(cls, cutoffs: tuple[Count, ...]) -> tuple[int, ...]:
        if len(set(cutoffs)) < len(cutoffs):
            raise ValueError(f"cutoffs are {list(cutoffs)}: name each length once")
        return cutoffs
