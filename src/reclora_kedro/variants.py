"""The adapters that a run trains and compares, named in ``conf/`` under ``finetuning.variants``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kedro.config import OmegaConfigLoader

_of_the_session: tuple[str, ...] | None = None


def variant_names() -> tuple[str, ...]:
    """Names of the variants: those of the session's environment, or of conf/base where no session was opened."""
    if _of_the_session is not None:
        return _of_the_session
    conf = Path(__file__).parents[2] / "conf"
    loader = OmegaConfigLoader(str(conf), base_env="base", default_run_env="base")
    return names_in(loader["parameters"])


def remember_variants(parameters: Mapping[str, Any]) -> None:
    """Take the variants from a session's parameters; pipelines are built after this."""
    global _of_the_session
    _of_the_session = names_in(parameters)


def names_in(parameters: Mapping[str, Any]) -> tuple[str, ...]:
    """Names under ``finetuning.variants``.

    Examples:
        >>> names_in({"finetuning": {"variants": {"shared_lora": {}, "reclora": {}}}})
        ('shared_lora', 'reclora')

    Raises:
        ValueError: there are none.
    """
    variants = parameters.get("finetuning", {}).get("variants") or {}
    if not variants:
        raise ValueError(
            "parameters_finetuning.yml names no variants: finetuning.variants needs at least one, "
            "such as reclora. See conf/base/parameters_finetuning.yml."
        )
    return tuple(variants)
