"""Answers of a model on the current log; PyTorch is imported where a lens or an LLM answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import polars as pl

from reclora_kedro.candidates.item_model import Training
from reclora_kedro.candidates.moments import NO_ITEM, NOTHING, Nothing, why_empty
from reclora_kedro.history.fields import describe_items
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.questions import CANDIDATE, questions
from reclora_kedro.history.records import prompt_records
from reclora_kedro.history.retrieval import WindowConfig
from reclora_kedro.ingestion.config import IngestionConfig
from reclora_kedro.ingestion.entities import with_sent_items
from reclora_kedro.recommendation.chosen import Choice
from reclora_kedro.recommendation.config import SECOND_STAGES, RecommendationConfig
from reclora_kedro.recommendation.diversity import marginal_relevance
from reclora_kedro.recommendation.features import BEST_PER_SOURCE
from reclora_kedro.recommendation.recommender import FittedRecommender
from reclora_kedro.recommendation.rules import Rule
from reclora_kedro.serving.config import ModelName
from reclora_kedro.serving.journal_tables import Event
from reclora_kedro.serving.live_log import ALWAYS, CurrentLog, LiveLog
from reclora_kedro.update.updates import are_aged

if TYPE_CHECKING:
    from reclora_kedro.candidates.next_item.base import Retriever
    from reclora_kedro.lens.base import Lens
    from reclora_kedro.lens.config import GateInput
    from reclora_kedro.lens.states import LensReader
    from reclora_kedro.llm.answer_model import AnswerModel
    from reclora_kedro.llm.prompts import PromptBuilder

Fallback = Literal["unknown_user", "no_events"] | Nothing
SCALES = {
    "fusion": "weighted sum of the logarithms of ranks by all sources (mostly negative)",
    "ranker": "weighted sum of the logarithms of ranks by all sources, corrected by boosted trees (mostly negative)",
}
PAIR = {"user_index": pl.Int32, "item_index": pl.Int32}


@dataclass(frozen=True)
class Llm:
    """An LLM with an adapter, and the settings of its prompts."""

    model: AnswerModel
    prompts: PromptBuilder
    window: WindowConfig
    gate_input: GateInput
    tokens_per_batch: int


@dataclass(frozen=True)
class ServedModel:
    """Loaded versions that belong together, with the settings that they were made with."""

    versions: Mapping[str, str]
    about: Mapping[str, Any]  # further information, such as its metrics and the decision that promoted it
    lens: Lens | None  # scores given items and reorders lists; without one, lists are made all the same
    retriever: Retriever | None
    recommender: FittedRecommender  # fitted to all events of its log
    table: Mapping[str, np.ndarray] | None  # the only items of each user, by id; None for the whole catalogue
    llm: Future[Llm] | None  # reranks shortlists on request, which wait until it is loaded; None refuses such requests
    ingestion: IngestionConfig
    # Returns the vectors of items from texts, those before, and vectors of these; None where the log has no vectors.
    embed: Callable[[list[str], list[str], np.ndarray], np.ndarray] | None = None
    chosen_by: Hashable = None  # versions of the alias that named it and of the choice; another one takes its place

    @property
    def name(self) -> str:
        """Newest of its versions, by which answers refer to it, then that of the choice, which may be a newer one."""
        others = dict(self.versions)
        choice = others.pop("candidate_choice", None)
        newest = max(others.values(), default="unversioned")
        return newest if choice in (None, newest) else f"{newest}+{choice}"

    @property
    def log(self) -> InteractionLog:
        return self.recommender.log

    @property
    def recommendation(self) -> RecommendationConfig:
        return self.recommender.config

    @property
    def choice(self) -> Choice:
        return self.recommender.choice

    @property
    def listed_items(self) -> int:
        """Approximate number of items that are scored one by one for a list, unless these are given."""
        is_second_stage = self.choice.kind in SECOND_STAGES
        return self.recommendation.shortlist + is_second_stage * BEST_PER_SOURCE * len(self.recommender.sources)

    def with_items(self, rows: Sequence[tuple[str, str | None]]) -> Self:
        """Return the model that a run on the grown table of items would serve, where nothing was learned anew.

        The rows are of `item_values`. Without new items or texts it is this one: other values are those of `LiveLog`.
        """
        items = with_sent_items(self.log.items, rows)
        texts, before = describe_items(items), describe_items(self.log.items)
        if texts == before:
            return self
        log, retriever, reader = replace(self.log, items=items), self.retriever, None
        if log.item_embeddings is not None:
            assert self.embed is not None
            vectors = self.embed(texts, before, log.item_embeddings)
            log = log.with_embeddings(vectors, log.encoder_widths)
        if retriever is not None:
            from reclora_kedro.candidates.next_item.base import grow_retriever

            retriever = grow_retriever(retriever, log)
        if self.lens is not None:
            from reclora_kedro.lens.growth import grow_lens
            from reclora_kedro.lens.states import LensReader

            reader = LensReader(grow_lens(self.lens, log), log)
        training = Training.from_log(log, retriever=retriever, learned=self.recommender.learned())
        recommender = FittedRecommender.from_choice(training, self.choice, self.recommendation, reader)
        return replace(self, retriever=retriever, recommender=replace(recommender, lens=None))

    @cached_property
    def lengths(self) -> np.ndarray:
        """Lengths of the item vectors, shape (items,); 1 for zero vectors, whose cosines are zero."""
        vectors = self.log.item_embeddings
        assert vectors is not None  # else nothing asks for their lengths
        lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
        return np.where(lengths > 0, lengths, 1)

    @property
    def bytes(self) -> int:
        """Memory of its weights and its log's columns."""
        modules: list[Any] = [self.lens, self.retriever, None if self.llm is None else self.llm.result().model.model]
        weights = [weight for module in modules if module is not None for weight in module.state_dict().values()]
        return sum(each.nbytes for each in (*weights, *self.log.sequences.columns.values()))


@dataclass(frozen=True, eq=False)
class Request:
    """One request, as input of the models."""

    rank: bool  # whether to recommend items, or to score the given ones
    user: str | None
    history: tuple[Event, ...] = ()
    items: np.ndarray | None = None  # indices of the candidates, or of the items to score; None to find candidates
    n: int = 0
    excluded: np.ndarray = field(default_factory=lambda: NOTHING)  # indices not to recommend
    allowed: np.ndarray | None = None  # whether each item may be recommended, shape (items,); None for all
    rules: tuple[Rule, ...] | None = None  # of the list; None for those of the settings
    include_seen: bool = False  # whether items of the user's events may be recommended
    explain: bool = False
    model: ModelName = "lens"  # which one decides the order


@dataclass
class Answer:
    """Items and scores, best first if ranked; scores are None where nothing orders the items."""

    request: Request
    now: Snapshot  # what it is computed by
    user: int | None
    items: np.ndarray
    scores: np.ndarray | None = None
    rules: Sequence[str | None] = ()  # what has moved each item, under rules
    fallback: Fallback | None = None
    because: list[dict[str, Any]] | None = None  # why each item is in the answer, see `_reasons`

    @property
    def model(self) -> str:
        """The model that has ordered the items: the LLM, the lens, a source or a second stage."""
        choice = self.now.current_model.choice
        if self.request.model == "llm" and self.fallback is None:
            return "llm"
        if not self.request.rank:
            return "lens"
        if self.fallback in ("unknown_user", "no_events"):
            return "popularity"
        return "lens" if choice.order == "lens" else choice.kind

    @property
    def score_is(self) -> str | None:
        """What the scores are, in words; None if there are none."""
        if self.scores is None:
            return None
        if self.model in ("llm", "lens"):
            return "probability of a like"
        return f"{SCALES.get(self.model, f'score by {self.model}')}; the highest comes first"

    def split(self, limit: int) -> list[Self]:
        """Split into parts of at most `limit` items each, still to be scored."""
        parts = np.split(self.items, range(limit, len(self.items), limit))
        return [replace(self, items=items, scores=None) for items in parts]

    def join(self, parts: Sequence[Self]) -> None:
        """Collect the scores and reasons of the parts from `split`, and rank the items if requested."""
        self.scores = np.concatenate([part.scores for part in parts if part.scores is not None])
        if self.request.explain:
            self.because = [reason for part in parts for reason in part.because or ()]
        if self.request.rank:
            self._rank()

    def _rank(self) -> None:
        """Keep as many items as requested, by score and, with `recommendation.diversity`, by how unlike they are."""
        assert self.scores is not None  # they have just been collected
        config, n, embeddings = self.now.current_model.recommendation, self.request.n, self.now.log.item_embeddings
        self._keep(np.argsort(-self.scores, kind="stable"))
        if config.diversity and embeddings is not None:
            self._keep(marginal_relevance(self.items[None], embeddings, config.diversity, n)[0])
            self.scores = None
        else:
            self._keep(np.arange(min(n, len(self.items))))

    def _keep(self, order: np.ndarray) -> None:
        self.items, self.scores = self.items[order], None if self.scores is None else self.scores[order]
        self.because = None if self.because is None else [self.because[place] for place in order]


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A model with the log at a moment; facts of items are those of the events that it was made with."""

    current_model: ServedModel
    live: LiveLog
    current: CurrentLog
    lens: Lens | None
    reader: LensReader | None  # of the lens
    recommender: FittedRecommender  # reads the current log

    @classmethod
    def take(cls, current_model: ServedModel, live: LiveLog) -> Self:
        current, lens, reader = live.current(), current_model.lens, None
        if lens is not None:
            from reclora_kedro.lens.growth import grow_lens
            from reclora_kedro.lens.states import LensReader

            lens = grow_lens(lens, current.log)
            reader = LensReader(lens, current.log, tabulate=True).prepare()
        of_log = replace(current_model.recommender, lens=reader if current_model.choice.order == "lens" else None)
        return cls(current_model, live, current, lens, reader, of_log.with_log(current.log))

    def brought_up_to_date(self) -> Self:
        """Return the current snapshot from this one, the latest; this one if nothing has been added."""
        current = self.live.current()
        if current is self.current:
            return self
        is_read_anew = self.lens is not None and current.log.items is not self.log.items
        if is_read_anew or current.before is not self.log or current.log.users.height > self.log.users.height:
            return self.take(self.current_model, self.live)
        return self._with_current(current, current.changed)

    def _with_current(self, current: CurrentLog, changed: np.ndarray) -> Self:
        """Return a copy with another log of the same users; `changed` users are counted by their events in it."""
        recommender = self.recommender.with_log(current.log, changed)
        reader = None if self.reader is None else self.reader.with_log(current.log)
        return replace(self, current=current, reader=reader, recommender=recommender)

    @property
    def lens_reader(self) -> LensReader:
        """What reads the lens for answers that need one, which are refused where there is none."""
        assert self.reader is not None
        return self.reader

    @property
    def log(self) -> InteractionLog:
        return self.current.log

    @property
    def nobody(self) -> int:
        """Index of a user without events: the log has at least one spare row."""
        return self.log.users.height - 1

    def rules(self, request: Request) -> tuple[bool, np.ndarray | None]:
        """Return whether a list may have items that the user took, and the only items that it may have, if any."""
        only, table = request.items, self.current_model.table
        repeat = request.include_seen or self.current_model.recommendation.repeat
        if only is None and table is not None:
            only, repeat = table.get(str(request.user), NOTHING), True  # as in the lists of all users
        if request.allowed is not None:
            only = np.flatnonzero(request.allowed) if only is None else only[request.allowed[only]]
        return repeat, only

    def why_empty(self, request: Request) -> Nothing:
        _, candidates = self.rules(replace(request, allowed=None))
        config = self.recommender.config
        excluded = [config.under(request.rules).excluded(self.log.items), request.excluded]
        if request.allowed is not None:
            excluded.append(np.flatnonzero(~request.allowed))
        return why_empty(self.recommender.order.items if candidates is None else candidates, np.concatenate(excluded))

    def lens_scores(self, pairs: pl.DataFrame) -> np.ndarray:
        """Return the lens's probabilities of a like, shape (pairs,)."""
        from reclora_kedro.lens.states import lens_scores

        return lens_scores({"logit": self.lens_reader.logits(pairs)})

    def with_visitor(self, history: Sequence[Event]) -> tuple[Self, int]:
        """Return a copy with a user whose events are not stored, and that user's index."""
        log, visitor = self.live.with_visitor(self.log, history)
        return self._with_current(self.current._replace(log=log), NOTHING), visitor

    def gates_of(self, user: int) -> list[float] | None:
        """Return the gate weights of a user now; None if they depend on more than the user, or without gates.

        Until the LLM is loaded, there are none: nothing that can be answered without it waits for it.
        """
        loading = self.current_model.llm
        if loading is None or not loading.done():
            return None
        llm = loading.result()
        if llm.gate_input != "user" or not llm.model.has_gates:
            return None
        pair = self.log.now(pl.DataFrame({"user_index": [user], "item_index": [0]}, PAIR))
        states = self.lens_reader.states(pair)["user"].to(llm.model.device)
        weights = llm.model.method.gate_weights(llm.model.model, states)
        return None if weights is None else _rounded(weights[0])

    def alike(self, item: int, limit: int) -> list[tuple[int, float]]:
        """Return the items with the nearest vectors to an item's, and their cosines; none without vectors."""
        if (vectors := self.log.item_embeddings) is None:
            return []
        lengths = self.current_model.lengths
        cosines = vectors @ vectors[item] / (lengths * lengths[item])
        order = np.argsort(-cosines, kind="stable")
        best = order[order != item][:limit]
        return list(zip(best.tolist(), _rounded(cosines[best]), strict=True))


def answer_by_lens(requests: Sequence[Request], now: Snapshot) -> list[Answer]:
    """Answer requests by recommender and lens, or make shortlists for those that `answer_by_llm` reranks."""
    answers = [_opened(request, now) for request in requests]
    by_snapshot = defaultdict[Snapshot, list[Answer]](list)  # that of the log, and one per visitor
    for answer in answers:
        by_snapshot[answer.now].append(answer)
    for of_snapshot, together in by_snapshot.items():
        if ranked := [answer for answer in together if answer.request.rank]:
            _make_lists(of_snapshot, ranked)
        if scored := [answer for answer in together if not answer.request.rank and answer.fallback is None]:
            _score(of_snapshot, scored)
    for answer in answers:
        if answer.request.explain and answer.request.model == "lens" and answer.fallback is None:
            answer.because = _reasons(answer)
    return answers


def answer_by_llm(answers: Sequence[Answer]) -> None:
    import torch

    from reclora_kedro.gate_inputs import GateInputs
    from reclora_kedro.lens.states import gate_inputs, states_of_questions
    from reclora_kedro.llm.prompt_set import prompt_set
    from reclora_kedro.llm.shared_prefix import score_candidates

    loading = answers[0].now.current_model.llm
    assert loading is not None  # without one, requests for it are refused
    llm = loading.result()
    with torch.inference_mode():
        tables, states, row = list[pl.DataFrame](), list[GateInputs](), 0
        for place, answer in enumerate(answers):
            to_score = questions(_pairs([answer]).with_row_index("row", offset=row))
            records = prompt_records(to_score, answer.now.log, answer.now.log.histories(to_score, llm.window))
            prompts = llm.prompts.build(records).drop("row", "use", "label")
            tables.append(to_score.hstack(prompts).with_columns(answer=pl.lit(place)))
            states.append(
                gate_inputs(states_of_questions(answer.now.lens_reader.states(to_score), to_score), llm.gate_input)
            )
            row += to_score.height
        prompts = pl.concat(tables)
        rows, values, logits = (
            torch.cat([getattr(each, name) for each in states]) for name in ("rows", "values", "lens_logits")
        )
        inputs = GateInputs(rows, llm.gate_input, values, logits)
        groups = prompts.select(pl.struct("answer", "dropped_history").rank("dense")).to_series().to_numpy()
        scores = score_candidates(llm.model, prompt_set(prompts, CANDIDATE, inputs), groups, llm.tokens_per_batch)
        mixes = llm.model.method.gate_weights(llm.model.model, inputs.values.to(llm.model.device))
    start = 0
    for answer in answers:
        own = slice(start, start := start + len(answer.items))
        if answer.request.explain:
            answer.because = [
                reason | {"prompt": prompts["prompt"][row], "gates": None if mixes is None else _rounded(mixes[row])}
                for row, reason in enumerate(_reasons(answer), own.start)
            ]
        answer.scores = scores[own]


def _opened(request: Request, now: Snapshot) -> Answer:
    """Return an answer without items, or with those to score; an unknown user has no index."""
    user: int | None
    if request.user is None:
        now, user = now.with_visitor(request.history) if request.history else (now, now.nobody)
    else:
        user = now.current.users.get(request.user)
    items = NOTHING if request.rank or request.items is None else request.items
    fallback: Fallback | None = "unknown_user" if user is None else None
    if not request.rank and not len(items):
        fallback = "no_candidates"
    return Answer(request, now, user, items, fallback=fallback)


def _make_lists(now: Snapshot, answers: Sequence[Answer]) -> None:
    """Make the lists of requests, a row of the moments for each, whoever its user is."""
    together = defaultdict[Any, list[Answer]](list)  # a diverse list is chosen of those of one length
    for answer in answers:
        n = answer.request.n
        length = max(now.current_model.recommendation.shortlist, n)
        together[length, n, repr(answer.request.rules)].append(answer)
    for (length, n, _), alike in together.items():
        recommender = now.recommender.with_rules(alike[0].request.rules)
        users = [now.nobody if answer.user is None else answer.user for answer in alike]
        frame = now.log.now(pl.DataFrame({"user_index": users}, {"user_index": pl.Int32}))
        repeat, allowed = zip(*(now.rules(answer.request) for answer in alike), strict=True)
        excluded = [answer.request.excluded for answer in alike]
        moments = recommender.moments(frame, repeat=np.array(repeat), excluded=excluded, allowed=allowed)
        lists = recommender.best_lists(moments, length, n)
        for row, (answer, items, scores) in enumerate(zip(alike, lists.items, lists.scores, strict=True)):
            kept = np.flatnonzero(items != NO_ITEM)[: None if answer.request.model == "llm" else n]
            answer.items = items[kept]
            answer.scores = None if np.isnan(scores[kept]).all() else scores[kept]
            answer.rules = recommender.told_rules(lists.rules[row, kept]).to_list() if len(lists.rules) else ()
            if not len(kept):
                answer.fallback = now.why_empty(answer.request)
            elif answer.user is not None and not moments.has_events[row]:
                answer.fallback = "no_events"


def _score(now: Snapshot, answers: Sequence[Answer]) -> None:
    """Have the lens score the items of requests."""
    scores = now.lens_scores(_pairs(answers))
    ends = np.cumsum([len(answer.items) for answer in answers])
    for answer, own in zip(answers, np.split(scores, ends[:-1]), strict=True):
        answer.scores = own


def _pairs(answers: Sequence[Answer]) -> pl.DataFrame:
    """Return the pairs of user and item of answers of one snapshot, at its moment."""
    users = np.array([answer.user for answer in answers], dtype=np.int32)
    items = np.concatenate([answer.items for answer in answers], dtype=np.int32, casting="same_kind")
    pairs = {"user_index": np.repeat(users, [len(answer.items) for answer in answers]), "item_index": items}
    return answers[0].now.log.now(pl.DataFrame(pairs))


def _reasons(answer: Answer) -> list[dict[str, Any]]:
    """Return for each item the user's events nearest to it, its places in several sources, and counts of events."""
    now, pairs = answer.now, _pairs([answer])
    assert answer.user is not None  # nothing is scored for an unknown user
    moments = now.recommender.moments(pairs[:1])
    [nearest] = now.recommender.explain(moments, answer.items[None])
    ranks = now.recommender.reader.ranks(moments) if now.current_model.choice.kind in SECOND_STAGES else {}
    events = now.log.sequences
    own = events.label[events.starts[answer.user] : events.ends[answer.user]]
    of_user = {"user_ratings": len(own), "user_likes": int(own.sum())}
    return [
        {
            "neighbours": [
                now.live.item(near) | {"weight": weight}
                for near, weight in zip(items.tolist(), _rounded(weights), strict=True)
            ],
            "ranks": ranks.get(item, {}),
        }
        | _counts(now.log, item)
        | of_user
        for item, (items, weights) in zip(answer.items.tolist(), nearest, strict=True)
    ]


def _counts(log: InteractionLog, item: int) -> dict[str, int]:
    """Return how many events and likes a log has of an item, and how many of the events are of new accounts."""
    counts = np.zeros(3, dtype=np.int64)
    for part in log.sequences.by_item:
        [first], [end] = part.log.range_before(np.array([item]), np.array([ALWAYS]))
        rows = part.log.order[first:end]
        counts += part.sign * np.array([len(rows), part.label[rows].sum(), (~are_aged(log, part.user[rows])).sum()])
    return dict(zip(("item_ratings", "item_likes", "item_ratings_by_new_users"), counts.tolist(), strict=True))


def _rounded(values: Any) -> list[float]:
    return [round(float(value), 6) for value in values]
