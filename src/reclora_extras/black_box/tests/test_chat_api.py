"""A black box behind an API that fails, is slow, or tells little."""

import logging
import math
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from reclora_extras.black_box.chat_api import LOGPROBS, NOTHING, TEXT_LOGIT, ChatApi, read_answer
from reclora_kedro.distributed.checkpoints import FinishedShards
from scripted_chat import ARGUMENTS, completion, scripted_chat

WORDS = SimpleNamespace(positive_answer="Yes", negative_answer="No", system_message="")
KEY = "sk-a-secret-key"


def api(address, **changes):
    settings = {"model": "m", "arguments": ARGUMENTS, "concurrency": 3, "timeout_seconds": 10, "max_retries": 3}
    return ChatApi(address, **settings | {"api_key": KEY} | changes)


def by_text(request, _):
    """The digit that ends a message is the probability of a Yes, in tenths."""
    share = int(request["messages"][-1]["content"][-1]) / 10
    return 200, completion(shares={"Yes": share, "No": 1 - share})


def ask(address, texts, folder, config=WORDS, **changes):
    return api(address, **changes).ask(texts, "ask", config, FinishedShards(folder, "answers"))


def test_equal_texts_are_asked_once_and_answers_are_kept_by_content(tmp_path):
    texts = ["c 9", "a 1", "b 5", "a 1"]
    with scripted_chat(by_text) as (address, requests):
        answers = ask(address, texts, tmp_path)
        assert np.allclose(answers.logits, [math.log(9), -math.log(9), 0, -math.log(9)])
        assert sorted(each["messages"][0]["content"] for each in requests) == ["a 1", "b 5", "c 9"]
        assert answers.usage == {
            "requests": 3,
            "calls": 3,
            "retries": 0,
            "by_text": 0,
            "unreadable": 0,
            "prompt_tokens": 21,
            "completion_tokens": 3,
        }
        again = ask(address, [*texts, "d 2"], tmp_path)
        assert again.usage["calls"] == 1
        assert np.array_equal(again.logits[:4], answers.logits)
        assert ask(address, ["a 1"], tmp_path, model="other").usage["calls"] == 1
        assert ask(address, ["a 1"], tmp_path, arguments=ARGUMENTS | {"seed": 1}).usage["calls"] == 1
    assert {name: requests[0][name] for name in ARGUMENTS} == ARGUMENTS
    assert requests[0]["key"] == f"Bearer {KEY}"


def test_a_message_of_the_system_comes_first(tmp_path):
    config = SimpleNamespace(**vars(WORDS) | {"system_message": "Be brief."})
    with scripted_chat(by_text) as (address, requests):
        ask(address, ["a 1"], tmp_path, config)
    assert [each["role"] for each in requests[0]["messages"]] == ["system", "user"]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_fails_for_a_while_is_asked_again(tmp_path, status):
    def failing(request, time):
        return by_text(request, time) if time > 2 else (status, {"error": {"message": "later"}})

    with scripted_chat(failing) as (address, requests):
        answers = ask(address, ["a 1", "b 9"], tmp_path)
    assert answers.usage["retries"] == 4
    assert len(requests) == 6
    assert np.allclose(answers.logits, [-math.log(9), math.log(9)])


def test_what_goes_on_failing_is_an_error_and_earlier_answers_stay(tmp_path):
    texts = [f"{letter} 3" for letter in "abcdefgh"]

    def failing(request, time):
        broken = request["messages"][-1]["content"] == "d 3" and time <= 4
        return (429, {"error": {"message": "no credit"}}) if broken else by_text(request, time)

    with scripted_chat(failing) as (address, _):
        with pytest.raises(RuntimeError, match=r"still answers 429 after 3 retries: .*no credit.* kept: type the same"):
            ask(address, texts, tmp_path)
        assert ask(address, texts, tmp_path).usage["calls"] <= len(texts) - 3


def test_a_call_that_takes_too_long_is_an_error(tmp_path):
    def slow(request, number):
        time.sleep(0.3)
        return by_text(request, number)

    with scripted_chat(slow) as (address, requests):
        with pytest.raises(ConnectionError, match=r"cannot be reached: Request timed out.*timeout_seconds"):
            ask(address, ["a 1"], tmp_path, timeout_seconds=0.05, max_retries=0)
        assert len(requests) == 1


def test_an_address_where_nobody_answers_is_refused():
    with pytest.raises(ConnectionError, match=r"http://127.0.0.1:9/v1 cannot be reached.*base_url"):
        api("http://127.0.0.1:9/v1", max_retries=0).require()


def test_the_check_before_a_run_tells_how_often_it_tried():
    with scripted_chat(lambda *_: (503, {"error": {"message": "busy"}})) as (address, requests):
        with pytest.raises(RuntimeError, match=r"still answers 503 after 2 retries"):
            api(address, max_retries=6).require()
        assert len(requests) == 3


@pytest.mark.parametrize(("name", "value"), [("concurrency", 0), ("timeout_seconds", 0), ("max_retries", -1)])
def test_calls_that_cannot_be_made_are_refused_when_the_api_is_loaded(name, value):
    with pytest.raises(ValueError, match=rf"ChatApi\n{name}\n.*greater than"):
        api("http://127.0.0.1:9/v1", **{name: value})
    with pytest.raises(ValueError, match="api_key") as raised:
        api("http://127.0.0.1:9/v1", api_key=1234567)  # as YAML reads digits
    assert "1234567" not in str(raised.value)


def test_without_the_client_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ImportError, match=r"pip install .openai"):
        api("http://127.0.0.1:9/v1").require()


def test_an_address_of_a_page_is_refused():
    with scripted_chat(lambda *_: (200, "<html>")) as (address, _), pytest.raises(ValueError, match=r"ends in /v1"):
        api(address).require()


@pytest.mark.parametrize(
    ("key", "status", "error", "words"),
    [
        (KEY, 401, PermissionError, "the key is refused.*credentials.yml"),
        (None, 401, PermissionError, "no key is given.*api_key"),
        (KEY, 404, ValueError, r"refuses a request to the model 'm': .*no such thing as \(the key\).*`model`"),
        (KEY, 400, ValueError, "takes no `logprobs`"),
    ],
)
def test_a_refusal_says_what_to_do_and_never_shows_the_key(key, status, error, words, caplog, tmp_path):
    refused = (status, {"error": {"message": f"no such thing as {KEY}"}})
    caplog.set_level(logging.DEBUG)
    with scripted_chat(lambda *_: refused) as (address, requests):
        with pytest.raises(error, match=words) as raised:
            ask(address, ["a 1"], tmp_path, api_key=key)
        assert len(requests) == 1
    logging.getLogger("test").error("failed", exc_info=raised.value)
    shown = caplog.text + str(raised.value) + repr(api("http://a"))
    assert KEY not in shown
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and KEY in path.read_text(errors="ignore")]


def test_without_log_probabilities_the_text_tells_and_other_words_say_nothing(tmp_path):
    said = {"a": "Yes.", "b": " no, thanks", "c": "Perhaps", **{str(n): "**Yes**" for n in range(9)}}
    with scripted_chat(lambda request, _: (200, completion(said[request["messages"][0]["content"]]))) as (address, _):
        answers = ask(address, list(said), tmp_path)
        assert answers.logits[:3].tolist() == [TEXT_LOGIT, -TEXT_LOGIT, 0]
        assert np.all(answers.logits[3:] == TEXT_LOGIT)
        assert (answers.usage["by_text"], answers.usage["unreadable"]) == (11, 1)
        with pytest.raises(ValueError, match=r"1 of 2 answers of m are neither Yes nor No\. .*template"):
            ask(address, ["a", "c"], tmp_path)
        with pytest.raises(ValueError, match="such as 'Perhaps'"):
            ask(address, ["a", "c"], tmp_path / "other")


def first_tokens(**shares):
    top = [SimpleNamespace(token=token, logprob=math.log(share)) for token, share in shares.items()]
    content = [SimpleNamespace(top_logprobs=top)]
    return SimpleNamespace(logprobs=SimpleNamespace(content=content), message=SimpleNamespace(content="Maybe"))


@pytest.mark.parametrize(
    ("shares", "odds"),
    [
        ({"Yes": 0.4, "\u0120yes": 0.2, "YES\n": 0.1, "No": 0.1, "\u2581no": 0.04}, 0.7 / 0.14),
        ({"Yes": 0.7, "The": 0.1}, 0.7 / 0.1),  # No is at most as likely as the last that is told
        ({"No": 0.95}, 0.05 / 0.95),  # and as what is left
    ],
)
def test_all_forms_of_a_word_count_and_one_that_is_not_told_is_bounded(shares, odds):
    logit, read_from = read_answer(first_tokens(**shares), "Yes", "No")
    assert (pytest.approx(math.log(odds)), LOGPROBS) == (logit, read_from)


def test_log_probabilities_of_other_words_leave_the_text():
    assert read_answer(first_tokens(Maybe=0.9), "Yes", "No") == (0, NOTHING)
