"""A client of an OpenAI-compatible API for answers Yes or No to messages."""

import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from math import exp, log
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass as checked_dataclass

from kedro_provenance.files.digests import digest
from reclora_extras import install_line
from reclora_kedro.llm.prompts import PromptConfig
from reclora_kedro.parameters import Count, CountOrZero, Positive
from reclora_kedro.progress import Progress

if TYPE_CHECKING:
    from reclora_kedro.distributed.checkpoints import FinishedShards

USAGE = ("requests", "calls", "retries", "by_text", "unreadable", "prompt_tokens", "completion_tokens")
"""Names of what answers took, see `Answers`."""
LOGPROBS, TEXT, NOTHING = 0, 1, 2  # what an answer was read from
TEXT_LOGIT = log(0.9 / 0.1)
"""Logit of an answer that only its text tells: an API without log-probabilities says nothing of how sure it is."""
MAX_UNREADABLE = 0.1  # share of the answers that may be neither of the two words; each of them has the logit 0
MARKERS = " \n\u0120\u2581"  # white space, and what tokens of BPE and SentencePiece have in its place
RETRIES_OF_CHECK = 2
LEAST_PROBABILITY = 1e-9  # probability: APIs round theirs


@dataclass(frozen=True)
class Answers:
    """Answers of a black box to messages, and their cost."""

    logits: np.ndarray  # of the positive against the negative answer, shape (messages,)
    # Counts of the distinct messages: requests; calls (requests without a kept answer); retries; by_text and unreadable
    # answers; prompt_tokens and completion_tokens, as the API counts them.
    usage: dict[str, int]


@checked_dataclass(frozen=True, config=ConfigDict(hide_input_in_errors=True))  # which may be the key
class ChatApi:
    """A model of an OpenAI-compatible API, called concurrently; temporary failures are retried with growing pauses.

    `arguments` are further members of each request; `api_key` is None for an API without keys.
    """

    base_url: str
    model: str
    arguments: Mapping[str, Any]
    concurrency: Count
    timeout_seconds: Positive
    max_retries: CountOrZero
    api_key: str | None = field(default=None, repr=False)

    def require(self) -> None:
        """Make one small call, so that an unusable API is found before a run begins; errors are those of `ask`.

        ImportError is raised without the openai client.
        """
        check = replace(self, max_retries=min(self.max_retries, RETRIES_OF_CHECK))
        check._complete(check._client(), [{"role": "user", "content": "Answer Yes or No."}])

    def ask(self, texts: Sequence[str], step: str, config: PromptConfig, kept: "FinishedShards") -> Answers:
        """Return answers to texts, each the user's message in a chat of its own; equal texts are asked once.

        The configuration has the two answers, and the system message; an empty one is left out. Answers that are
        `kept`, by content, are not asked again, and new ones are added. OSError is raised if the API cannot be reached,
        or refuses the key, or an answer cannot be stored; ValueError if it refuses the model or the request, or more
        than `MAX_UNREADABLE` of the answers are neither of the two words; RuntimeError if it still fails after the
        retries, whose earlier answers are kept.
        """
        distinct, calls, unread = list(dict.fromkeys(texts)), list[int](), list[str]()
        system = [{"role": "system", "content": config.system_message}] if config.system_message else []
        chats = [[*system, {"role": "user", "content": text}] for text in distinct]

        def answer(client: Any, place: int) -> np.ndarray:
            choice, usage, retries = self._complete(client, chats[place])
            logit, read_from = read_answer(choice, config.positive_answer, config.negative_answer)
            if read_from == NOTHING:
                unread.append(choice.message.content or "")
            tokens = (usage.prompt_tokens, usage.completion_tokens) if usage else (0, 0)
            return np.array([logit, read_from, *tokens, retries])

        def call(places: Sequence[int]) -> Iterator[np.ndarray]:
            calls.extend(places)
            if not places:
                return
            with (
                self._client() as client,
                ThreadPoolExecutor(self.concurrency) as pool,
                Progress(step, len(places), "calls") as progress,
            ):
                for first in range(0, len(places), self.concurrency):  # what a failure loses is one such batch
                    for result in pool.map(partial(answer, client), places[first : first + self.concurrency]):
                        yield result
                        progress.update()

        words = (config.positive_answer, config.negative_answer)
        names = [digest([self.base_url, self.model, self.arguments, words, chat]) for chat in chats]
        by_text = {distinct[place]: result for place, result in kept.resume(names, call)}
        table = np.array(list(by_text.values())).reshape(len(distinct), 5)
        unreadable = int((table[:, 1] == NOTHING).sum())
        if unreadable > MAX_UNREADABLE * len(distinct):
            example = f"{words[1]}, such as {unread[0][:80]!r}" if unread else words[1]
            raise ValueError(
                f"{unreadable} of {len(distinct)} answers of {self.model} are neither {words[0]} nor {example}. "
                "Let the prompt's template request one of these words, or raise max_tokens among the `arguments` of "
                "black_box_llm for a model that thinks first."
            )
        *tokens, retries = table[:, 2:].sum(axis=0).astype(int).tolist()
        counts = (len(distinct), len(calls), retries, int((table[:, 1] == TEXT).sum()), unreadable, *tokens)
        return Answers(np.array([by_text[text][0] for text in texts]), dict(zip(USAGE, counts, strict=True)))

    def _client(self) -> Any:
        try:
            from openai import OpenAI
        except ImportError as error:
            raise ImportError(f"The openai client calls a black-box LLM: `{install_line('black-box')}`.") from error
        return OpenAI(
            base_url=self.base_url,
            api_key=self.api_key or "none",
            timeout=self.timeout_seconds,
            max_retries=self.max_retries,
        )

    def _complete(self, client: Any, messages: list[dict[str, str]]) -> tuple[Any, Any, int]:
        """Return the first choice, the usage or None, and the number of retries.

        Exceptions of the openai client are replaced, not chained, as they may quote the key.
        """
        from openai import APIConnectionError, APIStatusError, OpenAIError

        try:
            response = client.chat.completions.with_raw_response.create(
                model=self.model, messages=messages, extra_body=dict(self.arguments)
            )
            completion = response.parse()
            return completion.choices[0], completion.usage, response.retries_taken
        except APIConnectionError as error:
            cause = f"{error} {error.__cause__ or ''}".strip().rstrip(".")
            raise ConnectionError(
                f"{self.base_url} cannot be reached: {cause}. Check that base_url of the catalog entry black_box_llm "
                "is correct and that the server runs; a slow one needs a higher timeout_seconds or a lower concurrency."
            ) from None
        except APIStatusError as error:
            raise self._refusal(error.status_code, str(error)) from None
        except (OpenAIError, ValueError, TypeError, AttributeError, IndexError) as error:
            raise ValueError(
                f"{self.base_url} answers, but not as an OpenAI-compatible API does ({type(error).__name__}): correct "
                "base_url of the catalog entry black_box_llm, which usually ends in /v1."
            ) from None

    def _refusal(self, status: int, text: str) -> Exception:
        text = text.replace(self.api_key, "(the key)") if self.api_key else text
        if status in (401, 403):
            given = "the key is refused" if self.api_key else "no key is given"
            return PermissionError(
                f"{self.base_url} answers {status}: {given}. Write `black_box_llm: {{api_key: ...}}` to credentials.yml"
                " in conf/local or the run's environment, where ${oc.env:OPENAI_API_KEY} stands for a variable."
            )
        if status in (408, 409, 429) or status >= 500:
            return RuntimeError(
                f"{self.base_url} still answers {status} after {self.max_retries} retries: {text}. Earlier answers are "
                "kept: type the same command again, with a lower concurrency or a higher max_retries of black_box_llm."
            )
        return ValueError(
            f"{self.base_url} refuses a request to the model {self.model!r}: {text}. Correct `model` or `arguments` of "
            "the catalog entry black_box_llm; an API without log-probabilities takes no `logprobs` and `top_logprobs`."
        )


def read_answer(choice: Any, positive: str, negative: str) -> tuple[float, int]:
    """Return the logit of the positive against the negative answer, and its source.

    The probability of a word, in any case, is that of all its forms among the most likely first tokens. A word that is
    not among them has the least of their probabilities, or the remaining probability if that is less.

    Examples:
        >>> from types import SimpleNamespace as Reply
        >>> message = Reply(content="no, rather not")
        >>> logit, read_from = read_answer(Reply(logprobs=None, message=message), "Yes", "No")
        >>> round(logit, 3), read_from == TEXT
        (-2.197, True)
        >>> first = Reply(top_logprobs=[Reply(token=" Yes", logprob=log(0.6)), Reply(token="No", logprob=log(0.2))])
        >>> logit, read_from = read_answer(Reply(logprobs=Reply(content=[first]), message=message), "Yes", "No")
        >>> round(exp(logit), 3), read_from == LOGPROBS
        (3.0, True)
    """
    words = positive.casefold(), negative.casefold()
    top = choice.logprobs.content[0].top_logprobs if choice.logprobs and choice.logprobs.content else []
    tokens = [(each.token.strip(MARKERS).casefold(), exp(each.logprob)) for each in top]
    yes, no = (sum(share for token, share in tokens if token == word) for word in words)
    if yes or no:
        shares = [share for _, share in tokens]
        rest = max(min(*shares, 1 - sum(shares)), LEAST_PROBABILITY)
        return log(yes or rest) - log(no or rest), LOGPROBS
    first_word = re.match(r"\W*(\w+)", choice.message.content or "")
    word = first_word[1].casefold() if first_word else ""
    return (TEXT_LOGIT if word == words[0] else -TEXT_LOGIT, TEXT) if word in words else (0.0, NOTHING)
