"""Names of catalog entries that depend on parameters, by which pipelines are built."""

import re
from collections.abc import Collection, Iterator, Mapping
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

    Attributes:
        short_histories: names of the short histories of prompts, the keys of ``history.short``.
        variants: short history of each variant of ``finetuning.variants``.
        item_encoders: catalog entries for embedding items, by ``history.item_embedding.encoders``: an encoder has the
            name of its entry; tfidf needs none, and co_occurrence needs the log.
        prompt_template: catalog entry of the Jinja text of prompts, by ``prompt.template``.
        lens_reads_retriever: whether the lens is trained on negatives of the retriever, ``lens.retrieved_negatives``.
        sources: names and dotted paths of item models, ``recommendation.sources``.
        report_reads_choice: whether the evaluation report draws the second stage of the recommendations: in the default
            flow.
        retrained_weights: catalog entries of weights to train again after users are forgotten: all in use with
            ``forget.retrain``, else none.
    """

    parameters: Mapping[str, Any]
    short_histories: tuple[str, ...]
    variants: Mapping[str, str]
    item_encoders: tuple[str, ...]
    prompt_template: str
    lens_reads_retriever: bool
    sources: tuple[str, ...]
    report_reads_choice: bool
    retrained_weights: tuple[str, ...]

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any]) -> "PipelineNames":
        """Return the names in parameters.

        An environment drops a short history or a variant of conf/base by setting it to null.

        Raises:
            NameRefusedError: there is no short history or no variant, a name is unfit for catalog entries and paths, a
                variant has the name of a short history, or names an unknown one, or a baseline is no module. The
                message lists all faults.
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
        item_encoders = _item_encoders(parameters)
        sources = tuple(parameters["recommendation"]["sources"])
        weights = (
            "lens",
            *(f"{variant}.adapter" for variant in variants),
            *(name for name in sources if name == "retriever"),
            *(name for name in item_encoders if name == TUNED_ENCODER),
        )
        return cls(
            parameters=MappingProxyType(dict(parameters)),
            short_histories=tuple(short_histories),
            variants=MappingProxyType({variant: block["history"] for variant, block in variants.items()}),
            item_encoders=item_encoders,
            prompt_template=f"{parameters['prompt']['template']}.prompt_template",
            lens_reads_retriever=bool(parameters["lens"]["retrieved_negatives"]),
            sources=sources,
            report_reads_choice=False,
            retrained_weights=weights if parameters["forget"]["retrain"] else (),
        )

    def variant_of(self, step: str) -> str:
        """Return the variant of a step, ``<step>.variant``, or raise NameRefusedError for an unknown one."""
        variant = self.parameters[step]["variant"]
        if not isinstance(variant, str) or variant not in self.variants:
            named = Parameter("finetuning.variants"), f" names {', '.join(self.variants)}"
            raise NameRefusedError(
                Fault(Parameter(f"{step}.variant"), ("is ", Value(variant)), named, "Choose one of these")
            )
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
            raise NameRefusedError(
                Fault(
                    Parameter("ranking.baseline"),
                    f"is {quoted_value(baseline)}",
                    f"the models that rank are {', '.join(models)}",
                    "Name one of these, or write null to compare with the best. Fusion and ranker are learned where "
                    "recommendation.method is validation or one of them",
                )
            )

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
    """Return the types of the blocks of sources that nodes read, by the block's name.

    Args:
        parameters: all parameters.
        read: names of what the nodes read.
    """
    sources = parameters["recommendation"]["sources"]
    return _config_types([source for source in sources if f"params:{source.rpartition('.')[2]}" in read])


def _config_types(sources: Collection[str]) -> dict[str, Any]:
    """Return the types of the settings of the sources that have any, by the name of their block."""
    from reclora_kedro.candidates.item_model import NoSettings
    from reclora_kedro.recommendation.sources import model_of

    types = {source.rpartition(".")[2]: model_of(source).Config for source in sources}
    return {block: kind for block, kind in types.items() if kind is not NoSettings}


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
    reserved = _reserved_names()
    for name in names:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,63}", str(name)) or name in reserved:
            others = f" other than {', '.join(sorted(reserved))}" if name in reserved else ""
            yield Fault(
                parameter,
                f"names {name!r}",
                f"a name begins with a letter and has at most 64 letters, digits and underscores{others}",
                "Rename it",
            )


def _reserved_names() -> set[str]:
    """Return the names that entries, reports and namespaces already use for other things."""
    models = {"lens", "untrained", *BASELINES.modules(), *ITEM_MODELS.modules(), *SECOND_STAGES}
    reranked = {f"{name}{RERANKED}" for name in (*ITEM_MODELS.modules(), *SECOND_STAGES)}
    questions = "learning test champion previous"
    inputs_beside_variants = "log prompts scores config base_llm test_questions bootstrap"
    return {
        *models,
        *reranked,
        *PIPELINES.modules(),
        *f"{questions} {inputs_beside_variants}".split(),
    }


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
            yield Fault(
                Parameter(f"finetuning.variants.{variant}.history"),
                ("is ", Value(history)),
                (histories, f" names {', '.join(short_histories)}"),
                "Choose one of these, or add it there",
            )


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


def _item_encoders(parameters: Mapping[str, Any]) -> tuple[str, ...]:
    encoders = _inner_block(parameters["history"], "item_embedding").get("encoders", ())
    encoders = default_encoders() if encoders is None else encoders
    named = [name for name in encoders if isinstance(name, str)] if isinstance(encoders, list | tuple) else []
    return tuple("log_without_embeddings" if name == CO_OCCURRENCE else name for name in named if name != TFIDF)
