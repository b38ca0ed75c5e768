"""Settings of the recommendation and ranking steps."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from reclora_kedro.evaluation.config import BootstrapConfig
from reclora_kedro.parameters import Block

CandidateKind = Literal["unseen", "popular_recent", "table"]


class RecommendationConfig(Block):
    """Whom to recommend what, and by which adapter."""

    variant: str = Field(description="adapter that ranks, a name of finetuning.variants")
    users: tuple[int | str, ...] | None = Field(min_length=1, description="ids of users; null: all")
    candidates: CandidateKind = Field(description="which items each user may be recommended")
    pool_items: int = Field(gt=0, description="items of the pool popular_recent")
    pool_days: float = Field(gt=0, description="days at the end of the log in which popularity is counted")
    shortlist: int | None = Field(gt=0, description="candidates that the lens keeps of each user; null: all")
    top_n: int = Field(gt=0, description="items recommended to each user")
    tokens_per_batch: int = Field(gt=0, description="most tokens in one forward pass of the LLM, padding included")

    @model_validator(mode="after")
    def _shortlist_is_long_enough(self) -> Self:
        if self.shortlist is not None and self.shortlist < self.top_n:
            raise ValueError(
                f"shortlist keeps {self.shortlist} candidates of each user, but top_n recommends {self.top_n}: raise "
                "shortlist, or set it to null to rank all candidates"
            )
        return self


class RankingConfig(Block):
    """Which likes of the test split are ranked among what, by whom, and what is measured."""

    users: int | None = Field(ge=1, description="users of the test split, drawn; null: all")
    rows: int | None = Field(ge=1, description="likes of these users in the test split, drawn; null: all")
    candidates: Literal["full", "sampled"] = Field(description="what each like is ranked among")
    sampled: int = Field(ge=1, description="items drawn for each like, for sampled")
    cutoffs: tuple[int, ...] = Field(min_length=1, description="lengths k of the lists that are measured")
    variant: str | None = Field(description="adapter that ranks the lens's shortlist anew; null: none")
    shortlist: int = Field(ge=1, description="best candidates of the lens that the LLM ranks anew")
    tokens_per_batch: int = Field(gt=0, description="most tokens in one forward pass of the LLM, padding included")
    seed: int = Field(ge=0, description="of the draws of users, rows and candidates")
    bootstrap: BootstrapConfig

    @field_validator("cutoffs")
    @classmethod
    def _cutoffs_are_lengths(cls, cutoffs: tuple[int, ...]) -> tuple[int, ...]:
        if min(cutoffs) < 1 or len(set(cutoffs)) < len(cutoffs):
            raise ValueError(f"cutoffs are {list(cutoffs)}, but lists are of 1 or more items: name each length once")
        return cutoffs
