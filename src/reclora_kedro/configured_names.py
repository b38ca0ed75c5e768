"""Names that ``conf/`` gives to things of which a pipeline makes one node each: histories, variants, zoo lenses.

Kedro calls ``create_pipeline()`` without parameters, so the names of a session are kept here, from the hook
``ConfiguredNamesHooks`` to the pipelines that are built from them. Nodes read nothing of this module.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kedro.config import OmegaConfigLoader

from reclora_kedro.histories.item_text import TFIDF

OTHER_MODELS = ("lens", "boosted_trees", "two_towers", "untrained", "popularity")  # compared with the variants

_of_the_session: Mapping[str, Any] | None = None


def remember_parameters(parameters: Mapping[str, Any]) -> None:
    """Take the names from a session's parameters; pipelines are built after this."""
    global _of_the_session
    _of_the_session = parameters


def history_names() -> tuple[str, ...]:
    """The short histories that prompts are made with, named under ``history.short``."""
    return _names("history", "short")


def item_encoders() -> tuple[str, ...]:
    """The catalog entries that embed items: all of ``history.item_embedding.encoders`` but tfidf, which needs none."""
    return tuple(name for name in _parameters()["history"]["item_embedding"]["encoders"] if name != TFIDF)


def lens_training_rows() -> str:
    """The rows of the training split that the lens learns from, ``lens.training_rows``: all or few_shot."""
    return _parameters()["lens"]["training_rows"]


def zoo_lens_names() -> tuple[str, ...]:
    """The lenses that the zoo trains and compares, named under ``lens_zoo.lenses``."""
    return _names("lens_zoo", "lenses")


def variant_histories() -> dict[str, str]:
    """The short history that the prompts of each variant show, by variant of ``finetuning.variants``.

    Raises:
        ValueError: a variant has the name of a history or of another model, or names a history that isn't there.
    """
    histories, chosen = history_names(), {}
    for variant in _names("finetuning", "variants"):
        if variant in histories or variant in OTHER_MODELS:
            raise ValueError(
                f"finetuning.variants names {variant!r}, which is also the name of "
                f"{'a history under history.short' if variant in histories else 'another model of the results'}: "
                "rename the variant."
            )
        chosen[variant] = _parameters()["finetuning"]["variants"][variant].get("history")
        if chosen[variant] not in histories:
            raise ValueError(
                f"finetuning.variants.{variant}.history is {chosen[variant]!r}, but history.short names "
                f"{', '.join(histories)}: choose one of these, or add it there."
            )
    return chosen


def variant_of(step: str) -> str:
    """The variant that a step works with, ``<step>.variant``.

    Raises:
        ValueError: ``finetuning.variants`` does not name it.
    """
    variant, variants = _parameters()[step]["variant"], variant_histories()
    if variant not in variants:
        raise ValueError(
            f"{step}.variant is {variant!r}, but finetuning.variants names {', '.join(variants)}: choose one of these."
        )
    return variant


def optional_variant_of(step: str) -> str | None:
    """The variant that a step works with, or None where ``<step>.variant`` is null; see `variant_of`."""
    return None if _parameters()[step]["variant"] is None else variant_of(step)


def _parameters() -> Mapping[str, Any]:
    """Those of the session's environment, or of conf/base where no session was opened."""
    if _of_the_session is not None:
        return _of_the_session
    conf = Path(__file__).parents[2] / "conf"
    return OmegaConfigLoader(str(conf), base_env="base", default_run_env="base")["parameters"]


def _names(step: str, block: str) -> tuple[str, ...]:
    """Names under ``<step>.<block>``; an environment drops a name of conf/base by setting it to null."""
    entries = _parameters().get(step, {}).get(block) or {}
    names = tuple(name for name, entry in entries.items() if entry is not None)
    if not names:
        raise ValueError(
            f"parameters_{step}.yml names nothing under {step}.{block}, which needs at least one entry: "
            f"see conf/base/parameters_{step}.yml."
        )
    return names
