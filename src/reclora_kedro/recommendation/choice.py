"""The choice of how items are found, by likes of the validation split."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from pydantic import JsonValue, ValidationError

from kedro_provenance.parameters import Block
from reclora_kedro.candidates import ITEM_MODELS
from reclora_kedro.candidates.item_model import ItemModel, NoSettings
from reclora_kedro.evaluation.records import RankingMetrics
from reclora_kedro.recommendation.concentration import Concentration
from reclora_kedro.recommendation.config import RERANKED, SECOND_STAGES, Order, RecommendationConfig
from reclora_kedro.recommendation.features import LENS
from reclora_kedro.recommendation.second_stage import LABELS, SecondStage

logger = logging.getLogger(__name__)

LEVEL = 0.05  # two-sided, at which another method is better than the one in use


class Choice(Block):
    """How items are found: the method and the settings of all sources.

    Attributes:
        kind: name of a source, or of a second stage.
        order: whether the lens reranks its first items.
        sources: settings by source, a name or dotted path.
        reason: why it is this one, in a sentence.
        at_test_moments: how alike lists at test moments are, by models that know the training events.
    """

    kind: str
    order: Order
    sources: dict[str, dict[str, JsonValue]]
    stage: SecondStage = SecondStage()
    reason: str = ""
    at_test_moments: Concentration | None = None

    @property
    def name(self) -> str:
        """Name of the method as tables have it."""
        return self.kind + (RERANKED if self.order == "lens" else "")

    @property
    def reads_lens(self) -> bool:
        in_fusion, in_trees = LENS in (self.stage.weights or {}), self.kind == "ranker" and self.stage.trees is not None
        return self.order == "lens" or (self.kind in SECOND_STAGES and (in_fusion or in_trees))


def stored_choice(record: Mapping[str, Any]) -> Choice:
    """Return the choice of a stored record.

    Raises:
        ValueError: it is none, such as one of an earlier release.
    """
    try:
        choice = Choice.model_validate(record)
        for source, settings in choice.sources.items():
            model_of(source).Settings.model_validate(settings)
    except ValidationError as error:
        [first, *_] = error.errors()
        name = ".".join(map(str, first["loc"]))
        raise ValueError(
            f"candidate_choice is of an earlier release: {error.title} has {name}: {first['msg']}. Choose anew with "
            "`kedro run --pipelines recommendation`."
        ) from error
    return choice


def choice_before(record: Mapping[str, Any] | None) -> Choice | None:
    """Return the choice in use; None, with a warning, if it is of an earlier release."""
    try:
        return None if record is None else stored_choice(record)
    except ValueError as error:
        logger.warning("%s It is not compared with.", error)
        return None


def model_of(source: str) -> type[ItemModel]:
    """Return the class of a source, by its name or dotted path; ValueError for an unknown one."""
    # ItemModel only says which subclass is looked for; mypy takes no abstract class as a value.
    return ITEM_MODELS.load_class(source, ItemModel)  # type: ignore[type-abstract]


def chosen_method(compared: Sequence[RankingMetrics], before: str | None) -> tuple[str, str]:
    """Return the best method and the reason, or the one in use until another is significantly better.

    Args:
        compared: records of `compute_ranking_metrics`, with the method in use, if it competes, as the baseline.
        before: the method in use, if any.
    """
    best = max(compared, key=lambda record: record["ndcg"])
    figures = f"NDCG@{best['k']} {best['ndcg']:.3f} on {best['rows']:,} validation likes"
    current = next((record for record in compared if record["model"] == before), None)
    if current is None:
        return best["model"], f"it has the highest {figures}"
    if best["model"] == before:
        return best["model"], f"it stays, with the highest {figures}"
    if best["ndcg"] > current["ndcg"] and best["p_value"] is not None and best["p_value"] < LEVEL:
        reason = f"it replaces {before}, {current['ndcg']:.3f}, with {figures} (p = {best['p_value']:.3f})"
        return best["model"], reason
    return current["model"], (
        f"it stays, with NDCG@{best['k']} {current['ndcg']:.3f}: {best['model']}, {best['ndcg']:.3f}, is not "
        "significantly better"
    )


def halves_of_users(likes: pl.DataFrame, most: tuple[int | None, int | None], seed: int) -> tuple[pl.DataFrame, ...]:
    """Return likes of either half of the users, drawn uniformly, with a maximum number for each."""
    users = np.random.default_rng(seed).permutation(likes["user_index"].unique().sort().to_numpy())
    is_first = np.isin(likes["user_index"].to_numpy(), users[: len(users) // 2])
    halves = (likes.filter(is_first), likes.filter(~is_first))
    return tuple(
        half[np.sort(np.random.default_rng([seed, 1]).permutation(half.height)[:count])]
        for half, count in zip(halves, most, strict=True)
    )


def named_method(config: RecommendationConfig, sources: Mapping[str, Any]) -> tuple[str, Order]:
    """Return the method and order without likes to choose by: as named, or else the fusion as it comes."""
    kind = config.method if config.method != "validation" else "fusion"
    return kind, "candidates" if config.order == "validation" else config.order


def config_kinds(sources: tuple[str, ...]) -> dict[str, type[Block]]:
    """Return the type of the settings of each source that has any, see `ItemModel.Config`."""
    kinds = {source: model_of(source).Config for source in sources}
    return {source: kind for source, kind in kinds.items() if kind is not NoSettings}


def validated_configs(sources: tuple[str, ...], blocks: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of each source that has any, from the blocks of its name, see `ItemModel.Config`."""
    kinds = config_kinds(sources)
    return {source: kind.model_validate(blocks.get(source.rpartition(".")[2], {})) for source, kind in kinds.items()}


def attributes(name: str, sources: Iterable[str]) -> dict[str, Any]:
    """Return an attribute of each source's class, such as its `NOTE`, by the source's name."""
    return {source.rpartition(".")[2]: getattr(model_of(source), name) for source in sources}


def labels(sources: Mapping[str, Any]) -> dict[str, str]:
    """Return what each method is in a few words, by its name."""
    plain = attributes("LABEL", sources) | LABELS
    return plain | {name + RERANKED: f"{label}; reordered by the click model" for name, label in plain.items()}
