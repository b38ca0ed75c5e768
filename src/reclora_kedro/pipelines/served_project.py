"""The served project: the champion and the settings of an environment, read through Kedro."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
from kedro.framework.context import KedroContext
from kedro.framework.project import settings

from kedro_provenance.catalog import AtomicCatalog, loaded_version
from kedro_provenance.champion import CHAMPION, champion_history
from kedro_provenance.failures import RunRefusedError, command
from kedro_provenance.files.storage import is_remote
from reclora_kedro.baselines.linear import LinearConfig, LinearModel
from reclora_kedro.baselines.neighbours import ItemNeighboursConfig
from reclora_kedro.baselines.popularity import Popularity, PopularityConfig
from reclora_kedro.candidates.base import Retriever
from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.finetuning.variants import VariantConfig
from reclora_kedro.history.config import HistoryConfig
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.ingestion.config import IngestionConfig
from reclora_kedro.ingestion.forgotten import ForgottenUsers
from reclora_kedro.lens.base import Lens
from reclora_kedro.lens.states import gate_inputs, lens_states
from reclora_kedro.llm.answer_model import answering_model
from reclora_kedro.llm.prompts import PromptBuilder, PromptConfig
from reclora_kedro.recommendation import candidates, choice
from reclora_kedro.recommendation.config import SECOND_STAGES, RecommendationConfig
from reclora_kedro.recommendation.sources import Choice, SourceSettings
from reclora_kedro.scoring.prompt_scores import ScoringConfig
from reclora_kedro.serving.config import ServiceConfig
from reclora_kedro.serving.models import Champion, Llm

logger = logging.getLogger(__name__)

HISTORY_SHOWN = 20  # champions


class ServedProject:
    """A project in an environment, whose champion is served."""

    def __init__(self, path: Path, env: str | None, params: dict[str, Any]) -> None:
        self._path, self._env, self._params = path, env, params

    def _session(self) -> Any:
        return settings.SESSION_CLASS.create(self._path, env=self._env, runtime_params=self._params)

    @contextmanager
    def _context(self) -> Iterator[KedroContext]:
        with self._session() as session:
            yield session.load_context()

    def settings(self) -> ServiceConfig:
        """Return the block `service`, or raise RunRefusedError for an invalid value."""
        with self._context() as context:
            block, variants = context.params["service"], context.params["finetuning"]["variants"]
        config = ServiceConfig.model_validate(block)
        if config.variant is not None and config.variant not in variants:
            raise RunRefusedError(
                f"service.variant is {config.variant!r}, but finetuning.variants names {', '.join(variants)}: choose "
                "one of these, or null to serve no LLM."
            )
        if is_remote(str(block["folder"])):
            raise RunRefusedError(
                f"service.folder is {block['folder']}, but the journal needs a local folder, whose writes are durable: "
                "name one."
            )
        return config.model_copy(update={"folder": self._path / config.folder})

    def token(self, config: ServiceConfig) -> str | None:
        """Return the token that requests need, or raise RunRefusedError if its variable is not set."""
        if config.token_variable is None:
            return None
        if not (token := os.environ.get(config.token_variable)):
            raise RunRefusedError(
                f"service.token_variable names {config.token_variable}, but this environment variable is not set: set "
                "it to the token, or the parameter to null."
            )
        return token

    def champion_name(self) -> str | None:
        """Return the version of the champion's alias; None if there is none."""
        self._alias.release()  # which remembers what it found before
        return loaded_version(self._alias)

    @cached_property
    def _alias(self) -> Any:
        with self._context() as context:
            return context.catalog.get(CHAMPION)

    def forgotten(self) -> ForgottenUsers:
        """Return who is forgotten now."""
        return ForgottenUsers.from_table(self._entries["users_to_drop"].load())

    def withheld(self) -> pl.DataFrame:
        """Return the interactions that updates keep out."""
        return self._entries["withheld_interactions"].load()

    @cached_property
    def _entries(self) -> dict[str, Any]:
        with self._context() as context:
            return {name: context.catalog.get(name) for name in ("users_to_drop", "withheld_interactions")}

    def roll_back(self) -> str | None:
        """Name the previous champion, by a run of the pipeline `rollback`; return the version of the alias.

        Raises:
            ValueError: there is no previous champion.
            RunRefusedError: the run is refused, for example because another one is running.
        """
        with self._session() as session:
            session.run(pipeline_names=["rollback"])
        return self.champion_name()

    def champion(self) -> Champion:
        """Load the champion's versions, or else the newest; raise RunRefusedError if one does not exist."""
        alias = self.champion_name()
        with self._context() as context:
            catalog: Any = context.catalog
            history = champion_history(catalog) if context.params["champion"] == "promoted" else []
            return replace(_Loading(catalog, context, history).champion(), alias=alias)


class _Loading:
    def __init__(self, catalog: AtomicCatalog, context: KedroContext, history: list[dict[str, Any]]) -> None:
        self._catalog, self._env, self._history = catalog, context.env, history
        self._named = history[0]["versions"] if history else {}
        self._params, self._versions = context.params, dict[str, str]()

    def champion(self) -> Champion:
        log, lens = self._load("log"), self._load("lens")
        config = self._block("recommendation", RecommendationConfig)
        neighbours, linear = self._block("item_neighbours", ItemNeighboursConfig), self._block("linear", LinearConfig)
        retriever = self._retriever(config, log)
        settings = SourceSettings(self._block("popularity", PopularityConfig), neighbours, linear, config.exact_items)
        bootstrap = self._block("bootstrap", Bootstrap)
        made_with = choice.deciding_settings(log, retriever, config, settings)
        chosen = self._stored_choice(made_with) or choice.choose(lens, log, retriever, config, settings, bootstrap)[0]
        given = self._catalog.load("recommendation_candidates") if chosen.kind == "table" else None
        variant = self._params["service"]["variant"]
        llm = None if variant is None else self._llm(variant, lens, log)
        about: dict[str, Any] = {"lens_metrics": self._lens_metrics()}
        if self._history:
            about["decision"] = self._history[0]["decision"]
            about["history"] = self._history[:HISTORY_SHOWN]
        return Champion(
            versions=self._versions,
            about=about,
            log=log,
            lens=lens,
            retriever=retriever,
            linear=None if chosen.linear is None else LinearModel.fit(log, chosen.linear, linear),
            kind=chosen.kind,
            order=chosen.order,
            stage=chosen.stage,
            table=None if given is None else candidates.candidate_table(given),
            llm=llm,
            ingestion=self._block("ingestion", IngestionConfig),
            recommendation=config,
            popularity=Popularity(log, chosen.popularity),
            neighbours=chosen.neighbours or neighbours,
            forgotten=ForgottenUsers.from_table(self._catalog.load("users_to_drop")),
        )

    def _stored_choice(self, made_with: dict[str, Any]) -> Choice | None:
        """Return the choice of the recommendation pipeline, if it was made with the present settings."""
        if loaded_version(self._catalog.get("candidate_choice")) is None:
            return None
        stored = Choice.model_validate(self._load("candidate_choice"))
        if stored.made_with == made_with:
            return stored
        logger.warning("The stored candidate_choice was made with other settings: it is made anew.")
        self._versions.pop("candidate_choice")
        return None

    def _retriever(self, config: RecommendationConfig, log: InteractionLog) -> Retriever | None:
        """Load the retriever if it may find candidates; None if no version for this log is stored."""
        if not {"retriever", *SECOND_STAGES} & {*config.sources}:
            return None
        is_named = config.candidates != "validation"
        is_stored = loaded_version(self._catalog.get("retriever")) is not None
        retriever = self._load("retriever") if is_named or is_stored else None
        if is_named or (retriever and retriever.sizes.items == log.items.height):
            return retriever
        logger.warning(
            "No retriever of the champion's log is stored, so that the other sources compete without it. To train one, "
            "run %s.",
            command("--pipelines candidates", self._env),
        )
        self._versions.pop("retriever", None)
        return None

    def _llm(self, variant: str, lens: Lens, log: InteractionLog) -> Llm:
        settings = VariantConfig.model_validate(self._params["finetuning"]["variants"][variant])
        prompt, history = self._block("prompt", PromptConfig), self._block("history", HistoryConfig)
        window = history.short[settings.history]
        assert window is not None  # the variant's history is one of those that are there
        base_llm, adapter = self._catalog.load("base_llm"), self._load(f"{variant}.adapter")
        template = self._catalog.load(f"{prompt.template}.prompt_template")
        reads = gate_inputs(lens_states(lens, log, log.samples.head(1)), settings.gate_input)
        return Llm(
            variant=variant,
            model=answering_model(base_llm, prompt, adapter=adapter, gate_inputs=reads, blend=settings.blend),
            prompts=PromptBuilder(base_llm.tokenizer, template, prompt, base_llm.context_tokens),
            window=window,
            gate_input=settings.gate_input,
            tokens_per_batch=self._block("scoring", ScoringConfig).tokens_per_batch,
        )

    def _load(self, entry: str) -> Any:
        version = self._named.get(entry) or loaded_version(self._catalog.get(entry))
        if version is None:
            raise RunRefusedError(
                f"The service reads {entry}, of which no version is stored: make it with "
                f"{command('', self._env)}, or set service.variant to null if an adapter is missing."
            )
        self._versions[entry] = version
        return self._catalog.load(entry, version)

    def _lens_metrics(self) -> Any:
        """Load the metrics of the run that made the lens; None if an update made it."""
        is_of_lens = loaded_version(self._catalog.get("lens_metrics")) == self._versions["lens"]
        return self._catalog.load("lens_metrics") if is_of_lens else None

    def _block(self, name: str, kind: Any) -> Any:
        return kind.model_validate(self._params[name])
