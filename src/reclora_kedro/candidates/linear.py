"""A linear model of items taken together, items taken next, and similar texts."""

from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from itertools import product
from operator import matmul
from typing import Annotated, ClassVar, Self

import numpy as np
from pydantic import Field
from scipy.sparse import csr_array

from kedro_provenance.parameters import Block
from reclora_kedro.candidates import ease
from reclora_kedro.candidates.item_model import ItemModel, Step, Training
from reclora_kedro.candidates.moments import NOTHING, Moments, Scores
from reclora_kedro.candidates.sparse_ease import sparse_item_weights
from reclora_kedro.candidates.transitions import follows, transitions
from reclora_kedro.evaluation.styles import Style
from reclora_kedro.history.fields import describe_items
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.llm.item_vectors import tfidf_vectors
from reclora_kedro.parameters import Count, NonNegative, Positive, Real

EVENTS = 50  # latest ones of each user that count
WINDOW, WINDOW_DECAY = 5, 0.7  # moments from an item to one that follows it, and the weight of a further one
MOST_TAKEN = 3000  # items among which all but transitions is chosen in seconds
WORDS_REGULARIZATION = 10.0  # of EASE on the words of items
SPARSE = ("data", "indices", "indptr")  # arrays of a sparse matrix
KEPT_FROM = 5000  # items from which on learned weights are kept; those of fewer take seconds
UpToOne = Annotated[Positive, Field(le=1)]


class LinearConfig(Block):
    """Settings among which likes choose, and the largest catalogue for EASE in closed form."""

    regularizations: tuple[Positive, ...] = Field(min_length=1)
    recencies: tuple[UpToOne, ...] = Field(min_length=1)
    text_weights: tuple[UpToOne, ...]
    transition_weights: tuple[Positive, ...]
    max_items: Count


class LinearSettings(Block):
    """Settings of a linear model, see `Linear`."""

    regularization: Positive = 300.0
    recency: UpToOne = 0.9
    text_weight: Annotated[Real, Field(ge=0, le=1)] = 0.0
    transition_weight: NonNegative = 0.0
    directed: bool = False
    within_moments: bool = True
    max_items: Count = 20_000


@dataclass(frozen=True, eq=False)
class Texts:
    """TF-IDF vectors of the items' descriptions; equal descriptions have one."""

    vectors: csr_array  # vectors of length one, float32, shape (descriptions, words)
    of_item: np.ndarray  # the description of each item, shape (items,)

    @classmethod
    def from_log(cls, log: InteractionLog) -> Self | None:
        """Return the vectors of a log's items; None if their descriptions have too few words."""
        descriptions = describe_items(log.items)
        try:
            vectors = tfidf_vectors(descriptions)[0].astype(np.float32)
        except ValueError:
            return None
        number = {text: place for place, text in enumerate(dict.fromkeys(descriptions))}
        of_item = np.array([number[text] for text in descriptions])
        return cls(vectors[np.unique(of_item, return_index=True)[1]], of_item)


@dataclass(frozen=True, eq=False)
class Term:
    """Scores of weighted histories, (moments, items), by a matrix (items, items)."""

    weights: Scores


@dataclass(frozen=True, eq=False)
class Linear(ItemModel):
    """Scores of items that are linear in a user's latest events.

    With the user's events j_0, j_1, … from the latest one backwards, item i scores::

        sum over k of recency^k * (B[j_k, i] + transition_weight * T[j_k, i])

    where T are transitions, the greatest of each item, and B the weights of EASE, which regularization keeps near
    ``text_weight * S``: S are those of EASE on items' TF-IDF vectors, with words in place of users. With the weights
    lambda and gamma of L3AE (Moon et al., arXiv 2508.13500), regularization is lambda + gamma, and text_weight is gamma
    over it. Events of one second have the same weight.

    Above `max_items` items, where 4 bytes per pair of items would be too many, B and S are the greatest weights of the
    same regressions by blocks of items, see `sparse_item_weights`.
    """

    NOTE: ClassVar = (
        "a linear model of the user's latest events: EASE, regularised towards similar texts (above linear.max_items "
        "items, its greatest weights), and transitions, with settings chosen on validation likes"
    )
    LABEL: ClassVar = "taken together or next, or similar text"
    STYLE: ClassVar = Style("#B6992D", "cross", "dashdot")
    Config: ClassVar = LinearConfig
    Settings: ClassVar = LinearSettings

    settings: LinearSettings
    terms: tuple[tuple[float, Term], ...]  # each with its weight; EASE is the first
    digest: np.ndarray | None  # of what EASE learned from, if its weights are kept

    @classmethod
    def choices(cls, config: LinearConfig, training: Training) -> list[Step]:
        """Choose regularization and recency, and again with texts, among the items with the most users; transitions."""
        first = product(config.regularizations, config.recencies)
        sizes = {"max_items": config.max_items}
        steps = [Step([{"regularization": each, "recency": recency} | sizes for each, recency in first], MOST_TAKEN)]
        if _texts(training) is not None:
            pairs = product(config.text_weights, config.regularizations)
            with_texts = [{"text_weight": weight, "regularization": each} for weight, each in pairs]
            steps.append(Step([{}, *with_texts], MOST_TAKEN))
            steps.append(Step([{}, *({"recency": recency} for recency in config.recencies)], MOST_TAKEN))
        kinds = product((False, True), (False, True), config.transition_weights)
        names = ("directed", "within_moments", "transition_weight")
        steps.append(Step([{}, *(dict(zip(names, kind, strict=True)) for kind in kinds)]))
        return steps

    @classmethod
    def fit(cls, training: Training, settings: LinearSettings) -> Self:
        digest = None
        if training.items >= KEPT_FROM:
            key = ("digest", settings.regularization, settings.text_weight, settings.max_items)
            digest = training.once(key, lambda: _digest(training, settings, training.items))
        terms = [(1.0, _together(training, settings, digest))]
        if settings.transition_weight:
            terms.append((settings.transition_weight, _following(training, settings)))
        return cls(settings, tuple(terms), digest)

    def learned(self) -> dict[str, np.ndarray]:
        if self.digest is None:
            return {}
        ease = self.terms[0][1].weights
        parts = {"weights": ease} if isinstance(ease, np.ndarray) else {name: getattr(ease, name) for name in SPARSE}
        return {"digest": self.digest} | parts

    def scores(self, moments: Moments) -> Scores:
        histories = moments.latest(EVENTS, self.settings.recency)
        total: Scores | None = None
        for weight, term in self.terms:
            made = moments.once((term, self.settings.recency), partial(matmul, histories, term.weights))
            added = made if weight == 1 else np.float32(weight) * made
            if isinstance(total, np.ndarray) and not isinstance(added, np.ndarray):
                added = added.toarray()
            total = added if total is None else total + added
        assert total is not None  # there is always a first term
        return total


def _texts(training: Training) -> Texts | None:
    return training.once("texts", lambda: Texts.from_log(training.log))


def _together(training: Training, settings: LinearSettings, digest: np.ndarray | None) -> Term:
    is_large = training.items > settings.max_items
    key = ("ease", settings.regularization, settings.text_weight, is_large)

    def made() -> Term:
        learned = training.learned
        kept, weights = learned.get("linear/digest", NOTHING), learned.get("linear/weights")
        if digest is None or not np.array_equal(kept, digest):
            if digest is not None and weights is not None and not (settings.text_weight or is_large):
                new = training.items - len(weights)  # if nobody took the last items, their weights are 0
                if new > 0 and np.array_equal(kept, _digest(training, settings, len(weights))):
                    return Term(np.pad(weights, (0, new)))
            return Term(_ease(training, settings, is_large))
        if weights is not None:
            return Term(weights)
        return Term(csr_array(tuple(learned[f"linear/{name}"] for name in SPARSE), shape=(training.items,) * 2))

    return training.once(key, made)


def _digest(training: Training, settings: LinearSettings, items: int) -> np.ndarray:
    """Return a digest of all that EASE of a number of items learns from, uint8, shape (32,)."""
    named = (items, settings.regularization, settings.text_weight, settings.max_items)
    digest, matrices = blake2b(repr(named).encode(), digest_size=32), [training.user_items]
    if settings.text_weight and (texts := _texts(training)) is not None:
        matrices.append(texts.vectors)
        digest.update(texts.of_item.data)
    for part in (getattr(matrix, name) for matrix in matrices for name in SPARSE):
        digest.update(np.ascontiguousarray(part).data)
    return np.frombuffer(digest.digest(), dtype=np.uint8)


def _ease(training: Training, settings: LinearSettings, is_large: bool) -> Scores:
    texts = _texts(training) if settings.text_weight else None
    words = None if texts is None else texts.vectors[texts.of_item].T.tocsr()
    if not is_large:
        return _closed_form(training, settings, words)
    prior = None
    if words is not None:
        prior = sparse_item_weights(words, WORDS_REGULARIZATION)
        prior *= np.float32(settings.text_weight)
    return sparse_item_weights(training.user_items, settings.regularization, prior)


def _closed_form(training: Training, settings: LinearSettings, words: csr_array | None) -> np.ndarray:
    """Return EASE of all items; of few items, several settings are tried, and what they have in common is kept."""
    regularization, prior = settings.regularization, None
    if words is not None:
        of_words = training.once("of_words", lambda: ease.WordWeights.learned(words, WORDS_REGULARIZATION))
        prior = of_words * np.float32(settings.text_weight)

    def made() -> np.ndarray:
        return ease.inverse(training.user_items, regularization)

    inverse = training.once(("inverse", regularization), made).copy() if training.items <= MOST_TAKEN else made()
    return ease.weights_of_inverse(inverse, regularization, prior)


def _following(training: Training, settings: LinearSettings) -> Term:
    kind, log = (settings.directed, settings.within_moments), training.log

    def made() -> Term:
        found = training.once(
            "follows", lambda: follows(log.sequences, training.is_training_event, training.items, WINDOW, WINDOW_DECAY)
        )
        return Term(transitions(found, training.users, *kind))

    return training.once(("transitions", *kind), made)
