"""Settings of the recommendation and ranking steps."""

from typing import Annotated, Literal, Self, get_args

from pydantic import AfterValidator, Field, field_validator, model_validator

from kedro_provenance.parameters import Block
from reclora_kedro.baselines.registry import BASELINES
from reclora_kedro.parameters import Count, EachOnce, Id, Positive, Real, Seed

Source = Literal["popularity", "neighbours", "linear", "retriever", "fusion", "ranker"]
"""Sources of items in the catalogue."""
SOURCES: tuple[Source, ...] = get_args(Source)
SECOND_STAGES: tuple[Source, ...] = ("fusion", "ranker")
"""Sources that order the best items of all other sources."""
RANKED = ("popularity", "neighbours", "linear")
"""Baselines that always rank items, since others build on their lists."""
RERANKED = "_lens"
"""Suffix of the name of a source whose shortlist the lens has reranked."""
CandidateKind = Source | Literal["unseen", "popular_recent", "table"]
CandidateOrder = Literal["candidates", "lens"]
"""Order of candidates: that of their source, or that of the lens."""


class RecommendationConfig(Block):
    """Which users to recommend items to, which items, and in which order."""

    variant: str | None
    users: tuple[Id, ...] | None = Field(min_length=1)
    candidates: Literal["validation"] | CandidateKind
    order: Literal["validation"] | CandidateOrder
    validation_likes: Count | None
    teaching_likes: Count | None
    retrieved: Count
    exact_items: Count = Field(ge=1_000)
    pool_items: Count
    pool_days: Positive
    shortlist: Count | None
    top_n: Count
    diversity: Real = Field(ge=0, lt=1)
    seed: Seed

    @property
    def sources(self) -> tuple[Source, ...]:
        """Possible sources of the candidates; none if candidates are listed."""
        return tuple(source for source in SOURCES if self.candidates in (source, "validation"))

    @property
    def validates(self) -> bool:
        """Whether validation likes choose the source, or the order of its candidates."""
        return len(self.sources) > 1 or (self.order == "validation" and bool(self.sources))

    @model_validator(mode="after")
    def _enough_candidates_are_kept(self) -> Self:
        if self.shortlist is not None and self.shortlist < self.top_n:
            raise ValueError(
                f"shortlist keeps {self.shortlist} candidates of each user, but top_n recommends {self.top_n}: raise "
                "shortlist, or set it to null to rank all candidates"
            )
        if self.sources and self.retrieved < self.top_n:
            raise ValueError(
                f"retrieved are {self.retrieved} candidates of each user, but top_n recommends {self.top_n}: raise "
                "retrieved"
            )
        return self


class RankingConfig(Block):
    """Likes of the test split to rank, their candidates, the models, and the metrics."""

    users: Count | None
    rows: Count | None
    validation_likes: Count | None
    candidates: Literal["full", "sampled"]
    sampled: Count
    cutoffs: tuple[Count, ...] = Field(min_length=1)
    variant: str | None
    shortlist: Count
    lens: bool
    retriever: bool
    baselines: Annotated[tuple[Annotated[str, AfterValidator(BASELINES.require)], ...], EachOnce]
    baseline: str | None
    among_first: tuple[Count, ...]
    seed: Seed

    @property
    def models(self) -> tuple[str, ...]:
        sources = [source for source in SOURCES if self.retriever or source != "retriever"]
        orders = ("lens", *(source + RERANKED for source in sources)) if self.lens else ()
        return tuple(dict.fromkeys((*RANKED, *self.baselines, *sources, *orders)))

    @model_validator(mode="after")
    def _baseline_ranks(self) -> Self:
        if self.baseline not in (None, *self.models):
            raise ValueError(f"baseline is {self.baseline!r}, but the models that rank are {', '.join(self.models)}")
        return self

    @field_validator("cutoffs")
    @classmethod
    def _cutoffs_are_lengths(cls, cutoffs: tuple[Count, ...]) -> tuple[int, ...]:
        if len(set(cutoffs)) < len(cutoffs):
            raise ValueError(f"cutoffs are {list(cutoffs)}: name each length once")
        return cutoffs
