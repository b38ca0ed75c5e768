"""The stored choice of how items are found."""

import logging
import re
from collections.abc import Mapping
from typing import Any

from pydantic import JsonValue, ValidationError

from kedro_provenance.parameters import Block
from reclora_kedro.recommendation.concentration import Concentration
from reclora_kedro.recommendation.config import Order, method_name
from reclora_kedro.recommendation.second_stage import SecondStage
from reclora_kedro.recommendation.sources import model_of

logger = logging.getLogger(__name__)


class Choice(Block):
    """How items are found: the method and the settings of all sources."""

    kind: str  # name of a source, or of a second stage
    order: Order
    sources: dict[str, dict[str, JsonValue]]  # settings by source, a name or dotted path
    stage: SecondStage = SecondStage()
    reason: str = ""  # in a sentence
    at_test_moments: Concentration | None = None  # how alike lists are there, by models that know the training events

    @property
    def name(self) -> str:
        """Name of the method as tables have it."""
        return method_name(self.kind, self.order)


def stored_choice(record: Mapping[str, Any]) -> Choice:
    """Return the choice of a stored record; raise ValueError if it is none, such as one of an earlier release."""
    remedy = "Choose anew with `kedro run --pipelines recommendation`."
    try:
        choice = Choice.model_validate(record)
        for source, settings in choice.sources.items():
            model_of(source).Settings.model_validate(settings)
    except ValidationError as error:
        [first, *_] = error.errors()
        name = ".".join(map(str, first["loc"]))
        raise ValueError(
            f"candidate_choice is of an earlier release: {error.title} has {name}: {first['msg']}. {remedy}"
        ) from error
    reads_lens = re.search(r"^feature_names=(.* )?lens( |$)", choice.stage.trees or "", re.MULTILINE)
    if reads_lens or "lens" in (choice.stage.weights or {}):
        raise ValueError(
            f"candidate_choice is of an earlier release, in which fusion and ranker read the click model. {remedy}"
        )
    return choice


def choice_before(record: Mapping[str, Any] | None) -> Choice | None:
    """Return the choice in use; None, with a warning, if it is of an earlier release."""
    try:
        return None if record is None else stored_choice(record)
    except ValueError as error:
        logger.warning("%s It is not compared with.", error)
        return None
