"""Sources: the item models that a project names, their settings, and what reports say of them."""

from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from kedro_provenance.parameters import Block
from reclora_kedro.candidates import ITEM_MODELS
from reclora_kedro.candidates.item_model import ItemModel, NoSettings, Training, choose_settings
from reclora_kedro.recommendation.config import RERANKED, RecommendationConfig
from reclora_kedro.recommendation.second_stage import LABELS


def model_of(source: str) -> type[ItemModel]:
    """Return the class of a source, by its name or dotted path; ValueError for an unknown one."""
    # ItemModel only says which subclass is looked for; mypy takes no abstract class as a value.
    return ITEM_MODELS.load_class(source, ItemModel)  # type: ignore[type-abstract]


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


def settings_of_sources(
    config: RecommendationConfig, configs: Mapping[str, Any], training: Training, likes: pl.DataFrame, live: bool
) -> dict[str, Any]:
    """Return the settings of each source that likes choose, see `choose_settings`; as a `Choice` has them."""
    rules, chosen = config.rules(training.log.items), dict[str, Any]()
    for source in config.sources:
        settings = choose_settings(model_of(source), training, configs.get(source), likes, *rules, live=live)
        chosen[source] = settings.model_dump(mode="json")
    return chosen
