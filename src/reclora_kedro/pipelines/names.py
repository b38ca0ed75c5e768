"""Names of catalog entries that depend on parameters, by which pipelines are built."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from kedro_provenance.errors import Fault, NameRefusedError, Parameter, Value, quoted_value
from reclora_kedro.baselines.registry import BASELINES
from reclora_kedro.candidates import ITEM_MODELS
from reclora_kedro.extensions import Registry
from reclora_kedro.history.config import CO_OCCURRENCE, TFIDF, default_encoders
from reclora_kedro.pipelines.registry import PIPELINES
from reclora_kedro.recommendation.config import RERANKED, SECOND_STAGES

TUNED_ENCODER = "tuned_item_encoder"
"""The catalog entry of the encoders step, which ``history.item_embedding.encoders`` may name."""


@dataclass(frozen=True)
class PipelineNames:
    """Names by which the pipelines of a session are built.

    A step takes parameters that only it reads from `parameters`.
    """

    parameters: Mapping[str, Any]
    short_histories: tuple[str, ...]  # names of the short histories of prompts, the keys of ``history.short``
    variants: Mapping[str, str]  # short history of each variant of ``finetuning.variants``
    report_reads_choice: bool = False  # whether the evaluation report shows how lists are made: in the default flow

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any]) -> "PipelineNames":
        """Return the names in parameters; null drops a short history or a variant of conf/base.

        A NameRefusedError lists all faults: no short history or no variant, a name that is unfit for catalog entries
        and paths, a variant that has the name of a short history, or names an unknown one, a baseline without a module.
        """
        short_histories = _entries(parameters, "history", "short")
        variants = _entries(parameters, "finetuning", "variants")
        faults = [
            *_name_faults("history", "short", short_histories),
            *_name_faults("finetuning", "variants", variants),
            *(_history_faults(variants, short_histories) if short_histories else []),
            *_module_faults("scoring.baselines", parameters["scoring"]["baselines"], BASELINES),
            *_module_faults("recommendation.sources", parameters["recommendation"]["sources"], ITEM_MODELS),
        ]
        if faults:
            raise NameRefusedError(*faults)
        histories = {variant: block["history"] for variant, block in variants.items()}
        return cls(MappingProxyType(dict(parameters)), tuple(short_histories), MappingProxyType(histories))

    def variant_of(self, step: str) -> str:
        """Return the variant of a step, ``<step>.variant``, or raise NameRefusedError for an unknown one."""
        variant = self.parameters[step]["variant"]
        if not isinstance(variant, str) or variant not in self.variants:
            named = Parameter("finetuning.variants"), f" names {', '.join(self.variants)}"
            fault = Fault(Parameter(f"{step}.variant"), ("is ", Value(variant)), named, "Choose one of these")
            raise NameRefusedError(fault)
        return variant

    def optional_variant_of(self, step: str) -> str | None:
        """Return the variant of a step, or None if ``<step>.variant`` is null; see `variant_of`."""
        return None if self.parameters[step]["variant"] is None else self.variant_of(step)

    def require_ranking_baseline(self) -> None:
        """Raise NameRefusedError if ``ranking.baseline`` is neither null nor a model without an LLM that may rank."""
        baseline, with_lens = self.parameters["ranking"]["baseline"], self.parameters["ranking"]["lens"]
        method = self.parameters["recommendation"]["method"]
        second = SECOND_STAGES if method in ("validation", *SECOND_STAGES) else ()
        methods = [*(source.rpartition(".")[2] for source in self.sources), *second]
        models = [*methods, *([*(f"{method}{RERANKED}" for method in methods), "lens"] if with_lens else [])]
        if baseline is not None and baseline not in models:
            found, named = f"is {quoted_value(baseline)}", f"the models that rank are {', '.join(models)}"
            advice = "Name one of these, or write null to compare with the best"
            learned = "Fusion and ranker only exist if recommendation.method is validation or one of them"
            raise NameRefusedError(Fault(Parameter("ranking.baseline"), found, named, f"{advice}. {learned}"))

    @property
    def likes_alone(self) -> bool:
        """Whether the settings say that every row is liked, so that nothing learns to predict likes."""
        columns = _inner_block(_inner_block(self.parameters, "ingestion"), "interactions")
        impressions = columns.get("clicked") is not None or columns.get("impressions") is not None
        drawn = _inner_block(self.parameters["history"], "negatives").get("kind") != "none"
        return columns.get("rating") is None and not impressions and not drawn

    @property
    def lists_read_lens(self) -> bool:
        """Whether the lens reorders lists, ``recommendation.order``."""
        return bool(self.parameters["recommendation"]["order"] == "lens")

    @property
    def item_encoders(self) -> tuple[str, ...]:
        """Catalog entries for embedding items, by ``history.item_embedding.encoders``.

        An encoder has the name of its entry; tfidf needs none, and co_occurrence needs the log.
        """
        encoders = _inner_block(self.parameters["history"], "item_embedding").get("encoders", ())
        encoders = default_encoders() if encoders is None else encoders
        named = [name for name in encoders if isinstance(name, str)] if isinstance(encoders, list | tuple) else []
        return tuple("log_without_embeddings" if name == CO_OCCURRENCE else name for name in named if name != TFIDF)

    @property
    def lens_reads_retriever(self) -> bool:
        """Whether the lens is trained on negatives of the retriever."""
        return bool(self.parameters["lens"]["retrieved_negatives"])

    @property
    def lens_to_forget_in(self) -> list[str]:
        """The entry of the lens, if one is in use when users are forgotten."""
        return [] if self.likes_alone or not self.parameters["forget"]["lens"] else ["lens"]

    @property
    def retrained_weights(self) -> tuple[str, ...]:
        """Catalog entries of weights to train again after users are forgotten: all in use, or none."""
        adapters, tuned = [f"{variant}.adapter" for variant in self.variants], {TUNED_ENCODER} & {*self.item_encoders}
        learned = [*self.lens_to_forget_in, *adapters] if self.lens_to_forget_in else []
        return (*learned, *self.retriever, *tuned) if self.parameters["forget"]["retrain"] else ()

    @property
    def sources(self) -> tuple[str, ...]:
        """Names and dotted paths of item models."""
        return tuple(self.parameters["recommendation"]["sources"])

    @property
    def retriever(self) -> list[str]:
        """The entry of the retriever, if it is among the sources."""
        return [source for source in self.sources if source == "retriever"]

    @property
    def source_settings(self) -> dict[str, str]:
        """Inputs with the settings of the sources that have a block of parameters, by the block's name."""
        return {block: f"params:{block}" for block in _config_types(self.sources)}

    @property
    def baselines(self) -> tuple[str, ...]:
        """Names and dotted paths of the baselines that score the test rows, by ``scoring.baselines``."""
        return tuple(self.parameters["scoring"]["baselines"])

    def objective_of(self, variant: str) -> Mapping[str, Any]:
        """Return the parameters ``training.objective`` of a variant, before validation."""
        return _inner_block(_inner_block(self.parameters["finetuning"]["variants"][variant], "training"), "objective")


def source_types(parameters: Mapping[str, Any], read: Collection[str]) -> dict[str, Any]:
    """Return the types of the blocks of sources, by the block's name, if they are among the inputs that nodes read."""
    sources = [name for name in parameters["recommendation"]["sources"] if f"params:{name.rpartition('.')[2]}" in read]
    return _config_types(sources)


def _config_types(sources: Iterable[str]) -> dict[str, Any]:
    """Return the types of the settings of the sources that have any, by the name of their block."""
    from reclora_kedro.recommendation.chosen import config_kinds

    return {source.rpartition(".")[2]: kind for source, kind in config_kinds(tuple(sources)).items()}


def _inner_block(block: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a block within another one; empty if it is missing or no block, which its reader refuses."""
    inner = block.get(name)
    return inner if isinstance(inner, Mapping) else {}


def _entries(parameters: Mapping[str, Any], step: str, block: str) -> dict[str, Any]:
    """Return the entries of ``<step>.<block>`` that are not null."""
    entries = _inner_block(_inner_block(parameters, step), block)
    return {name: entry for name, entry in entries.items() if entry is not None}


def _name_faults(step: str, block: str, names: Collection[str]) -> Iterator[Fault]:
    """Yield a fault for each name that is unfit for catalog entries and paths, or if there is no name."""
    parameter = Parameter(f"{step}.{block}")
    if not names:
        yield Fault(parameter, "names nothing", "it needs at least one entry", f"See conf/base/parameters_{step}.yml")
    # Names that entries, reports and namespaces already use for other things.
    methods = (*ITEM_MODELS.modules(), *SECOND_STAGES)
    models = {"lens", "untrained", *BASELINES.modules(), *methods, *(f"{name}{RERANKED}" for name in methods)}
    questions = ("learning", "test", "champion", "previous")
    beside_variants = ("log", "prompts", "scores", "config", "base_llm", "test_questions", "bootstrap")
    reserved = {*models, *PIPELINES.modules(), *questions, *beside_variants}
    for name in names:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,63}", str(name)) or name in reserved:
            others = f" other than {', '.join(sorted(reserved))}" if name in reserved else ""
            fit = f"a name begins with a letter and has at most 64 letters, digits and underscores{others}"
            yield Fault(parameter, f"names {name!r}", fit, "Rename it")


def _history_faults(variants: Mapping[str, Any], short_histories: Collection[str]) -> Iterator[Fault]:
    histories = Parameter("history.short")
    for variant, block in variants.items():
        if variant in short_histories:
            names = f"names {variant!r}, which is also the name of a history under ", histories
            yield Fault(Parameter("finetuning.variants"), names, advice="Rename the variant")
        if not isinstance(block, Mapping):
            path = Parameter(f"finetuning.variants.{variant}")
            yield Fault(path, ("is ", Value(block)), "it must be a block of a variant")
        elif not isinstance(history := block.get("history"), str) or history not in short_histories:
            path, known = Parameter(f"finetuning.variants.{variant}.history"), f" names {', '.join(short_histories)}"
            yield Fault(path, ("is ", Value(history)), (histories, known), "Choose one of these, or add it there")


def _module_faults(path: str, named: Any, modules: Registry) -> Iterator[Fault]:
    """Yield a fault for a list of names that is none, and for each name without a module."""
    if not isinstance(named, list | tuple):
        yield Fault(Parameter(path), ("is ", Value(named)), "it must be a list of names")
        return
    for name in named:
        try:
            modules.require(str(name))
        except ValueError as error:
            yield Fault(Parameter(path), "", str(error))
