"""Settings of the recommendation and ranking steps."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from reclora_kedro.parameters import Block, Count, Positive, Seed

CandidateKind = Literal["neighbours", "unseen", "popular_recent", "table"]


class RecommendationConfig(Block):
    """Whom to recommend what, and by which adapter."""

    variant: str | None = Field(description="adapter that ranks, a name of finetuning.variants; null: the lens does")
    users: tuple[int | str, ...] | None = Field(min_length=1, description="ids of users; null: all")
    candidates: CandidateKind = Field(description="which items each user may be recommended")
    neighbours: Count = Field(description="best items of each user by the item neighbours, for neighbours")
    pool_items: Count = Field(description="items of the pool popular_recent")
    pool_days: Positive = Field(description="days at the end of the log in which popularity is counted")
    shortlist: Count | None = Field(description="candidates that the lens keeps of each user; null: all")
    top_n: Count = Field(description="items recommended to each user")
    tokens_per_batch: Count = Field(description="most tokens in one forward pass of the LLM, padding included")

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

    users: Count | None = Field(description="users of the test split, drawn; null: all")
    rows: Count | None = Field(description="likes of these users in the test split, drawn; null: all")
    candidates: Literal["full", "sampled"] = Field(description="what each like is ranked among")
    sampled: Count = Field(description="items drawn for each like, for sampled")
    cutoffs: tuple[Count, ...] = Field(min_length=1, description="lengths k of the lists that are measured")
    variant: str | None = Field(description="adapter that ranks the item neighbours' shortlist anew; null: none")
    shortlist: Count = Field(description="best candidates of the item neighbours, which lens and LLM rank anew")
    tokens_per_batch: Count = Field(description="most tokens in one forward pass of the LLM, padding included")
    seed: Seed = Field(description="of the draws of users, rows and candidates")

    @field_validator("cutoffs")
    @classmethod
    def _cutoffs_are_lengths(cls, cutoffs: tuple[Count, ...]) -> tuple[int, ...]:
        if len(set(cutoffs)) < len(cutoffs):
            raise ValueError(f"cutoffs are {list(cutoffs)}: name each length once")
        return cutoffs
