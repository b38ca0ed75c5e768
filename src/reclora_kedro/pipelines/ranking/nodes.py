"""Nodes of the ranking step."""

from collections.abc import Callable
from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl

from reclora_kedro.adapters.gate_inputs import GateInputs
from reclora_kedro.distributed.engine import EngineConfig
from reclora_kedro.evaluation import figures, report
from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.evaluation.terminal import show
from reclora_kedro.finetuning.variants import VariantConfig
from reclora_kedro.histories.config import HistoryConfig
from reclora_kedro.histories.log import InteractionLog
from reclora_kedro.lens.base import Lens
from reclora_kedro.llm.answer_model import answering_model
from reclora_kedro.llm.language_model import LanguageModel
from reclora_kedro.llm.prompts import PromptConfig, choose_template
from reclora_kedro.recommend import item_ranks as ranks
from reclora_kedro.recommend import ranking, ranking_metrics, reranking
from reclora_kedro.recommend.config import RankingConfig
from reclora_kedro.rivals import registry as rivals
from reclora_kedro.rivals.neighbours import ItemNeighboursConfig
from reclora_kedro.rivals.popularity import Popularity

Arrays = dict[str, np.ndarray]
Records = list[dict[str, Any]]


def rank_items(
    lens: Lens, log: InteractionLog, config: RankingConfig, neighbours: ItemNeighboursConfig
) -> pl.DataFrame:
    """Where rivals and the lens rank likes of the test split, each as of its own moment."""
    return ranks.rank_positives(lens, log, config, {"neighbours": neighbours})


def assemble_reranking_histories(
    log: InteractionLog,
    item_ranks: pl.DataFrame,
    history: HistoryConfig,
    variant: VariantConfig,
    config: RankingConfig,
) -> Arrays:
    """The events that the prompt of each shortlisted item may show of the user's past."""
    window = history.short[variant.history]
    assert window is not None  # the variant's history is one of those that are there
    pairs = reranking.reranking_pairs(item_ranks, config.shortlist)
    return {"events": ranking.candidate_histories(log, pairs, window)}


def build_reranking_prompts(
    base_llm: LanguageModel,
    prompt_templates: dict[str, Callable[[], str]],
    log: InteractionLog,
    item_ranks: pl.DataFrame,
    reranking_histories: Arrays,
    prompt_config: PromptConfig,
    config: RankingConfig,
) -> pl.DataFrame:
    """Text and tokens of a prompt for each shortlisted item."""
    pairs, events = reranking.reranking_pairs(item_ranks, config.shortlist), reranking_histories["events"]
    template = choose_template(prompt_templates, prompt_config.template)
    return ranking.build_candidate_prompts(base_llm, log, pairs, events, template, prompt_config)


def compute_reranking_gate_inputs(
    lens: Lens,
    log: InteractionLog,
    item_ranks: pl.DataFrame,
    variant: VariantConfig,
    config: RankingConfig,
) -> GateInputs:
    """What the variant's gates read of each shortlisted item, and the lens's logits beside it."""
    pairs = reranking.reranking_pairs(item_ranks, config.shortlist)
    return ranking.candidate_gate_inputs(lens, log, pairs, variant.gate_input)


def rerank_items(
    base_llm: LanguageModel,
    adapter: str,
    item_ranks: pl.DataFrame,
    reranking_prompts: pl.DataFrame,
    reranking_gate_inputs: GateInputs,
    prompt_config: PromptConfig,
    variant: VariantConfig,
    config: RankingConfig,
    engine: EngineConfig,
) -> pl.DataFrame:
    """Where the variant ranks the same likes."""
    model = answering_model(
        base_llm, prompt_config, engine, adapter=adapter, gate_inputs=reranking_gate_inputs, blend=variant.blend
    )
    return reranking.rerank(model, item_ranks, reranking_prompts, reranking_gate_inputs, config)


def compute_ranking_metrics(
    log: InteractionLog,
    config: RankingConfig,
    bootstrap: Bootstrap,
    item_ranks: pl.DataFrame,
    *of_variant: pl.DataFrame,
) -> Records:
    """Metrics of every model at every cutoff, and its NDCG beside that of the best model without an LLM."""
    return ranking_metrics.compute_ranking_metrics(
        pl.concat([item_ranks, *of_variant]),
        item_ranks["model"].unique(maintain_order=True).to_list(),
        Popularity(log).information(),
        config.cutoffs,
        bootstrap,
    )


def plot_ranking(metrics: Records) -> go.Figure:
    """Hit rate and NDCG of every model with their intervals."""
    return figures.plot_ranking(metrics, rivals.attributes("STYLE"))


def show_ranking(metrics: Records) -> None:
    """Print the metrics."""
    show(report.ranking_tables(metrics, rivals.attributes("NOTE")))
