"""Nodes of the recommendation step."""

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from reclora_kedro.adapters.gate_inputs import GateInputs
from reclora_kedro.distributed.engine import EngineConfig
from reclora_kedro.evaluation.terminal import show
from reclora_kedro.finetuning.variants import VariantConfig
from reclora_kedro.histories.config import HistoryConfig
from reclora_kedro.histories.log import InteractionLog
from reclora_kedro.lens.base import Lens
from reclora_kedro.llm.answer_model import answering_model
from reclora_kedro.llm.language_model import LanguageModel
from reclora_kedro.llm.prompts import PromptConfig, choose_template
from reclora_kedro.recommend import candidates, presentation, ranking
from reclora_kedro.recommend.config import RecommendationConfig
from reclora_kedro.rivals.neighbours import ItemNeighboursConfig

Arrays = dict[str, np.ndarray]
Report = dict[str, Any]


def shortlist_candidates(
    lens: Lens,
    log: InteractionLog,
    recommendation_candidates: Any,
    config: RecommendationConfig,
    neighbours: ItemNeighboursConfig,
    engine: EngineConfig,
) -> tuple[pl.DataFrame, Report]:
    """Each user's best candidates by the lens, and counts of users without history or candidates."""
    return candidates.shortlist_candidates(lens, log, recommendation_candidates, config, neighbours, engine)


def rank_by_lens(shortlist: pl.DataFrame, config: RecommendationConfig) -> tuple[pl.DataFrame, Report]:
    """Each user's best items by the lens; the LLM scores no pair."""
    return ranking.rank_by_lens(shortlist, config.top_n), {"pairs_scored": 0}


def assemble_candidate_histories(
    log: InteractionLog,
    shortlist: pl.DataFrame,
    history: HistoryConfig,
    variant: VariantConfig,
) -> Arrays:
    """The events that the prompt of each user and candidate may show of the user's past."""
    window = history.short[variant.history]
    assert window is not None  # the variant's history is one of those that are there
    return {"events": ranking.candidate_histories(log, shortlist, window)}


def build_candidate_prompts(
    base_llm: LanguageModel,
    prompt_templates: dict[str, Callable[[], str]],
    log: InteractionLog,
    shortlist: pl.DataFrame,
    candidate_histories: Arrays,
    prompt_config: PromptConfig,
) -> pl.DataFrame:
    """Text and tokens of a prompt for each user and candidate."""
    events = candidate_histories["events"]
    template = choose_template(prompt_templates, prompt_config.template)
    return ranking.build_candidate_prompts(base_llm, log, shortlist, events, template, prompt_config)


def compute_candidate_gate_inputs(
    lens: Lens, log: InteractionLog, shortlist: pl.DataFrame, variant: VariantConfig
) -> GateInputs:
    """What the variant's gates read of each user and candidate, and the lens's logits beside it."""
    return ranking.candidate_gate_inputs(lens, log, shortlist, variant.gate_input)


def rank_candidates(
    base_llm: LanguageModel,
    adapter: str,
    shortlist: pl.DataFrame,
    candidate_prompts: pl.DataFrame,
    candidate_gate_inputs: GateInputs,
    prompt_config: PromptConfig,
    variant: VariantConfig,
    config: RecommendationConfig,
    engine: EngineConfig,
) -> tuple[pl.DataFrame, Report]:
    """Each user's best items by the LLM, and how many pairs it scored."""
    model = answering_model(
        base_llm, prompt_config, engine, adapter=adapter, gate_inputs=candidate_gate_inputs, blend=variant.blend
    )
    recommendations = ranking.rank_candidates(
        model, shortlist, candidate_prompts, candidate_gate_inputs, config.top_n, config.tokens_per_batch
    )
    return recommendations, {"pairs_scored": candidate_prompts.height}


def show_recommendations(recommendations: pl.DataFrame, shortlist_report: Report, report: Report) -> None:
    """Print what the first users are recommended."""
    show(presentation.recommendation_tables(recommendations, shortlist_report | report))
