"""Sources, which are item models that a project names, and the stored choice of how items are found."""

import logging
import re
from collections.abc import Iterable, Mapping
from typing import Self, TypedDict, cast

import numpy as np
import polars as pl
from pydantic import JsonValue, ValidationError

from kedro_provenance.parameters import Block
from reclora_kedro.candidates import ITEM_MODELS
from reclora_kedro.candidates.item_model import ItemModel, NoSettings, Training, choose_settings
from reclora_kedro.candidates.moments import NO_ITEM
from reclora_kedro.recommendation.config import RERANKED, Order, RecommendationConfig, method_name
from reclora_kedro.recommendation.second_stage import LABELS, SecondStage

logger = logging.getLogger(__name__)

Configs = Mapping[str, Block]
"""Blocks of parameters of the sources that have any, see `ItemModel.Config`, by their names or dotted paths."""
SettingsOfSources = dict[str, dict[str, JsonValue]]
"""Settings that sources are fitted with, see `ItemModel.Settings`, by their names or dotted paths."""

MOST_FREQUENT = 10  # items whose share of all places is told
NEARLY_ALL = 0.9  # of the lists: a share from which on an item that they have is told
ALIKE = 0.5  # mean overlap of two users' lists from which on lists are nearly the same
TIMES, LEAST_MORE = 1.5, 0.05  # by which delivered lists may be more alike than those at test moments


class Concentration(Block):
    """Figures of the lists of at least two users."""

    lists: int  # their number
    coverage: float  # share of the catalogue in any list
    first_share: float  # share of all places that the ten most frequent items take
    overlap: float  # mean share of a list that another user's list has, too
    most_frequent: float  # share of the lists that have the most frequent item

    @classmethod
    def from_lists(cls, items: np.ndarray, catalogue: int) -> Self | None:
        """Measure lists of item indices, (lists, n), padded with `NO_ITEM`; None for fewer than two.

        Examples:
            >>> Concentration.from_lists(np.array([[0, 1], [0, 2]]), catalogue=10).overlap
            0.5
        """
        listed = items[items != NO_ITEM]
        if len(items) < 2 or not len(listed):
            return None
        counts = np.bincount(listed, minlength=catalogue)
        shared, pairs = (counts * (counts - 1.0)).sum(), len(items) * (len(items) - 1.0)
        return cls(
            lists=len(items),
            coverage=float((counts > 0).mean()),
            first_share=float(np.sort(counts)[-MOST_FREQUENT:].sum() / len(listed)),
            overlap=float(shared / pairs / (len(listed) / len(items))),
            most_frequent=float(counts.max() / len(items)),
        )

    def warnings(self, at_test_moments: Self | None) -> list[str]:
        """Return a sentence for each way in which lists are too alike, or more so than those at test moments."""
        found = []
        if self.overlap > ALIKE:
            found.append(
                f"Nearly everyone gets the same items: two users share {self.overlap:.0%} of their lists, and the ten "
                f"most frequent items take {self.first_share:.0%} of all places."
            )
        if self.most_frequent > NEARLY_ALL:
            found.append(f"One item is in {self.most_frequent:.0%} of all lists.")
        if at_test_moments is not None:
            for name, words in (("overlap", "two users share"), ("first_share", "the ten most frequent items take")):
                now, then = getattr(self, name), getattr(at_test_moments, name)
                if now > TIMES * then + LEAST_MORE:
                    found.append(
                        f"Delivered lists are more alike than measured ones: {words} {now:.0%} of the places, and "
                        f"{then:.0%} at test moments."
                    )
        return found


def model_of(source: str) -> type[ItemModel]:
    """Return the class of a source, by its name or dotted path; ValueError for an unknown one."""
    # ItemModel only says which subclass is looked for; mypy takes no abstract class as a value.
    return ITEM_MODELS.load_class(source, ItemModel)  # type: ignore[type-abstract]


def config_kinds(sources: tuple[str, ...]) -> dict[str, type[Block]]:
    """Return the type of the settings of each source that has any, see `ItemModel.Config`."""
    kinds = {source: model_of(source).Config for source in sources}
    return {source: kind for source, kind in kinds.items() if kind is not NoSettings}


def validated_configs(sources: tuple[str, ...], blocks: Mapping[str, object]) -> Configs:
    """Return the settings of each source that has any, from the blocks of its name, see `ItemModel.Config`."""
    kinds = config_kinds(sources)
    return {source: kind.model_validate(blocks.get(source.rpartition(".")[2], {})) for source, kind in kinds.items()}


def models_of(sources: Iterable[str]) -> dict[str, type[ItemModel]]:
    """Return the classes of sources by their names."""
    return {source.rpartition(".")[2]: model_of(source) for source in sources}


def labels(sources: Iterable[str]) -> dict[str, str]:
    """Return what each method is in a few words, by its name."""
    plain = {name: model.LABEL for name, model in models_of(sources).items()} | LABELS
    return plain | {name + RERANKED: f"{label}; reordered by the click model" for name, label in plain.items()}


def settings_of_sources(
    config: RecommendationConfig, configs: Configs, training: Training, likes: pl.DataFrame, live: bool
) -> SettingsOfSources:
    """Return the settings of each source that likes choose, see `choose_settings`."""
    rules, chosen = config.rules_of(training.log.items), SettingsOfSources()
    for source in config.sources:
        settings = choose_settings(model_of(source), training, configs.get(source), likes, rules, live=live)
        chosen[source] = settings.model_dump(mode="json")
    return chosen


class StoredChoice(TypedDict):
    """A `Choice` as the entry `candidate_choice` stores it."""

    kind: str
    order: Order
    sources: SettingsOfSources
    stage: JsonValue
    reason: str
    at_test_moments: JsonValue


class Choice(Block):
    """How items are found: the method and the settings of all sources."""

    kind: str  # name of a source, or of a second stage
    order: Order
    sources: SettingsOfSources
    stage: SecondStage = SecondStage()
    reason: str = ""  # in a sentence
    at_test_moments: Concentration | None = None  # how alike lists are there, by models that know the training events

    @property
    def name(self) -> str:
        """Name of the method as tables have it."""
        return method_name(self.kind, self.order)

    @property
    def without_lens(self) -> Self:
        return self.model_copy(update={"order": "candidates"})

    def stored(self) -> StoredChoice:
        return cast(StoredChoice, self.model_dump(mode="json"))


def stored_choice(record: StoredChoice) -> Choice:
    """Return the choice of a stored record; raise ValueError if it is none, such as one of an earlier release."""
    remedy = "Choose again with `kedro run --pipelines recommendation`."
    try:
        choice = Choice.model_validate(record)
        for source, settings in choice.sources.items():
            model_of(source).Settings.model_validate(settings)
    except ValidationError as error:
        [first, *_] = error.errors()
        name = ".".join(map(str, first["loc"]))
        raise ValueError(
            f"candidate_choice is from an earlier release: {error.title} has {name}: {first['msg']}. {remedy}"
        ) from error
    reads_lens = re.search(r"^feature_names=(.* )?lens( |$)", choice.stage.trees or "", re.MULTILINE)
    if reads_lens or "lens" in (choice.stage.weights or {}):
        raise ValueError(
            f"candidate_choice is from an earlier release, where fusion and ranker read the click model. {remedy}"
        )
    return choice


def choice_before(record: StoredChoice | None) -> Choice | None:
    """Return the choice in use; None, with a warning, if it is of an earlier release."""
    try:
        return None if record is None else stored_choice(record)
    except ValueError as error:
        logger.warning("%s The new choice is not compared with it.", error)
        return None
