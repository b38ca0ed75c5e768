"""Knowledge for a black box by a small language model of the domain (BLADE, Li et al. 2024, arXiv 2403.18365).

The small model, pretrained on texts of the domain, is tuned to write the hints that helped the black box. Then Bayesian
optimisation of the black box's AUC with this knowledge finds a soft prompt for the small model's questions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import polars as pl
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn import functional

from reclora_extras.base_models.config import TuningConfig
from reclora_extras.base_models.tuning import Losses, tune
from reclora_extras.black_box.asking import AskApi, answers_of, cost, load_optuna, with_hints_of_others
from reclora_extras.black_box.config import BlackBoxConfig
from reclora_extras.black_box.hints import HintedQuestion, MessageWriter
from reclora_kedro.llm.batching import pad_right
from reclora_kedro.llm.language_model import LanguageModel
from reclora_kedro.llm.prompts import plain_ids
from reclora_kedro.progress import Progress

KNOWLEDGE = {"knowledge": "{{ knowledge }}\n\n{{ prompt }}"}  # template of a message with what the small model wrote
WITH_KNOWLEDGE = {"template": "knowledge"}
SOFT_TOKENS = 5  # embeddings before a question
DIMENSIONS = 8  # random directions: few, as a Gaussian process of a dozen trials tells no more apart
RADIUS = 3.0  # greatest distance along each: three standard deviations of an embedding
MAX_TOKENS = 24  # that it writes, about one sentence
RANDOM_TRIALS = 5
"""Trials of the soft prompt before those that a Gaussian process suggests; the first one has none of its directions."""


def choose_lessons(
    ask_api: AskApi, records: Sequence[HintedQuestion], writer: MessageWriter, config: BlackBoxConfig
) -> tuple[list[tuple[str, str]], dict[str, float]]:
    """Try every hint with every question of few-shot rows, and keep that with the likeliest true answer, if any helps.

    It returns the lessons, a question and its knowledge each; and rows, lessons and the fields of `cost`. ValueError is
    raised if no hint helps with any question.
    """
    options = [dict(zip(config.choices, values, strict=True)) for values in product(*config.choices.values())]
    questions = writer.write(records, None)
    messages = [questions, *(writer.write(records, each) for each in options)]
    answers = ask_api([text for texts in messages for text in texts], "ask with hints")
    signs = 2 * np.array([record["label"] for record in records]) - 1
    right = answers.logits.reshape(len(messages), -1) * signs  # logits of the true answers
    best, places = right[1:].argmax(axis=0), np.flatnonzero(right[1:].max(axis=0) > right[0]).tolist()
    if not places:
        raise ValueError(
            f"None of the hints makes the true answer to any of {len(records)} questions likelier, so there is no "
            "knowledge to learn: raise black_box.knowledge.rows, or name other templates in black_box.hints."
        )
    lessons = [(questions[place], writer.hint(records[place], options[best[place]])) for place in places]
    return lessons, {"rows": len(records), "lessons": len(places)} | cost(answers, config.price)


def teach(
    llm: LanguageModel, lessons: list[tuple[str, str]], config: TuningConfig, tokens_per_batch: int, seed: int
) -> tuple[LanguageModel, dict[str, float]]:
    """Tune a small model to write the knowledge of each question, see `tune`."""
    questions = question_ids(llm, [question for question, _ in lessons])
    written = plain_ids(llm.tokenizer, [knowledge for _, knowledge in lessons])
    token_ids = [[*before, *ids, llm.tokenizer.eos_token_id] for before, ids in zip(questions, written, strict=True)]
    lengths = np.array([len(ids) for ids in token_ids])
    losses = writing_losses(token_ids, np.array([len(ids) for ids in questions]))
    return tune(llm, lengths, losses, config, tokens_per_batch, seed)


def question_ids(llm: LanguageModel, questions: list[str]) -> list[list[int]]:
    """Return the tokens of questions, and of the line break before the knowledge."""
    return plain_ids(llm.tokenizer, [f"{text}\n" for text in questions])


def writing_losses(token_ids: list[list[int]], starts: np.ndarray) -> Losses:
    """Return the mean cross entropy of each text's tokens from its start on, in nats.

    A start is the number of tokens before the knowledge, at least one, shape (texts,).
    """

    def losses(llm: LanguageModel, rows: np.ndarray) -> Tensor:
        ids, last = pad_right([token_ids[row] for row in rows], llm.device)
        logits = llm.model(input_ids=ids, use_cache=False).logits[:, :-1].float()
        each = functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
        places = torch.arange(each.shape[1], device=each.device)
        written = (places >= torch.from_numpy(starts[rows]).to(last)[:, None] - 1) & (places < last[:, None])
        return (each * written).sum(1) / written.sum(1)

    return losses


@dataclass(frozen=True)
class SoftPrompt:
    """Embeddings before a question, in a random subspace of few dimensions (Sun et al. 2022, arXiv 2201.03514).

    ``p(z) = p_0 + z A``: ``p_0`` is the mean embedding of the vocabulary in each place, and ``A`` is drawn once from a
    normal distribution with the embeddings' standard deviation, by the root of the dimensions.
    """

    origin: Tensor  # p_0, shape (tokens, hidden)
    directions: Tensor  # A, shape (dimensions, tokens, hidden)

    @classmethod
    def drawn(cls, llm: LanguageModel, tokens: int, dimensions: int, seed: int) -> "SoftPrompt":
        """Draw a subspace of the LLM's embeddings."""
        vocabulary = llm.model.get_input_embeddings().weight.detach().float()
        shape, random = (dimensions, tokens, vocabulary.shape[1]), torch.Generator().manual_seed(seed)
        directions = torch.randn(shape, generator=random).to(vocabulary) * vocabulary.std() / dimensions**0.5
        return cls(vocabulary.mean(0).repeat(tokens, 1), directions)

    def at(self, z: Sequence[float]) -> Tensor:
        """Return the embeddings p(z), shape (tokens, hidden)."""
        return self.origin + torch.tensordot(torch.tensor(z).to(self.origin), self.directions, 1)


@torch.inference_mode()
def write_knowledge(llm: LanguageModel, soft_prompt: Tensor, questions: list[str], max_tokens: int) -> list[str]:
    """Write knowledge for each question with the small model, greedily, up to its end or a line break."""
    embed, written = llm.model.get_input_embeddings(), dict[str, str]()
    distinct = list(dict.fromkeys(questions))
    with Progress("write knowledge", len(distinct), "questions") as progress:
        for text, ids in zip(distinct, question_ids(llm, distinct), strict=True):
            of_question = embed(torch.tensor(ids, device=llm.device))
            inputs = torch.cat([soft_prompt.to(of_question), of_question])[None]
            tokens = llm.model.generate(
                inputs_embeds=inputs,
                attention_mask=torch.ones(inputs.shape[:2], dtype=torch.long, device=llm.device),
                max_new_tokens=max_tokens,
                do_sample=False,
                pad_token_id=llm.tokenizer.eos_token_id,
            )[0]
            lines = llm.tokenizer.decode(tokens, skip_special_tokens=True).strip().splitlines()
            written[text] = lines[0].strip() if lines else ""
            progress.update()
    return [written[text] for text in questions]


def answer_with_knowledge(
    ask_api: AskApi,
    records: Sequence[HintedQuestion],
    writer: MessageWriter,
    llm: LanguageModel,
    config: BlackBoxConfig,
) -> tuple[list[dict[str, Any]], pl.DataFrame, list[dict[str, Any]]]:
    """Find the soft prompt on the validation rows, then answer the test rows with the small model's knowledge.

    The writer has the template of `KNOWLEDGE`. The trials are those of `search_soft_prompt`, and the results those of
    `reclora_extras.black_box.asking.ask` for two models: black_box_with_knowledge, and black_box_shuffled_knowledge
    with that of another row: the null control.
    """
    validation, test = ([record for record in records if record["use"] == use] for use in ("validation", "test"))
    soft = SoftPrompt.drawn(llm, SOFT_TOKENS, DIMENSIONS, config.seed)

    def informed(rows: Sequence[HintedQuestion], z: Sequence[float]) -> list[HintedQuestion]:
        questions = writer.write(rows, None)
        texts = write_knowledge(llm, soft.at(z), questions, MAX_TOKENS)
        return [row | {"hint": row["hint"] | {"knowledge": text}} for row, text in zip(rows, texts, strict=True)]

    trials = search_soft_prompt(ask_api, lambda z: informed(validation, z), writer, config)
    best = max(trials, key=lambda trial: trial["auc"])
    own = informed(test, best["z"])
    requests = {
        "black_box_with_knowledge": (own, WITH_KNOWLEDGE),
        "black_box_shuffled_knowledge": (with_hints_of_others(own, config.seed), WITH_KNOWLEDGE),
    }
    return trials, *answers_of(requests, ask_api, writer, config.price)


def search_soft_prompt(
    ask_api: AskApi,
    informed: Callable[[Sequence[float]], list[HintedQuestion]],
    writer: MessageWriter,
    config: BlackBoxConfig,
) -> list[dict[str, Any]]:
    """Try soft prompts within the budget of calls; return z, auc, an example of knowledge, and `cost` of each trial.

    A Gaussian process models the AUC of the black box's answers over z; each next trial has the greatest expected
    improvement (Bayesian optimisation, by Optuna). `informed` returns validation rows with the small model's knowledge
    for a z. ImportError is raised without Optuna, ValueError for a budget smaller than one trial.
    """
    settings = config.knowledge
    assert settings is not None
    optuna = load_optuna()
    sampler = optuna.samplers.GPSampler(seed=config.seed, n_startup_trials=RANDOM_TRIALS)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    names = [f"z{place}" for place in range(DIMENSIONS)]
    study.enqueue_trial(dict.fromkeys(names, 0.0))
    tried, trials = set[str](), list[dict[str, Any]]()
    for number in range(1, settings.trials + 1):
        suggested = study.ask()
        z = [suggested.suggest_float(name, -RADIUS, RADIUS) for name in names]
        rows = informed(z)
        messages = writer.write(rows, WITH_KNOWLEDGE)
        if len(tried.union(messages)) > settings.calls:
            break
        tried.update(messages)
        answers = ask_api(messages, "search a soft prompt")
        auc = float(roc_auc_score([row["label"] for row in rows], answers.logits))
        study.tell(suggested, auc)
        example = rows[0]["hint"]["knowledge"]
        trials.append({"trial": number, "z": z, "auc": auc, "example": example, **cost(answers, config.price)})
    if not trials:
        raise ValueError(
            f"black_box.knowledge.calls is {settings.calls}, less than one trial takes: raise it, or lower "
            "black_box.search.rows."
        )
    return trials
