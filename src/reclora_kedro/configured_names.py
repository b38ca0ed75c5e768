"""Names that ``conf/`` gives to things of which a pipeline makes one node each: adapters, and lenses of the zoo."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kedro.config import OmegaConfigLoader

_of_the_session: Mapping[str, Any] | None = None


def remember_parameters(parameters: Mapping[str, Any]) -> None:
    """Take the names from a session's parameters; pipelines are built after this."""
    global _of_the_session
    _of_the_session = parameters


def variant_names() -> tuple[str, ...]:
    """The adapters that are trained and compared, named under ``finetuning.variants``."""
    return names_in(_parameters(), "finetuning", "variants")


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


def names_in(parameters: Mapping[str, Any], step: str, block: str) -> tuple[str, ...]:
    """Names under ``<step>.<block>``.

    Examples:
        >>> names_in({"finetuning": {"variants": {"shared_lora": {}, "reclora": {}}}}, "finetuning", "variants")
        ('shared_lora', 'reclora')

    Raises:
        ValueError: there are none.
    """
    names = parameters.get(step, {}).get(block) or {}
    if not names:
        raise ValueError(
            f"parameters_{step}.yml names nothing under {step}.{block}, which needs at least one entry: "
            f"see conf/base/parameters_{step}.yml."
        )
    return tuple(names)
