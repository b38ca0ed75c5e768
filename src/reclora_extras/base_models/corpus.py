"""Texts to pretrain an LLM on, chosen by their quality (data-centric pretraining, Ziya2: arXiv 2311.03301).

The texts are item descriptions and user histories of the training split, and further ones, such as those of other logs.
As in Ziya2's data factory, they are cleaned, scored by the base LLM's perplexity, filtered by rules, and deduplicated.
"""

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import polars as pl

from reclora_extras import install_line
from reclora_extras.base_models.config import CorpusConfig
from reclora_extras.base_models.tuning import losses_of_texts
from reclora_kedro.history.fields import describe_items
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.retrieval import WindowConfig
from reclora_kedro.history.sequences import user_of_events
from reclora_kedro.llm.language_model import LanguageModel
from reclora_kedro.llm.prompts import PromptConfig, plain_ids, without_year

# What is shorter or repeats itself more is no text in any language; of longer ones, perplexity tells more.
MIN_WORDS = 3
MAX_REPETITION = 0.8  # share of words that occur in the text before
DROPPED = 0.1  # share of texts, those of greatest perplexity: mostly broken ones
MAX_SIMILARITY = 0.8  # Jaccard similarity of triples of words: more is the same text, edited

PERMUTATIONS = 128  # hash functions of a MinHash: its estimate of a similarity has a standard deviation of at most 0.04
SEARCHED = 0.8
"""Share of `MAX_SIMILARITY` from which on texts are compared, as the index may miss those that just reach it."""

SHINGLE = 3  # words next to one another that are compared as one


ITEMS, HISTORIES, PROMPTS = "items", "histories", "prompts"
"""Sources of texts beside the further ones: of the log, and few-shot prompts with their answers."""

GENERAL_TEXTS = 64  # further texts that measure what an LLM forgets, and that it does not learn from


@dataclass(frozen=True)
class Corpus:
    """Texts to learn from, and others to measure perplexity."""

    sources: dict[str, list[str]]  # texts by source, in none of which a held-out item is named
    held_out: list[str]  # descriptions of the held-out items
    names: tuple[str, ...] = ()  # titles of these, without years
    general: tuple[str, ...] = ()  # texts that are about no item; none where `CorpusConfig.general` is None

    @property
    def texts(self) -> list[str]:
        """All texts of the log."""
        return self.sources[ITEMS] + self.sources[HISTORIES]


def tell_corpus(
    log: InteractionLog,
    config: CorpusConfig,
    prompt: PromptConfig,
    seed: int,
    further_texts: Mapping[str, str] = MappingProxyType({}),
) -> Corpus:
    """Return the texts of the training split, and the further ones that name no held-out item.

    Items without a training event are in no text. Further texts, by source, have an empty line between them. Errors are
    those of `held_out_items`.
    """
    events = np.flatnonzero(log.training_events())
    items = np.unique(log.sequences.item_index[events])
    held_out = np.random.default_rng(seed).permutation(items)[: held_out_items(log, config)]
    described = log.items[np.setdiff1d(items, held_out)]
    events = events[~np.isin(log.sequences.item_index[events], held_out)]
    histories = tell_histories(log, events, config.events_per_text, prompt)
    names = tuple(map(without_year, log.items["title"].gather(np.sort(held_out))))
    further = {name: text.split("\n\n") for name, text in further_texts.items()}
    general: list[str] = []
    if config.general is not None:
        texts = further[config.general]
        shuffled = [texts[place] for place in np.random.default_rng(seed).permutation(len(texts))]
        general, further[config.general] = shuffled[:GENERAL_TEXTS], shuffled[GENERAL_TEXTS:]
    return Corpus(
        {ITEMS: describe_items(described), HISTORIES: histories}
        | {name: without_names(texts, names) for name, texts in further.items()},
        describe_items(log.items[np.sort(held_out)]),
        names,
        tuple(general),
    )


def require_sources(config: CorpusConfig, further: Iterable[str]) -> None:
    """Raise ValueError for a source of texts that `further_texts` lacks."""
    known = {ITEMS, HISTORIES, PROMPTS, *further}
    named = [("stages", name) for stage in config.stages or () for name in stage.shares]
    named += [("general", config.general)] if config.general is not None else []
    for setting, name in named:
        if name not in known or (setting == "general" and name not in {*further}):
            raise ValueError(
                f"base_model.corpus.{setting} names {name}, but the catalog entry further_texts has "
                f"{', '.join(sorted(further)) or 'no texts'}: add a file of this name there, or name another source."
            )


def without_names(texts: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the texts that contain none of the names as whole words.

    Examples:
        >>> without_names(["Heat: Yes", "Heated: No"], ["Heat"])
        ['Heated: No']
    """
    if not names:
        return list(texts)
    named = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, names))})(?!\w)")
    return [text for text in texts if not named.search(text)]


def perplexities(llm: LanguageModel, corpus: Corpus, max_tokens: int, tokens_per_batch: int) -> dict[str, float]:
    """Return an LLM's perplexity of held-out item descriptions and, if there are any, general_perplexity of others."""
    measured = {}
    for name, texts in (("perplexity", corpus.held_out), ("general_perplexity", corpus.general)):
        if texts or name == "perplexity":
            token_ids = plain_ids(llm.tokenizer, [clean(text) for text in texts], max_tokens)
            predicted = np.array([max(0, len(ids) - 1) for ids in token_ids])
            losses = losses_of_texts(llm, token_ids, tokens_per_batch)
            measured[name] = math.exp(min(100, (losses * predicted).sum() / max(1, predicted.sum())))
    return measured


def held_out_items(log: InteractionLog, config: CorpusConfig) -> int:
    """Return the number of items in no text; raise ValueError if that is none or all."""
    items = len(np.unique(log.sequences.item_index[log.training_events()]))
    count = round(config.held_out_items * items)
    if not 0 < count < items:
        raise ValueError(
            f"base_model.corpus.held_out_items is {config.held_out_items:g} of {items} items with training events, "
            f"which holds out {count}: it must hold out at least one and leave at least one."
        )
    return count


def tell_histories(log: InteractionLog, events: np.ndarray, events_per_text: int, prompt: PromptConfig) -> list[str]:
    """Return histories as texts, see `tell`, with each user's events in the order of time."""
    items, labels = log.sequences.item_index[events], log.sequences.label[events]
    told = tell(log, items, labels, prompt)
    lines = pl.DataFrame({"user": user_of_events(log.sequences.offsets)[events], "line": told})
    place = pl.int_range(pl.len()).over("user") // events_per_text
    texts = lines.group_by("user", place.alias("part"), maintain_order=True).agg(pl.col("line").str.join("\n"))
    return texts["line"].to_list()


def tell(log: InteractionLog, items: np.ndarray, labels: np.ndarray, prompt: PromptConfig) -> list[str]:
    """Return a line per event: the item's title, and the answer of a prompt for its label."""
    answers, titles = (prompt.negative_answer, prompt.positive_answer), log.items["title"].gather(items)
    return [f"{without_year(title)}: {answers[label]}" for title, label in zip(titles, labels, strict=True)]


def tell_samples(log: InteractionLog, samples: pl.DataFrame, events: int, prompt: PromptConfig) -> list[str]:
    """Return samples as texts: a line for each of the last events before, then one for the sample."""
    histories = log.histories(samples, WindowConfig(kind="recent", k=events))
    seen = np.unique(histories[histories >= 0])
    told = tell(log, log.sequences.item_index[seen], log.sequences.label[seen], prompt)
    lines = dict(zip(seen.tolist(), told, strict=True))
    endings = tell(log, samples["item_index"].to_numpy(), samples["label"].to_numpy(), prompt)
    pasts = ([lines[event] for event in past if event >= 0] for past in histories.tolist())
    return ["\n".join([*past, last]) for past, last in zip(pasts, endings, strict=True)]


def clean(text: str) -> str:
    r"""Return a text in Unicode's composed form, with control characters removed and runs of spaces as one.

    Examples:
        >>> clean("Ame\u0301lie  film\x00\n\n  Heat ")
        'Amélie film\nHeat'
    """
    lines = unicodedata.normalize("NFC", text).splitlines()
    printable = ("".join(c for c in line if c.isprintable() or c == "\t") for line in lines)
    return "\n".join(line for line in (" ".join(line.split()) for line in printable) if line)


def choose_by_quality(
    llm: LanguageModel, texts: Sequence[str], max_tokens: int, tokens_per_batch: int
) -> tuple[np.ndarray, dict[str, int]]:
    """Return places of the texts that pass the filters, by rising perplexity, and the number left by each filter.

    The filters are drawn, cleaned (neither empty nor repeated), not_perplexing, by_rules and without_near_duplicates.
    ImportError is raised without datasketch.
    """
    cleaned = [clean(text) for text in texts]
    first = {text: place for place, text in reversed(list(enumerate(cleaned))) if text}
    places = np.array(sorted(first.values()), dtype=np.int64)
    counts = {"drawn": len(texts), "cleaned": len(places)}
    token_ids = plain_ids(llm.tokenizer, [cleaned[place] for place in places], max_tokens)
    perplexing = losses_of_texts(llm, token_ids, tokens_per_batch)
    kept = np.argsort(perplexing, kind="stable")[: len(places) - int(DROPPED * len(places))]
    places = places[kept]
    counts["not_perplexing"] = len(places)
    places = places[[follows_rules(cleaned[place]) for place in places]]
    counts["by_rules"] = len(places)
    places = places[distinct([cleaned[place] for place in places])]
    counts["without_near_duplicates"] = len(places)
    return places, counts


def follows_rules(text: str) -> bool:
    """Return whether a text has enough words and few enough repeated ones.

    Examples:
        >>> [follows_rules(text) for text in ("Heat", "Heat of the night", "Heat heat heat heat heat heat")]
        [False, True, False]
    """
    words = text.lower().split()
    return len(words) >= MIN_WORDS and 1 - len(set(words)) / len(words) <= MAX_REPETITION


def distinct(texts: Sequence[str]) -> list[int]:
    """Return places of texts that differ from all kept before: Jaccard similarity of shingles, by MinHash.

    ImportError is raised without datasketch.

    Examples:
        >>> distinct(["the heat of the night", "The heat  of the night", "a night at the opera"])
        [0, 2]
    """
    try:
        from datasketch import MinHash, MinHashLSH
    except ImportError as error:
        raise ImportError(
            f"Choosing texts by quality needs datasketch: `{install_line('pretraining')}`, or set "
            "base_model.corpus.selection and few_shot.selection to uniform."
        ) from error
    signatures = list(MinHash.bulk(map(shingles_of, texts), num_perm=PERMUTATIONS))
    index, kept = MinHashLSH(threshold=SEARCHED * MAX_SIMILARITY, num_perm=PERMUTATIONS), list[int]()
    for place, signature in enumerate(signatures):
        if all(signatures[other].jaccard(signature) <= MAX_SIMILARITY for other in index.query(signature)):
            index.insert(place, signature)
            kept.append(place)
    return kept


def shingles_of(text: str) -> list[bytes]:
    """Return each sequence of three words in a text, or a shorter text as a whole, in lower case."""
    words = text.lower().split()
    return [" ".join(words[i : i + SHINGLE]).encode() for i in range(max(1, len(words) - SHINGLE + 1))]
