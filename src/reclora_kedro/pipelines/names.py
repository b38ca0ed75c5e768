"""Names that parameters give to catalog entries: steps build their pipelines by these."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from kedro_provenance.parameters import NameRefusedError, quoted_value
from reclora_kedro.baselines import registry as baselines
from reclora_kedro.histories.co_occurrences import CO_OCCURRENCE
from reclora_kedro.histories.config import TFIDF
from reclora_kedro.pipelines.registry import PIPELINES
from reclora_kedro.recommend.config import RERANKED, SOURCES

TUNED_ENCODER = "tuned_item_encoder"
"""The catalog entry that the encoders step makes, and that ``history.item_embedding.encoders`` may name."""


@dataclass(frozen=True)
class PipelineNames:
    """The names by which the pipelines of a session are built.

    A step that reads a parameter alone takes it from `parameters`.

    Attributes:
        parameters: the blocks of all parameters.
        short_histories: names of the short histories that prompts show, the keys of ``history.short``.
        variants: for each variant of ``finetuning.variants``, the short history that its prompts show.
        item_encoders: catalog entries that embedding items reads, by ``history.item_embedding.encoders``. An encoder
            has the name of its entry; tfidf needs none, and co_occurrence needs the log.
        prompt_template: the catalog entry of the Jinja text of prompts, by ``prompt.template``.
        lens_reads_retriever: whether the lens learns from negatives of the retriever, by ``lens.retrieved_negatives``.
        recommendation_reads_retriever: whether ``recommendation.candidates`` lets the retriever find items.
        retrained_weights: catalog entries with weights that are trained again once users are forgotten; all of those
            in use with ``forget.retrain``, else none.
    """

    parameters: Mapping[str, Any]
    short_histories: tuple[str, ...]
    variants: Mapping[str, str]
    item_encoders: tuple[str, ...]
    prompt_template: str
    lens_reads_retriever: bool
    recommendation_reads_retriever: bool
    retrained_weights: tuple[str, ...]

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any]) -> "PipelineNames":
        """Return the names that parameters give.

        An environment drops a short history or a variant of conf/base by setting it to null.

        Raises:
            NameRefusedError: no short history or no variant is left, one cannot be part of a catalog entry's name and
                of a path, a variant has the name of a short history, or names one that does not exist. The error
                names all of these.
        """
        short_histories = _entries(parameters, "history", "short")
        variants = _entries(parameters, "finetuning", "variants")
        faults = [
            *_name_faults("history", "short", short_histories),
            *_name_faults("finetuning", "variants", variants),
            *(_history_faults(variants, short_histories) if short_histories else []),
        ]
        if faults:
            raise NameRefusedError(*faults)
        item_encoders = _item_encoders(parameters)
        reads_retriever = parameters["recommendation"]["candidates"] in ("validation", "retriever", "fusion")
        weights = (
            "lens",
            *(f"{variant}.adapter" for variant in variants),
            *(["retriever"] if reads_retriever else []),
            *(name for name in item_encoders if name == TUNED_ENCODER),
        )
        return cls(
            parameters=MappingProxyType(dict(parameters)),
            short_histories=tuple(short_histories),
            variants=MappingProxyType({variant: block["history"] for variant, block in variants.items()}),
            item_encoders=item_encoders,
            prompt_template=f"{parameters['prompt']['template']}.prompt_template",
            lens_reads_retriever=bool(parameters["lens"]["retrieved_negatives"]),
            recommendation_reads_retriever=reads_retriever,
            retrained_weights=weights if parameters["forget"]["retrain"] else (),
        )

    def variant_of(self, step: str) -> str:
        """Return the variant that a step works with, ``<step>.variant``.

        Raises:
            NameRefusedError: ``finetuning.variants`` does not name it.
        """
        variant = self.parameters[step]["variant"]
        if not isinstance(variant, str) or variant not in self.variants:
            raise NameRefusedError(
                f"{step}.variant is {quoted_value(variant)}, but finetuning.variants names "
                f"{', '.join(self.variants)}: choose one of these."
            )
        return variant

    def optional_variant_of(self, step: str) -> str | None:
        """Return the variant that a step works with, or None where ``<step>.variant`` is null; see `variant_of`."""
        return None if self.parameters[step]["variant"] is None else self.variant_of(step)

    def objective_of(self, variant: str) -> Mapping[str, Any]:
        """Return the parameters ``training.objective`` of a variant, which are not yet validated."""
        return _inner_block(_inner_block(self.parameters["finetuning"]["variants"][variant], "training"), "objective")


def _inner_block(block: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a block within another one; an empty one where it is missing or no block, which its reader refuses."""
    inner = block.get(name)
    return inner if isinstance(inner, Mapping) else {}


def _entries(parameters: Mapping[str, Any], step: str, block: str) -> dict[str, Any]:
    """Return the entries of ``<step>.<block>`` that are not null."""
    entries = _inner_block(_inner_block(parameters, step), block)
    return {name: entry for name, entry in entries.items() if entry is not None}


def _name_faults(step: str, block: str, names: Collection[str]) -> Iterator[str]:
    """Yield a message for each name that cannot be part of catalog entries and paths, or if there is no name."""
    if not names:
        yield f"{step}.{block} names nothing, but needs at least one entry: see conf/base/parameters_{step}.yml."
    reserved = _reserved_names()
    for name in names:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,63}", str(name)) or name in reserved:
            taken = f" other than {', '.join(sorted(reserved))}" if name in reserved else ""
            yield (
                f"{step}.{block} names {name!r}. A name begins with a letter and has at most 64 letters, digits and "
                f"underscores{taken}: rename it."
            )


def _reserved_names() -> set[str]:
    """Return names that entries, reports and namespaces use for something else than a variant or a short history."""
    models = {"lens", "untrained", *baselines.scored(), *baselines.ranked(), *SOURCES}
    reranked = {f"{source}{RERANKED}" for source in SOURCES}
    questions = "learning test champion previous"
    inputs_beside_variants = "log prompts scores config base_llm test_questions bootstrap"
    return {
        *models,
        *reranked,
        *PIPELINES.modules(),
        *f"{questions} {inputs_beside_variants}".split(),
    }


def _history_faults(variants: Mapping[str, Any], short_histories: Collection[str]) -> Iterator[str]:
    for variant, block in variants.items():
        if variant in short_histories:
            yield (
                f"finetuning.variants names {variant!r}, which is also the name of a history under history.short: "
                "rename the variant."
            )
        if not isinstance(block, Mapping):
            yield f"finetuning.variants.{variant} is {quoted_value(block)}, but it must be a block of a variant."
        elif not isinstance(history := block.get("history"), str) or history not in short_histories:
            yield (
                f"finetuning.variants.{variant}.history is {quoted_value(history)}, but history.short names "
                f"{', '.join(short_histories)}: choose one of these, or add it there."
            )


def _item_encoders(parameters: Mapping[str, Any]) -> tuple[str, ...]:
    encoders = _inner_block(parameters["history"], "item_embedding").get("encoders")
    named = [name for name in encoders if isinstance(name, str)] if isinstance(encoders, list | tuple) else []
    return tuple("log_without_embeddings" if name == CO_OCCURRENCE else name for name in named if name != TFIDF)
