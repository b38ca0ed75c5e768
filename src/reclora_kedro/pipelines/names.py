"""Names that ``conf/`` gives to things of which a pipeline makes one node each: histories and variants.

Kedro calls ``create_pipeline()`` without parameters, so the names of a session are kept here: its start checks the
parameters, gives them to `remember_parameters`, and only then has the pipelines built. Nodes read nothing of this
module.
"""

import re
from collections.abc import Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path
from typing import Any

from kedro_provenance.parameters import NameRefusedError
from kedro_provenance.session import CachingConfigLoader
from reclora_kedro import extensions
from reclora_kedro.baselines import registry as baselines
from reclora_kedro.histories.co_occurrences import CO_OCCURRENCE
from reclora_kedro.histories.item_text import TFIDF
from reclora_kedro.parameters import BLOCKS_OF_NAMED_ENTRIES
from reclora_kedro.pipelines import PIPELINES
from reclora_kedro.recommend.config import RERANKED, SOURCES

CLICK, UNTRAINED, LENS = "click", "untrained", "lens"
"""The objective that is held against nothing, and the references of the others that are no variants."""
TUNED_ENCODER = "tuned_item_encoder"
"""The catalog entry that the encoders step makes, and that ``history.item_embedding.encoders`` may name."""

_of_the_session: Mapping[str, Any] | None = None


def remember_parameters(parameters: Mapping[str, Any]) -> None:
    """Take the names from a session's parameters; pipelines are built after this."""
    global _of_the_session
    _of_the_session = parameters


def history_names() -> tuple[str, ...]:
    """The short histories that prompts are made with, named under ``history.short``."""
    return _names("history", "short")


def item_encoders() -> tuple[str, ...]:
    """The catalog entry that each of ``history.item_embedding.encoders`` needs, but for tfidf, which needs none.

    An encoder has the name of its entry; co_occurrence needs the log.
    """
    encoders = (_parameters()["history"]["item_embedding"] or {}).get("encoders")
    named = encoders if isinstance(encoders, list | tuple) else ()
    return tuple("log_without_embeddings" if name == CO_OCCURRENCE else name for name in named if name != TFIDF)


def encoder_to_tune() -> str:
    """The catalog entry that the encoders step tunes, ``item_encoder.base``: sentence_encoder or base_llm."""
    return "base_llm" if _parameters()["item_encoder"]["base"] == "base_llm" else "sentence_encoder"


def lens_training_rows() -> str:
    """The rows of the training split that the lens learns from, ``lens.training_rows``: all or few_shot."""
    return _parameters()["lens"]["training_rows"]


def lens_retrieves() -> bool:
    """Whether the lens learns from negatives of the retriever, by ``lens.retrieved_negatives``."""
    return bool(_parameters()["lens"]["retrieved_negatives"])


def few_shot_selection() -> str:
    """How the rows that the LLM learns from are drawn, ``few_shot.selection``: uniform or quality."""
    return _parameters()["few_shot"]["selection"]


def prompt_template(block: str = "prompt") -> str:
    """The catalog entry of the Jinja text that prompts are made with, by ``prompt.template`` or another block's."""
    return f"{_parameters()[block]['template']}.prompt_template"


def variant_histories() -> dict[str, str]:
    """The short history that the prompts of each variant show, by variant of ``finetuning.variants``.

    Raises:
        NameRefusedError: a variant has the name of a history, or names a history that isn't there.
    """
    histories, chosen = history_names(), {}
    for variant in _names("finetuning", "variants"):
        if variant in histories:
            raise NameRefusedError(
                f"finetuning.variants names {variant!r}, which is also the name of a history under history.short: "
                "rename the variant."
            )
        settings = _parameters()["finetuning"]["variants"][variant]
        history = settings.get("history") if isinstance(settings, Mapping) else None
        if history not in histories:
            raise NameRefusedError(
                f"finetuning.variants.{variant}.history is {history!r}, but history.short names "
                f"{', '.join(histories)}: choose one of these, or add it there."
            )
        chosen[variant] = history
    return chosen


def reference_variants() -> dict[str, tuple[str, ...]]:
    """The other variants that each variant's preferences are held against, by variant.

    Raises:
        NameRefusedError: a reference is neither untrained nor lens nor another variant, or references go in a circle.
    """
    variants, references = variant_histories(), dict[str, tuple[str, ...]]()
    for variant in variants:
        objective = _block(_block(_parameters()["finetuning"]["variants"][variant], "training"), "objective")
        named = objective.get("references") if objective.get("kind", CLICK) != CLICK else None
        references[variant] = tuple(name for name in named or () if name not in (UNTRAINED, LENS))
        others = {*variants} - {variant}
        for name in references[variant]:
            if not isinstance(name, str) or name not in others:
                raise NameRefusedError(
                    f"finetuning.variants.{variant}.training.objective.references names {name!r}, but a reference is "
                    f"one of {', '.join([UNTRAINED, LENS, *sorted(others)])}."
                )
    try:
        TopologicalSorter(references).prepare()
    except CycleError as error:
        named = (f"{variant} names {reference}" for variant, reference in pairwise(reversed(error.args[1])))
        raise NameRefusedError(
            f"finetuning.variants.*.training.objective.references go in a circle: {', '.join(named)}. A reference is "
            "trained before what is held against it: take one of these names out."
        ) from error
    return references


def variant_of(step: str) -> str:
    """The variant that a step works with, ``<step>.variant``.

    Raises:
        NameRefusedError: ``finetuning.variants`` does not name it.
    """
    variant, variants = _parameters()[step]["variant"], variant_histories()
    if not isinstance(variant, str) or variant not in variants:
        raise NameRefusedError(
            f"{step}.variant is {variant!r}, but finetuning.variants names {', '.join(variants)}: choose one of these."
        )
    return variant


def optional_variant_of(step: str) -> str | None:
    """The variant that a step works with, or None where ``<step>.variant`` is null; see `variant_of`."""
    return None if _parameters()[step]["variant"] is None else variant_of(step)


def teacher_of_base_model() -> str | None:
    """The variant whose adapter teaches, ``base_model.variant``, where ``base_model.steps`` distill; else None.

    Raises:
        NameRefusedError: it is null there, or ``finetuning.variants`` does not name it.
    """
    steps = _parameters()["base_model"]["steps"]
    return variant_of("base_model") if isinstance(steps, list | tuple) and "distill" in steps else None


def merged_variants() -> tuple[str, ...]:
    """The variants whose LoRAs are merged, ``merging.variants``; none where users' are.

    Raises:
        NameRefusedError: one is named twice, is made by merging or is none of ``finetuning.variants``, or they show
            different histories.
    """
    given, histories = _parameters()["merging"]["variants"], variant_histories()
    variants = tuple(map(str, given)) if isinstance(given, list | tuple) else ()
    if len({*variants, "merged"}) <= len(variants):
        raise NameRefusedError(
            f"merging.variants is {', '.join(variants)}: name each once, and not merged, which it makes."
        )
    if unknown := [variant for variant in variants if variant not in histories]:
        raise NameRefusedError(
            f"merging.variants names {', '.join(map(repr, unknown))}, but finetuning.variants names "
            f"{', '.join(histories)}: choose of these."
        )
    if len({histories[variant] for variant in variants}) > 1:
        raise NameRefusedError(
            f"merging.variants names {', '.join(variants)}, whose prompts show different histories, "
            f"{', '.join(histories[variant] for variant in variants)}: merge variants of one history."
        )
    return variants


def merging_history() -> str:
    """The short history that the prompts of merged LoRAs show."""
    variants = merged_variants()
    return variant_histories()[variants[0] if variants else variant_of("export")]


def variants_in_use() -> list[str]:
    """The variants whose adapters recommendation and update work with; there may be none."""
    return sorted({variant for step in ("recommendation", "update") if (variant := optional_variant_of(step))})


def models_that_rank() -> list[str]:
    """The catalog entries of the models that rank items besides the baselines: those that ``ranking`` has as true."""
    return [model for model in ("lens", "retriever") if _parameters()["ranking"][model]]


def retriever_read() -> tuple[str, ...]:
    """The catalog entry of the retriever, where ``recommendation.candidates`` lets it find items."""
    reads = _parameters()["recommendation"]["candidates"] in ("validation", "retriever", "fusion")
    return ("retriever",) if reads else ()


def updated_retriever() -> tuple[str, ...]:
    """The catalog entry of the retriever, where an update takes it along, ``update.retriever``."""
    return ("retriever",) if _parameters()["update"]["retriever"] else ()


def trained_again() -> tuple[str, ...]:
    """The catalog entries with weights that are trained once users are forgotten, ``forget.retrain``: all, or none."""
    if not _parameters()["forget"]["retrain"]:
        return ()
    tuned = [name for name in item_encoders() if name == TUNED_ENCODER]
    return (
        "lens",
        *(f"{variant}.adapter" for variant in variant_histories()),
        *retriever_read(),
        *tuned,
    )


def _parameters() -> Mapping[str, Any]:
    """Those of the session's environment, or of conf/base where no session was opened."""
    return _of_conf_base() if _of_the_session is None else _of_the_session


@cache
def _of_conf_base() -> Mapping[str, Any]:
    conf, blocks = Path(__file__).parents[3] / "conf", (*BLOCKS_OF_NAMED_ENTRIES, *extensions.named_blocks())
    loader = CachingConfigLoader(
        str(conf), base_env="base", default_run_env="base", named_blocks=blocks, below_base=extensions.conf_folders()
    )
    return loader["parameters"]


def _block(parameters: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A block in another one; an empty one where it is left out, or is none, which whoever reads it refuses."""
    block = parameters.get(name)
    return block if isinstance(block, Mapping) else {}


def _names(step: str, block: str) -> tuple[str, ...]:
    """Names under ``<step>.<block>``; an environment drops a name of conf/base by setting it to null.

    Raises:
        NameRefusedError: there is none, or one cannot be part of a catalog entry's name and of a path.
    """
    entries = _parameters().get(step, {}).get(block) or {}
    names = tuple(name for name, entry in entries.items() if entry is not None)
    if not names:
        raise NameRefusedError(
            f"{step}.{block} names nothing, but needs at least one entry: see conf/base/parameters_{step}.yml."
        )
    # Names of models, ways of merging, steps and questions, and what nodes read beside variants, which these would be
    # mistaken for.
    reranked = (source + RERANKED for source in SOURCES)
    models = {"lens", "untrained", *baselines.scored(), *baselines.ranked(), *SOURCES, *reranked}
    merged, questions = "iteris linear svd ties dare", "learning test champion previous"
    read = "log prompts scores config base_llm test_questions bootstrap"
    reserved = {*models, *PIPELINES.modules(), *f"{merged} {questions} {read}".split()}
    for name in names:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,63}", str(name)) or name in reserved:
            taken = f" other than {', '.join(sorted(reserved))}" if name in reserved else ""
            raise NameRefusedError(
                f"{step}.{block} names {name!r}. A name begins with a letter and has at most 64 letters, digits and "
                f"underscores{taken}: rename it."
            )
    return names
