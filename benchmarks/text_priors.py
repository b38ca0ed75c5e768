"""What texts are worth inside the linear model, by the encoder that reads them: docs/lab/text-priors.md.

    kedro run --env amazon-beauty --pipelines ingestion,history   # likewise for each environment
    python benchmarks/text_priors.py amazon-beauty movietweetings base

The stored log of each environment is read. As in `linear`, EASE stays near the weights of EASE on the items' vectors.
"""

import sys
from typing import Any, NamedTuple

import numpy as np
from results import publish
from running import Project, open_project
from scipy.stats import ttest_1samp

from reclora_kedro.candidates.ease import item_weights
from reclora_kedro.candidates.item_model import Training, choose_settings
from reclora_kedro.candidates.linear import EVENTS, WORDS_REGULARIZATION, Linear, LinearConfig, LinearSettings, Texts
from reclora_kedro.candidates.moments import ranks_of
from reclora_kedro.evaluation.bootstrap import holm
from reclora_kedro.evaluation.figures import empty_figure
from reclora_kedro.evaluation.metrics import ndcg
from reclora_kedro.history.fields import describe_items
from reclora_kedro.history.retrieval import unit_vectors
from reclora_kedro.history.taken_items import draw_positives
from reclora_kedro.llm.sentence_encoder import embed_texts

SEEDS, LIKES, K = (42, 7, 1), 2000, 10  # of the draws of likes, and length of lists
RARE = 5  # training events of an item, at most
REGULARIZATIONS = (0.3, 1.0, 3.0, 10.0, 30.0)  # of EASE on vectors; TF-IDF has the one of `linear`
TEXT_WEIGHTS = (0.4, 0.8)
CHOOSING_ITEMS = 3000
TFIDF, EXCHANGED, NO_TEXT = "TF-IDF", "TF-IDF, exchanged among items", "no text"


class Likes(NamedTuple):
    """Likes of a split with their moments."""

    moments: Any
    target: np.ndarray
    user: np.ndarray

    @classmethod
    def drawn(cls, training: Training, split: str, rows: int, seed: int) -> "Likes":
        return cls.of(training, draw_positives(training.log, split, None, rows, seed))

    @classmethod
    def of(cls, training: Training, likes: Any) -> "Likes":
        user = likes["user_index"].to_numpy()
        return cls(training.moments(likes), likes["item_index"].to_numpy(), user)

    def gains(self, weights: np.ndarray, recency: float) -> np.ndarray:
        """NDCG of each like by weights of items."""
        gains = np.empty(len(self.target))
        for rows, block in self.moments.blocks():
            scores = block.latest(EVENTS, recency) @ weights
            gains[rows] = ndcg(ranks_of(scores, block, self.target[rows]), K)
        return gains


def weights_of_vectors(vectors: np.ndarray, regularization: float) -> np.ndarray:
    """EASE of items on the columns of their dense vectors, (items, d), by the inverse of a (d, d) matrix (Woodbury)."""
    inner = np.linalg.inv(vectors.T @ vectors + regularization * np.eye(vectors.shape[1], dtype=np.float32))
    weights = (vectors @ inner.astype(np.float32)) @ vectors.T
    weights /= 1 - weights.diagonal()
    np.fill_diagonal(weights, 0)
    return weights


def priors(training: Training, dense: dict[str, np.ndarray], chosen: dict[str, float]) -> Any:
    """Yield the name of each encoder, and the weights of EASE on its vectors."""
    texts = Texts.from_log(training.log)
    assert texts is not None
    of_words = item_weights(texts.vectors[texts.of_item].T, WORDS_REGULARIZATION)
    yield TFIDF, of_words
    other = np.random.default_rng(0).permutation(training.items)
    yield EXCHANGED, of_words[np.ix_(other, other)]
    del of_words
    for name, vectors in dense.items():
        yield name, weights_of_vectors(vectors, chosen[name])


def embedded(project: Project, descriptions: list[str]) -> dict[str, np.ndarray]:
    """Centred vectors of unit length of each encoder of the project, (items, d)."""
    config = project.parameters["history"].item_embedding
    made = {}
    for name, entry in (("MiniLM", "sentence_encoder"), ("SmolLM2", "base_llm")):
        vectors = embed_texts(project.load(entry), descriptions, config.max_tokens, config.tokens_per_batch)
        made[name] = unit_vectors(vectors - vectors.mean(axis=0)).astype(np.float32)
    return made


def chosen_regularizations(
    training: Training, dense: dict[str, np.ndarray], settings: LinearSettings
) -> dict[str, float]:
    """The regularization of EASE on each encoder's vectors, by validation likes among the items with the most users."""
    kept = np.sort(training.order.items[:CHOOSING_ITEMS])
    likes = draw_positives(training.log, "validation", None, LIKES, SEEDS[0])
    among, few = training.among(kept, likes) if training.items > len(kept) else (training, likes)
    drawn = Likes.of(among, few)
    chosen = {}
    for name, vectors in dense.items():
        gains = []
        for regularization in REGULARIZATIONS:
            prior = np.float32(TEXT_WEIGHTS[-1]) * weights_of_vectors(vectors[kept], regularization)
            weights = item_weights(among.user_items, settings.regularization, prior)
            gains.append(drawn.gains(weights, settings.recency).mean())
        chosen[name] = REGULARIZATIONS[int(np.argmax(gains))]
    return chosen


def measure(environment: str) -> list[dict[str, Any]]:
    """The NDCG of each encoder on a log, and differences from TF-IDF, by groups of likes."""
    project = open_project(environment)
    training = Training.from_split(project.load("log_without_embeddings"))
    config = LinearConfig.model_validate(project.parameters["linear"])
    no_text = config.model_copy(update={"text_weights": ()})
    validation = draw_positives(training.log, "validation", None, LIKES, SEEDS[0])
    settings = choose_settings(Linear, training, no_text, validation)
    dense = embedded(project, describe_items(training.log.items))
    chosen = chosen_regularizations(training, dense, settings)
    print(environment, settings, chosen, flush=True)
    choosing = Likes.of(training, validation)
    tests = [Likes.drawn(training, "test", LIKES, seed) for seed in SEEDS]
    plain = item_weights(training.user_items, settings.regularization)
    gains = {NO_TEXT: [likes.gains(plain, settings.recency) for likes in tests]}
    for name, prior in priors(training, dense, chosen):
        added = item_weights(training.user_items, settings.regularization, prior) - plain  # linear in the text weight
        by_weight = {
            each: choosing.gains(plain + np.float32(each) * added, settings.recency).mean() for each in TEXT_WEIGHTS
        }
        best = max(by_weight, key=lambda each: by_weight[each])
        gains[name] = [likes.gains(plain + np.float32(best) * added, settings.recency) for likes in tests]
        print(environment, name, best, by_weight, np.mean(gains[name][0]), flush=True)
    events = np.bincount(training.log.sequences.item_index[training.is_training_event], minlength=training.items)
    rows = []
    for group, is_in in (
        ("all", lambda target: target >= 0),
        (f"at most {RARE}", lambda target: events[target] <= RARE),
    ):
        for name, of_draws in gains.items():
            own = [of_draw[is_in(likes.target)] for of_draw, likes in zip(of_draws, tests, strict=True)]
            difference = by_user(of_draws, gains[TFIDF], tests, is_in)
            rows.append(
                {"log": environment, "events": group, "texts": name, "likes": sum(map(len, own))}
                | {f"seed {seed}": float(each.mean()) for seed, each in zip(SEEDS, own, strict=True)}
                | {"less TF-IDF": float(difference.mean()), "p": p_value(difference)}
            )
    return rows


def by_user(gains: Any, others: Any, tests: list[Likes], is_in: Any) -> np.ndarray:
    """Mean difference of each user over the distinct likes of all draws."""
    likes = {}
    for of_draw, of_other, drawn in zip(gains, others, tests, strict=True):
        for gain, other, user, item, kept in zip(
            of_draw, of_other, drawn.user, drawn.target, is_in(drawn.target), strict=True
        ):
            if kept:
                likes[user, item] = gain - other
    users: dict[int, list[float]] = {}
    for (user, _), each in likes.items():
        users.setdefault(user, []).append(each)
    return np.array([np.mean(each) for each in users.values()])


def p_value(differences: np.ndarray) -> float | None:
    return float(ttest_1samp(differences, 0).pvalue) if np.ptp(differences) else None


def main() -> None:
    rows = [row for environment in sys.argv[1:] for row in measure(environment)]
    tested = [row for row in rows if row["p"] is not None]
    for row, adjusted in zip(tested, holm(np.array([row["p"] for row in tested])), strict=True):
        row["p, Holm"] = float(adjusted)
    names = [f"{row['log']}, {row['events']}, {row['texts']}" for row in rows]
    figure = (
        empty_figure()
        .add_bar(x=[row["less TF-IDF"] for row in rows], y=names, orientation="h")
        .update_layout(title=f"NDCG@{K} less that of TF-IDF")
    )
    publish("text_priors", {f"NDCG@{K} of test likes": rows}, figure, digits=4)


if __name__ == "__main__":
    main()
