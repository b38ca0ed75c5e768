"""Answers of a champion on the current log."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby
from typing import Any, Literal, Self

import numpy as np
import polars as pl
import torch

from reclora_kedro.baselines.base import Scorer
from reclora_kedro.baselines.linear import LinearModel
from reclora_kedro.baselines.neighbours import ItemNeighbours, ItemNeighboursConfig
from reclora_kedro.baselines.popularity import Popularity
from reclora_kedro.candidates.base import Retriever
from reclora_kedro.candidates.index import NO_ITEM, ItemIndex
from reclora_kedro.candidates.reader import RetrieverReader
from reclora_kedro.gate_inputs import GateInputs
from reclora_kedro.history.item_facts import ItemFacts
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.questions import CANDIDATE, questions
from reclora_kedro.history.rating_statistics import COLUMNS
from reclora_kedro.history.records import prompt_records
from reclora_kedro.history.retrieval import WindowConfig, unit_vectors
from reclora_kedro.ingestion.config import IngestionConfig
from reclora_kedro.ingestion.forgotten import NOBODY, ForgottenUsers
from reclora_kedro.lens.base import Lens
from reclora_kedro.lens.config import GateInput
from reclora_kedro.lens.growth import grow_lens
from reclora_kedro.lens.layers import UNKNOWN_ID
from reclora_kedro.lens.states import LensReader, gate_inputs, lens_scores, states_of_questions
from reclora_kedro.llm.answer_model import AnswerModel
from reclora_kedro.llm.prompt_set import prompt_set
from reclora_kedro.llm.prompts import PromptBuilder
from reclora_kedro.llm.shared_prefix import score_candidates
from reclora_kedro.recommendation.candidates import CandidateSets, candidate_sets
from reclora_kedro.recommendation.config import SOURCES, CandidateKind, CandidateOrder, RecommendationConfig
from reclora_kedro.recommendation.diversity import marginal_relevance
from reclora_kedro.recommendation.finders import Finder
from reclora_kedro.recommendation.recommendations import REASONS
from reclora_kedro.recommendation.second_stage import SecondStage
from reclora_kedro.recommendation.sources import READ_RETRIEVER, FittedSources, lens_scorer
from reclora_kedro.serving.config import ModelName
from reclora_kedro.serving.journal import Event
from reclora_kedro.serving.live_log import CurrentLog, LiveLog

Fallback = Literal["unknown_user", "no_events", "no_candidates"]
PAIR = {"user_index": pl.Int32, "item_index": pl.Int32}


@dataclass(frozen=True)
class Llm:
    """An LLM with an adapter, and the settings of its prompts."""

    variant: str
    model: AnswerModel
    prompts: PromptBuilder
    window: WindowConfig
    gate_input: GateInput
    tokens_per_batch: int


@dataclass(frozen=True)
class Champion:
    """Loaded versions that belong together, with the settings that they were made with."""

    versions: Mapping[str, str]
    about: Mapping[str, Any]  # further information, such as its metrics and the decision that promoted it
    log: InteractionLog
    lens: Lens
    retriever: Retriever | None
    linear: LinearModel | None
    kind: CandidateKind
    order: CandidateOrder  # whether the lens reranks them
    stage: SecondStage  # second stage, if the `kind` is one of its orders
    table: pl.DataFrame | None  # candidates of users, for the kind `table`
    llm: Llm | None  # reranks the lens's shortlist on request; None refuses such requests
    ingestion: IngestionConfig
    recommendation: RecommendationConfig
    popularity: Popularity
    neighbours: ItemNeighboursConfig
    forgotten: ForgottenUsers = NOBODY
    alias: str | None = None  # version of the alias that named it, if any

    @property
    def name(self) -> str:
        """Newest of its versions, by which answers refer to it."""
        return max(self.versions.values(), default="unversioned")

    @property
    def listed_items(self) -> int:
        """Approximate number of items that the lens scores for a user without given candidates."""
        if self.kind in SOURCES:
            return self.recommendation.retrieved
        return self.recommendation.pool_items if self.kind == "popular_recent" else self.log.items.height

    @cached_property
    def item_index(self) -> ItemIndex | None:
        """Index of the retriever's items, if it finds candidates in a large catalogue."""
        reads_index = self.is_large and self.kind in READ_RETRIEVER
        return ItemIndex.of(self.retriever) if reads_index and self.retriever else None

    @property
    def is_large(self) -> bool:
        """Whether a source finds items without scores of all."""
        return self.kind in SOURCES and self.log.items.height > self.recommendation.exact_items

    @property
    def bytes(self) -> int:
        """Memory of its weights and its log's columns."""
        modules: list[Any] = [self.lens, self.retriever, None if self.llm is None else self.llm.model.model]
        weights = [weight for module in modules if module is not None for weight in module.state_dict().values()]
        columns = sum(column.nbytes for column in vars(self.log.sequences).values())
        return columns + sum(weight.numel() * weight.element_size() for weight in weights)


@dataclass
class Request:
    """One request, as input of the models."""

    rank: bool  # whether to recommend items, or to score the given ones
    user: str | None
    history: tuple[Event, ...] = ()
    items: np.ndarray | None = None  # indices of the candidates, or of the items to score; None to find candidates
    n: int = 0
    excluded: np.ndarray = field(default_factory=lambda: np.array([], dtype=np.int64))  # indices not to recommend
    allowed: np.ndarray | None = None  # whether each item may be recommended, shape (items,); None for all
    include_seen: bool = False  # whether items of the user's events may be recommended
    explain: bool = False
    model: ModelName = "lens"  # which one decides the order


@dataclass
class Answer:
    """Items and scores, best first if ranked; the scores of a fallback are None."""

    request: Request
    now: "Snapshot"  # what it is computed by
    user: int | None
    items: np.ndarray
    scores: np.ndarray | None = None
    fallback: Fallback | None = None
    because: list[dict[str, Any]] | None = None

    def keep_requested(self, by: np.ndarray) -> None:
        """Keep as many items as requested, by score and, with `recommendation.diversity`, by how unlike they are."""
        config, n, embeddings = self.now.champion.recommendation, self.request.n, self.now.log.item_embeddings
        if not config.diversity or embeddings is None:
            return self.keep_best(by, n)
        self.keep_best(by, len(by) if config.shortlist is None else max(config.shortlist, n))
        vectors, lengths = unit_vectors(embeddings[self.items])[None], np.array([len(self.items)])
        self._keep(marginal_relevance(vectors, lengths, np.array([config.diversity]), n)[0])

    def keep_best(self, by: np.ndarray, most: int) -> None:
        """Keep the items with the highest scores, the earlier ones among equals."""
        self._keep(np.argsort(-by, kind="stable")[:most])

    def _keep(self, order: np.ndarray) -> None:
        self.items, self.scores = self.items[order], None if self.scores is None else self.scores[order]
        self.because = None if self.because is None else [self.because[place] for place in order]

    def split(self, most: int) -> list[Self]:
        """Split into parts of at most `most` items each, still to be scored."""
        parts = np.split(self.items, range(most, len(self.items), most))
        return [replace(self, items=items, scores=None) for items in parts]

    def join(self, parts: Sequence[Self]) -> None:
        """Collect the scores and reasons of the parts from `split`, and rank the items if requested."""
        self.scores = np.concatenate([part.scores for part in parts if part.scores is not None])
        if self.request.explain:
            self.because = [reason for part in parts for reason in part.because or ()]
        if self.request.rank:
            self.keep_requested(self.scores)


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A champion with the log at a moment; `facts` are of the events that the champion was made with."""

    champion: Champion
    live: LiveLog
    current: CurrentLog
    lens: Lens
    reader: LensReader
    neighbours: ItemNeighbours
    retriever: RetrieverReader | None
    linear: LinearModel | None
    facts: ItemFacts

    @classmethod
    def take(cls, champion: Champion, live: LiveLog) -> Self:
        current = live.current()
        lens = grow_lens(champion.lens, current.log)
        reader = LensReader(lens, current.log, tabulate=True)
        neighbours = ItemNeighbours(current.log, champion.neighbours)
        retriever = champion.retriever and RetrieverReader(champion.retriever, current.log)
        linear = champion.linear and champion.linear.with_log(current.log)
        facts = ItemFacts(champion.log)
        return cls(champion, live, current, lens, reader, neighbours, retriever, linear, facts)

    def brought_up_to_date(self) -> Self:
        """Return the current snapshot from this one, the latest; this one if nothing has been added."""
        current = self.live.current()
        if current is self.current:
            return self
        if current.before is not self.log or current.log.users.height > self.log.users.height:
            return self.take(self.champion, self.live)
        return self._with_current(current, current.changed)

    def _with_current(self, current: CurrentLog, changed: np.ndarray | None = None) -> Self:
        """Return a copy with another log of the same users; `changed` users are counted by their events in it."""
        log = current.log
        return replace(
            self,
            current=current,
            reader=self.reader.with_log(log),
            neighbours=self.neighbours.with_log(log, changed),
            retriever=self.retriever and self.retriever.with_log(log),
            linear=self.linear and self.linear.with_log(log),
        )

    @property
    def log(self) -> InteractionLog:
        return self.current.log

    @cached_property
    def as_of(self) -> int:
        return self.log.last_second

    @cached_property
    def sources(self) -> FittedSources:
        return FittedSources(
            self.log,
            self.champion.popularity,
            self.neighbours,
            self.linear,
            self.retriever,
            self.facts,
            lens_scorer(self.reader),
            self.champion.stage,
        )

    @cached_property
    def source(self) -> Scorer:
        """Scorer that finds candidates, unless they are listed."""
        return self.sources.scorer(self.champion.kind)

    @cached_property
    def finder(self) -> Finder | None:
        """Finder of candidates in a large catalogue."""
        champion = self.champion
        if not champion.is_large:
            return None
        return self.sources.finder(champion.kind, self.sets.pool, champion.item_index)

    @cached_property
    def sets(self) -> CandidateSets:
        """Sets of items that each user may be recommended."""
        champion, log = self.champion, self.log
        sets = candidate_sets(log, champion.kind, champion.recommendation)
        if champion.table is not None:
            sets, _ = sets.with_table(champion.table, log.users.schema["user_id"], log.items["item_id"])
        return sets

    @cached_property
    def popularity_rank(self) -> np.ndarray:
        """Rank of each item by popularity among the candidates, shape (items,)."""
        rank = np.full(self.log.items.height, self.log.items.height)
        rank[self.sets.pool] = np.arange(len(self.sets.pool))
        return rank

    def listed(self, user: str | None) -> np.ndarray:
        """Return indices of the items that a user may be recommended, also seen ones, most popular first."""
        if self.sets.given is None:
            return self.sets.pool
        [typed] = pl.Series([user]).cast(self.live.user_type, strict=False)
        return self.sets.given.get(typed, self.sets.pool[:0])

    def lens_scores(self, pairs: pl.DataFrame) -> np.ndarray:
        """Return the lens's probabilities of a like, shape (pairs,)."""
        return lens_scores({"logit": self.reader.logits(pairs)})

    def with_visitor(self, history: Sequence[Event]) -> tuple[Self, int]:
        """Return a copy with a user whose events are not stored, and that user's index."""
        log, visitor = self.live.with_visitor(self.log, history)
        return self._with_current(self.current._replace(log=log)), visitor

    def gates_of(self, user: int) -> list[float] | None:
        """Return the gate weights of a user now; None if they depend on more than the user, or without gates."""
        llm = self.champion.llm
        if llm is None or llm.gate_input != "user" or not llm.model.has_gates:
            return None
        pair = self.log.now(pl.DataFrame({"user_index": [user], "item_index": [0]}, PAIR))
        weights = llm.model.method.gate_weights(llm.model.model, self.reader.states(pair)["user"].to(llm.model.device))
        return None if weights is None else _rounded(weights[0])

    def alike(self, item: int, most: int) -> list[tuple[int, float]]:
        """Return the items with the nearest vectors to an item's, and their cosines; none without vectors."""
        if self.log.item_embeddings is None:
            return []
        vectors = unit_vectors(self.log.item_embeddings)
        cosines = vectors @ vectors[item]
        order = np.argsort(-cosines, kind="stable")
        best = order[order != item][:most]
        return list(zip(best.tolist(), _rounded(cosines[best]), strict=True))

    def learned_from(self, user: int) -> bool:
        return bool(self.lens.user.id_codes[user] != UNKNOWN_ID)


def answer_by_lens(requests: Sequence[Request], now: Snapshot) -> list[Answer]:
    """Answer requests by the lens, or make shortlists for those that `answer_by_llm` reranks."""
    config, by_lens = now.champion.recommendation, now.champion.order == "lens"
    answers = [_with_candidates(request, now) for request in requests]
    open_ = [answer for answer in answers if answer.fallback is None]
    if now.champion.kind in SOURCES:
        ranked = [answer for answer in open_ if answer.request.rank and answer.request.items is None]
        exact = [answer for answer in ranked if _finder(answer.request, answer.now) is None]
        for answer, nearness in zip(exact, _scores(exact, lambda now: now.source), strict=True):
            answer.keep_best(nearness, max(config.retrieved, answer.request.n))
    for answer, scores in zip(open_, _scores(open_, lambda now: now.lens_scores), strict=True):
        answer.scores = scores
        if answer.request.rank:
            is_ordered = not by_lens and answer.request.items is None
            by = np.zeros(len(scores)) if is_ordered else scores
            if answer.request.model == "llm":
                answer.keep_best(by, len(by) if config.shortlist is None else max(config.shortlist, answer.request.n))
            else:
                answer.keep_requested(by)
        if answer.request.explain and answer.request.model == "lens":
            answer.because = _reasons(answer)
    return answers


@torch.inference_mode()
def answer_by_llm(answers: Sequence[Answer]) -> None:
    llm = answers[0].now.champion.llm
    assert llm is not None  # without one, requests for it are refused
    tables, states, row = list[pl.DataFrame](), list[GateInputs](), 0
    for place, answer in enumerate(answers):
        to_score = questions(_pairs([answer]).with_row_index("row", offset=row))
        records = prompt_records(to_score, answer.now.log, answer.now.log.histories(to_score, llm.window))
        prompts = llm.prompts.build(records).drop("row", "use", "label")
        tables.append(to_score.hstack(prompts).with_columns(answer=pl.lit(place)))
        states.append(gate_inputs(states_of_questions(answer.now.reader.states(to_score), to_score), llm.gate_input))
        row += to_score.height
    prompts = pl.concat(tables)
    inputs = GateInputs(
        torch.cat([each.rows for each in states]),
        llm.gate_input,
        torch.cat([each.values for each in states]),
        torch.cat([each.lens_logits for each in states]),
    )
    groups = prompts.select(pl.struct("answer", "dropped_history").rank("dense")).to_series().to_numpy()
    scores = score_candidates(llm.model, prompt_set(prompts, CANDIDATE, inputs), groups, llm.tokens_per_batch)
    mixes = llm.model.method.gate_weights(llm.model.model, inputs.values.to(llm.model.device))
    start = 0
    for answer in answers:
        rows = slice(start, start := start + len(answer.items))
        if answer.request.explain:
            answer.because = _reasons(answer)
            for reason, text, row in zip(
                answer.because, prompts["prompt"][rows], range(rows.start, start), strict=True
            ):
                reason |= {"prompt": text, "gates": None if mixes is None else _rounded(mixes[row])}
        answer.scores = scores[rows]


def _with_candidates(request: Request, now: Snapshot) -> Answer:
    """Select the items to score for a request, most popular first, or the best of them for a user without events.

    An unknown user of a scoring request has no index.
    """
    user: int | None
    if request.user is None:
        now, user = now.with_visitor(request.history) if request.history else (now, now.log.users.height - 1)
    else:
        user = now.current.users.get(request.user)
    if not request.rank:
        assert request.items is not None
        return Answer(request, now, user, request.items, fallback="unknown_user" if user is None else None)
    seen = now.sets.seen(user)
    if len(seen) and (finder := _finder(request, now)):
        moment = now.log.now(pl.DataFrame({"user_index": [user]}, {"user_index": pl.Int32}))
        [found] = finder.find(moment, max(now.champion.recommendation.retrieved, request.n), request.excluded)
        items = found[found != NO_ITEM].astype(np.int32)
        return Answer(request, now, user, items, fallback=None if len(items) else "no_candidates")
    items = now.listed(request.user) if request.items is None else request.items
    allowed = np.ones(now.log.items.height, dtype=bool) if request.allowed is None else request.allowed.copy()
    allowed[request.excluded] = False
    if not request.include_seen:
        allowed[seen] = False
    items = items[allowed[items]]
    if not len(items):
        return Answer(request, now, user, items, fallback="no_candidates")
    if not len(seen):
        by_popularity = np.argsort(now.popularity_rank[items], kind="stable")[: request.n]
        return Answer(
            request, now, user, items[by_popularity], fallback="unknown_user" if user is None else "no_events"
        )
    return Answer(request, now, user, items)


def _finder(request: Request, now: Snapshot) -> Finder | None:
    """Return the finder of candidates, if there is one and the request neither filters items nor wants seen ones."""
    return now.finder if request.items is None and request.allowed is None and not request.include_seen else None


def _scores(answers: Sequence[Answer], scorer_of: Callable[[Snapshot], Scorer]) -> Iterator[np.ndarray]:
    """Yield the scores of each answer's items; answers of one snapshot are scored together."""
    for now, group in groupby(answers, key=lambda answer: answer.now):
        together = list(group)
        ends = np.cumsum([len(answer.items) for answer in together])
        yield from np.split(scorer_of(now)(_pairs(together)), ends[:-1])


def _pairs(answers: Sequence[Answer]) -> pl.DataFrame:
    """Return the pairs of user and item of answers of one snapshot, at its moment."""
    users = np.array([answer.user for answer in answers], dtype=np.int32)
    items = np.concatenate([answer.items for answer in answers], dtype=np.int32, casting="same_kind")
    pairs = {"user_index": np.repeat(users, [len(answer.items) for answer in answers]), "item_index": items}
    return answers[0].now.log.now(pl.DataFrame(pairs))


def _reasons(answer: Answer) -> list[dict[str, Any]]:
    """Return reasons for each item: the user's events nearest to it, and its rating statistics."""
    now, pairs = answer.now, _pairs([answer])
    assert answer.user is not None  # nothing is scored for an unknown user
    statistics = now.reader.statistics(pairs).tolist()
    nearest = now.neighbours.reasons(answer.user, pairs["history_end"][0], answer.items, REASONS)
    return [
        {
            "neighbours": [
                {"item": item, "weight": weight} for item, weight in zip(items.tolist(), _rounded(weights), strict=True)
            ],
            "statistics": dict(zip(COLUMNS, _rounded(values), strict=False)),
        }
        for (items, weights), values in zip(nearest, statistics, strict=True)
    ]


def _rounded(values: Any) -> list[float]:
    return [round(float(value), 6) for value in values]
