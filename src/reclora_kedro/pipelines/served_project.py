"""The served project: the current model and the settings of an environment, read through Kedro."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from kedro.framework.context import KedroContext
from kedro.framework.project import settings

from kedro_provenance.catalog import AtomicCatalog
from kedro_provenance.datasets import loaded_version
from kedro_provenance.errors import NameRefusedError
from kedro_provenance.failures import RunRefusedError, command
from reclora_kedro.candidates.item_model import Training
from reclora_kedro.current_model import ALIAS, CHOICE, ModelInHistory, model_history
from reclora_kedro.extras import missing_extra
from reclora_kedro.finetuning.config import VariantConfig
from reclora_kedro.history.config import CO_OCCURRENCE, HistoryConfig
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.ingestion.config import IngestionConfig
from reclora_kedro.ingestion.forgotten import ForgottenUsers
from reclora_kedro.llm.item_vectors import embed_new_items
from reclora_kedro.pipelines.names import PipelineNames
from reclora_kedro.recommendation import delivery
from reclora_kedro.recommendation.chosen import Choice, stored_choice
from reclora_kedro.recommendation.config import RecommendationConfig
from reclora_kedro.recommendation.recommender import FittedRecommender
from reclora_kedro.scoring.config import ScoringConfig
from reclora_kedro.serving.config import ServiceConfig
from reclora_kedro.serving.guard import Tokens
from reclora_kedro.serving.journal_databases import journal_database
from reclora_kedro.serving.journal_tables import JournalError
from reclora_kedro.serving.models import Llm, ServedModel

if TYPE_CHECKING:
    from reclora_kedro.lens.base import Lens
    from reclora_kedro.lens.states import LensReader

logger = logging.getLogger(__name__)

HISTORY_SHOWN = 20  # models
OF_SEVERAL_THREADS = ("users_to_drop", "withheld_interactions", ALIAS, CHOICE)  # entries that journal and reloads read


class ServedProject:
    """A project in an environment, whose model is served."""

    def __init__(self, path: Path, env: str | None, params: dict[str, Any], conf_source: str | None = None) -> None:
        self._path, self._env, self._params, self._conf_source = path, env, params, conf_source
        self._context, self._catalog = self._read_configuration()
        self._has_loaded = False

    def _session(self) -> Any:
        named = {"env": self._env, "conf_source": self._conf_source, "runtime_params": self._params}
        return settings.SESSION_CLASS.create(self._path, **named)

    def _read_configuration(self) -> tuple[KedroContext, Any]:
        """Return the context, and its catalog, which Kedro makes anew whenever it is asked for."""
        with self._session() as session:
            context = session.load_context()
            catalog = context.catalog
        for name in OF_SEVERAL_THREADS:
            catalog.get(name)  # which makes it: in two threads at once, Kedro's catalog would give one of them None
        return context, catalog

    def settings(self) -> ServiceConfig:
        """Return the block `service`, or raise RunRefusedError for an invalid value."""
        params = self._context.params
        config = ServiceConfig.model_validate(params["service"])
        try:
            PipelineNames(params, (), params["finetuning"]["variants"]).optional_variant_of("service")
            journal_database(config.journal)
        except (NameRefusedError, JournalError) as error:
            raise RunRefusedError(str(error)) from error
        if "://" not in config.journal:
            return config.model_copy(update={"journal": str(self._path / config.journal)})
        return config

    def tokens(self, config: ServiceConfig) -> Tokens | None:
        """Return the tokens that requests need, or raise RunRefusedError if a variable is not set, or two are equal."""
        if config.token_variable is None:
            return None
        names = ("token_variable", "write_token_variable", "read_token_variable")
        variables = {name: variable for name in names if (variable := getattr(config, name)) is not None}
        for name, variable in variables.items():
            if not os.environ.get(variable):
                raise RunRefusedError(
                    f"service.{name} names {variable}, but this environment variable is not set: set it to the token, "
                    "or the parameter to null."
                )
        values = {name: os.environ[variable] for name, variable in variables.items()}
        if len({*values.values()}) < len(values):
            raise RunRefusedError(
                f"service.{', '.join(values)} name equal tokens: give each its own, or set one to null."
            )
        write, read = (values.get(name) for name in names[1:])
        return Tokens(values["token_variable"], write, read)

    def chosen_by(self) -> tuple[str | None, str | None]:
        """Return the versions of the current model's alias and of the choice beside it; None where there is none.

        Where no alias names the other versions, a choice may be of a run that has not made all of its own yet.
        """
        alias = self._newest(ALIAS)
        is_beside = alias is not None and self._context.params["champion"] == "promoted"
        return alias, self._newest(CHOICE) if is_beside else None

    def _newest(self, entry: str) -> str | None:
        dataset = self._catalog.get(entry)
        dataset.release()  # which remembers what it found before
        return loaded_version(dataset)

    def forgotten(self) -> ForgottenUsers:
        """Return who is forgotten now."""
        return ForgottenUsers.from_table(self._catalog.get("users_to_drop").load())

    def withheld(self) -> pl.DataFrame:
        """Return the interactions that updates keep out."""
        return self._catalog.get("withheld_interactions").load()

    def roll_back(self) -> tuple[str | None, str | None]:
        """Name the previous model, by a run of the pipeline `rollback`; return what `chosen_by` does then.

        ValueError if there is none, and RunRefusedError if the run is refused, such as while another one is running.
        """
        with self._session() as session:
            session.run(pipeline_names=["rollback"])
        return self.chosen_by()

    def current_model(self) -> ServedModel:
        """Load the current model's versions, or else the newest; raise RunRefusedError if one does not exist.

        All calls but the first read the configuration anew.
        """
        if self._has_loaded:
            self._context, self._catalog = self._read_configuration()
        self._has_loaded, chosen_by = True, self.chosen_by()
        history = model_history(self._catalog) if self._context.params["champion"] == "promoted" else []
        return replace(_Loading(self._catalog, self._context, history).current_model(), chosen_by=chosen_by)


class _Loading:
    def __init__(self, catalog: AtomicCatalog, context: KedroContext, history: Sequence[ModelInHistory]) -> None:
        self._catalog, self._env, self._history = catalog, context.env, history
        self._named = history[0]["versions"] if history else {}
        self._params, self._versions = context.params, dict[str, str]()

    def current_model(self) -> ServedModel:
        log, config = self._load("log"), self._block("recommendation", RecommendationConfig)
        lens = self._lens(config)
        chosen, table, retriever, reader = self._choice(config), None, None, None
        if "retriever" in config.sources:
            from reclora_kedro.candidates.next_item.base import grow_retriever  # imports torch, as all such lines here

            retriever = grow_retriever(self._load("retriever"), log)
        if config.candidates == "table":
            pairs = delivery.candidate_table(self._catalog.load("recommendation_candidates"), log)
            table = delivery.items_of_users(pairs, pl.String())
        learned = self._catalog.load("learned_weights") if self._catalog.exists("learned_weights") else {}
        training = Training.from_log(log, retriever=retriever, learned=learned)
        variant = self._params["service"]["variant"]
        if lens is not None:
            from reclora_kedro.lens.states import LensReader

            reader = LensReader(lens, log)
        about: dict[str, Any] = {} if lens is None else {"lens_metrics": self._lens_metrics()}
        if self._history:
            about["decision"] = self._history[0]["decision"]
            about["history"] = self._history[:HISTORY_SHOWN]
        llm = self._llm(variant, reader, log) if reader and variant is not None and self._serves(variant) else None
        return ServedModel(
            versions=self._versions,
            about=about,
            lens=lens,
            retriever=retriever,
            recommender=replace(FittedRecommender.from_choice(training, chosen, config, reader), lens=None),
            table=table,
            llm=llm,
            ingestion=self._block("ingestion", IngestionConfig),
            embed=None if log.item_embeddings is None else self._embedding(log),
        )

    def _embedding(self, log: InteractionLog) -> Callable[[list[str], list[str], np.ndarray], np.ndarray]:
        """Return what makes vectors of new items, as an update does; it loads what it reads when it is first called."""
        config = self._block("history", HistoryConfig).item_embedding
        entries = ["item_embeddings", *(name for name in config.with_input if name != CO_OCCURRENCE)]
        versions = {name: self._version(name) for name in entries}

        @cache
        def loaded() -> dict[str, Any]:
            return {name: self._catalog.load(name, version) for name, version in versions.items()}

        def embed(texts: list[str], before: list[str], vectors: np.ndarray) -> np.ndarray:
            made = loaded()["item_embeddings"] | {"embeddings": vectors}
            return embed_new_items(texts, before, made, config, loaded())["embeddings"]

        return embed

    def _lens(self, config: RecommendationConfig) -> Lens | None:
        """Load the lens; None if none was trained, and neither lists nor the configured LLM read it."""
        is_needed = config.order == "lens" or self._params["service"]["model"] == "llm"
        without_torch = missing_extra("lens", "The lens")
        if is_needed and without_torch:
            raise RunRefusedError(
                f"{without_torch}, or set recommendation.order to candidates and service.model to lens."
            )
        if is_needed or (self._version("lens") is not None and not without_torch):
            return self._load("lens")
        if self._params["service"]["variant"] is not None:
            logger.warning("There is no lens: the service recommends, but does not score given items, and has no LLM.")
        return None

    def _choice(self, config: RecommendationConfig) -> Choice:
        """Return the stored choice, which new items and events leave as it is; one of other settings is refused."""
        try:
            chosen = stored_choice(self._load(CHOICE))
        except ValueError as error:
            raise RunRefusedError(str(error)) from error
        remedy = f"Choose again with {command('--pipelines recommendation', self._env)}."
        if {*chosen.sources} != {*config.sources}:
            raise RunRefusedError(
                f"candidate_choice was made with the sources {', '.join(chosen.sources)}, but recommendation.sources "
                f"names {', '.join(config.sources)}. {remedy}"
            )
        if config.method not in ("validation", chosen.kind) or config.order != chosen.order:
            raise RunRefusedError(
                f"candidate_choice is {chosen.kind} in the order of {chosen.order}, but recommendation.method "
                f"and order are {config.method} and {config.order}. {remedy}"
            )
        return chosen

    def _serves(self, variant: str) -> bool:
        """Whether an adapter is served; one that was never trained is not, with a warning, if the lens answers."""
        if text := missing_extra("llm", f"service.variant, which is {variant},"):
            logger.warning("%s. The service has no LLM.", text)
            return False
        if self._params["service"]["model"] == "llm" or self._version(f"{variant}.adapter") is not None:
            return True
        logger.warning(
            "No version of %s.adapter is stored: the service has no LLM. Train it with %s.",
            variant,
            command("--pipelines history,lens,finetuning", self._env),
        )
        return False

    def _llm(self, variant: str, reader: LensReader, log: InteractionLog) -> Future[Llm]:
        """Load the LLM in a thread of its own, the last to read the catalog: lists do not wait for it."""
        from reclora_kedro.lens.states import gate_inputs, states_of_questions
        from reclora_kedro.llm.answer_model import answering_model
        from reclora_kedro.llm.prompts import PromptBuilder, PromptConfig

        settings = VariantConfig.model_validate(self._params["finetuning"]["variants"][variant])
        prompt, history = self._block("prompt", PromptConfig), self._block("history", HistoryConfig)
        window, version = history.short[settings.history], self._required(f"{variant}.adapter")
        assert window is not None  # the variant's history is one of those that are there

        def load() -> Llm:
            base_llm, adapter = self._catalog.load("base_llm"), self._catalog.load(f"{variant}.adapter", version)
            template = self._catalog.load(f"{prompt.template}.prompt_template")
            first = log.samples.head(1)
            reads = gate_inputs(states_of_questions(reader.states(first), first), settings.gate_input)
            return Llm(
                model=answering_model(base_llm, prompt, adapter=adapter, gate_inputs=reads, blend=settings.blend),
                prompts=PromptBuilder(base_llm.tokenizer, template, prompt, base_llm.context_tokens),
                window=window,
                gate_input=settings.gate_input,
                tokens_per_batch=self._block("scoring", ScoringConfig).tokens_per_batch,
            )

        threads = ThreadPoolExecutor(1)
        loading = threads.submit(load)
        threads.shutdown(wait=False)
        return loading

    def _version(self, entry: str) -> str | None:
        return self._named.get(entry) or loaded_version(self._catalog.get(entry))

    def _load(self, entry: str) -> Any:
        return self._catalog.load(entry, self._required(entry))

    def _required(self, entry: str) -> str:
        """Return the version of an entry that is served, which the current model then names."""
        version = self._version(entry)
        if version is None:
            options = {CHOICE: "--pipelines recommendation", "lens": "--pipelines lens"}.get(entry, "")
            others = {"lens": ", or set recommendation.order to candidates and service.model to lens"}.get(entry, "")
            raise RunRefusedError(
                f"The service reads {entry}, but no version of it is stored: make it with "
                f"{command(options, self._env)}{others}."
            )
        self._versions[entry] = version
        return version

    def _lens_metrics(self) -> Any:
        """Load the metrics of the run that made the lens; None if an update made it."""
        is_of_lens = loaded_version(self._catalog.get("lens_metrics")) == self._versions["lens"]
        return self._catalog.load("lens_metrics") if is_of_lens else None

    def _block(self, name: str, kind: Any) -> Any:
        return kind.model_validate(self._params[name])
