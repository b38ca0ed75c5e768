"""Settings of the recommendation step."""

from typing import Literal, Self

from pydantic import Field, model_validator

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
