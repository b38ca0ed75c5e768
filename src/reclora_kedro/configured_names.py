"""Names that ``conf/`` gives to things of which a pipeline makes one node each: histories, adapters, zoo lenses."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kedro.config import OmegaConfigLoader

OTHER_MODELS = ("lens", "untrained")  # scored beside the variants

_of_the_session: Mapping[str, Any] | None = None


def remember_parameters(parameters: Mapping[str, Any]) -> None:
    """Take the names from a session's parameters; pipelines are built after this."""
    global _of_the_session
    _of_the_session = parameters


def history_names() -> tuple[str, ...]:
    """The short histories that prompts are made with, named under ``history.short``."""
    return names_in(_parameters(), "history", "short")


def variant_names() -> tuple[str, ...]:
    """The adapters that are trained and compared, named under ``finetuning.variants``."""
    return tuple(variant_histories())


def variant_histories() -> dict[str, str]:
    """The name of the short history that each adapter's prompts show."""
    return histories_of_variants(_parameters())


def ranking_variant() -> str:
    """The adapter that ranks recommendations, ``recommendation.variant``; it need not be one of `variant_names`."""
    return _parameters()["recommendation"]["variant"]


def zoo_lens_names() -> tuple[str, ...]:
    """The lenses that the zoo trains and compares, named under ``lens_zoo.lenses``."""
    return names_in(_parameters(), "lens_zoo", "lenses")


def exported_variant() -> str:
    """The adapter that users' LoRAs are exported from, named by ``export.variant``."""
    return _parameters()["export"]["variant"]


def _parameters() -> Mapping[str, Any]:
    """Those of the session's environment, or of conf/base where no session was opened."""
    if _of_the_session is not None:
        return _of_the_session
    conf = Path(__file__).parents[2] / "conf"
    return OmegaConfigLoader(str(conf), base_env="base", default_run_env="base")["parameters"]


def histories_of_variants(parameters: Mapping[str, Any]) -> dict[str, str]:
    """The short history of each variant.

    Examples:
        >>> histories_of_variants({
        ...     "history": {"short": {"retrieved": {"kind": "retrieved", "k": 5}}},
        ...     "finetuning": {"variants": {"rella": {"history": "retrieved"}}},
        ... })
        {'rella': 'retrieved'}

    Raises:
        ValueError: a variant has the name of a history or of another model, or names a history that isn't there.
    """
    histories = names_in(parameters, "history", "short")
    chosen = {}
    for variant in names_in(parameters, "finetuning", "variants"):
        if variant in histories or variant in OTHER_MODELS:
            raise ValueError(
                f"finetuning.variants names {variant!r}, which is also the name of "
                f"{'a history under history.short' if variant in histories else 'another model of the scores'}: "
                "rename the variant."
            )
        chosen[variant] = parameters["finetuning"]["variants"][variant].get("history")
        if chosen[variant] not in histories:
            raise ValueError(
                f"finetuning.variants.{variant}.history is {chosen[variant]!r}, but history.short names "
                f"{', '.join(histories)}: choose one of these, or add it there."
            )
    return chosen


def names_in(parameters: Mapping[str, Any], step: str, block: str) -> tuple[str, ...]:
    """Names under ``<step>.<block>``; an environment drops a name of conf/base by setting it to null.

    Examples:
        >>> variants = {"shared_lora": None, "rella": {}, "reclora": {}}
        >>> names_in({"finetuning": {"variants": variants}}, "finetuning", "variants")
        ('rella', 'reclora')

    Raises:
        ValueError: there are none.
    """
    names = tuple(name for name, entry in (parameters.get(step, {}).get(block) or {}).items() if entry is not None)
    if not names:
        raise ValueError(
            f"parameters_{step}.yml names nothing under {step}.{block}, which needs at least one entry: "
            f"see conf/base/parameters_{step}.yml."
        )
    return names
