"""`kedro run --pipelines black_box` on a finished run, with APIs of this machine."""

import logging
import re
from pathlib import Path

import pytest
import torch
import yaml
from fastapi.testclient import TestClient

from projects import ROOT, kedro_run, stored
from scripted_chat import completion, scripted_chat

CONF = Path(__file__).parents[1] / "conf"
KEY = "sk-a-secret-key"
SIZES = {"hints": {"neighbours": [2]}, "search": {"rows": 12, "calls": 36}, "rows": 30}
HINT = re.compile(r"expects the answer (Yes|No)(?:, with (\d+)% certainty)?\.$")


def believes_hints(request, _):
    """What an LLM says that believes each hint, and knows nothing without one."""
    hint = HINT.search(request["messages"][-1]["content"])
    share = min(int(hint[2] or 90), 99) / 100 if hint else 0.5
    share = share if not hint or hint[1] == "Yes" else 1 - share
    return 200, completion(shares={"Yes": share, "No": 1 - share})


def black_box(project, address, **changes):
    """The catalog after a run with this API."""
    entry = yaml.safe_load((CONF / "catalog_black_box.yml").read_text())["black_box_llm"]
    entry |= {"base_url": address, "max_retries": 1}
    (project / "conf/test/catalog_black_box.yml").write_text(yaml.safe_dump({"black_box_llm": entry}))
    (project / "conf/test/parameters_black_box.yml").write_text(yaml.safe_dump({"black_box": SIZES}))
    (project / "conf/test/credentials.yml").write_text(yaml.safe_dump({"black_box_llm": {"api_key": KEY}}))
    return kedro_run(project, {"black_box": changes} if changes else None, pipeline_names=["black_box"])


def test_an_llm_that_believes_hints_ranks_as_the_lens_and_its_answers_are_kept(finished_run, capsys, caplog):
    for name in ("openai", "httpx2", "reclora_kedro"):
        caplog.set_level(logging.DEBUG, name)
    with scripted_chat(believes_hints) as (address, requests):
        catalog = black_box(finished_run.project, address, price={"prompt": 1.0, "completion": 2.0})
    assert {request["key"] for request in requests} == {f"Bearer {KEY}"}
    answers = finished_run.project / "data/test/07_model_output/black_box/answers"
    assert len([path for path in answers.rglob("*") if path.is_file()]) == len(requests) - 1  # which tried the API
    metrics = {record["model"]: record for record in catalog.load("black_box_metrics")}
    assert list(metrics) == ["black_box", "black_box_without_hints", "black_box_shuffled_hint", "lens", "untrained"]
    assert {record["rows"] for record in metrics.values()} == {30}
    assert metrics["black_box"]["auc"] == pytest.approx(metrics["lens"]["auc"], abs=0.05)
    assert metrics["black_box_without_hints"]["auc"] == 0.5
    assert abs(metrics["black_box_shuffled_hint"]["auc"] - 0.5) < metrics["black_box"]["auc"] - 0.5
    trials = catalog.load("black_box_trials")
    assert sum(trial["requests"] for trial in trials) <= 36
    assert max(trials, key=lambda trial: trial["auc"])["template"] in ("verdict", "report")
    [first, *_] = catalog.load("black_box_usage")
    assert first["price"] == pytest.approx((7 * 1.0 + 1 * 2.0) * first["requests"] / 1e6)
    shown = " ".join(capsys.readouterr().out.split())
    assert "those of trial" in shown
    assert "Answers on test rows" in shown
    kept = b"".join(path.read_bytes() for path in (finished_run.project / "data").rglob("*") if path.is_file())
    assert KEY.encode() not in kept
    assert KEY not in caplog.text + shown


@pytest.mark.parametrize(
    ("changes", "answer", "pattern"),
    [
        ({}, (401, {"error": {"message": "who are you"}}), "answers 401: the key is refused"),
        ({"hints": {"template": ["verdicts"]}}, (200, completion()), "names 'verdicts', but hint_templates has"),
        ({"template": "answer"}, (200, completion()), "answer.prompt_template|answer.jinja"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(finished_run, changes, answer, pattern):
    before = stored(finished_run.project)
    with scripted_chat(lambda *_: answer) as (address, _), pytest.raises(Exception, match=pattern):
        black_box(finished_run.project, address, **changes)
    assert stored(finished_run.project) == before


def test_the_server_of_the_base_llm_answers_as_the_llm_does(tiny_llm, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from chat_server import create_app

    llm, messages = tiny_llm, [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Heat?"}]
    request = {"model": "any", "messages": messages, "logprobs": True, "top_logprobs": 3, "temperature": 0}
    client = TestClient(create_app(llm))
    answer = client.post("/v1/chat/completions", json=request).json()
    chat = llm.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    tokens = llm.tokenizer(chat, add_special_tokens=False, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        expected = llm.model(tokens).logits[0, -1].double().log_softmax(dim=0)
    [first] = answer["choices"][0]["logprobs"]["content"]
    likely = expected.topk(3)
    assert [each["logprob"] for each in first["top_logprobs"]] == pytest.approx(likely.values.tolist(), abs=1e-4)
    assert [each["token"] for each in first["top_logprobs"]] == [llm.tokenizer.decode([t]) for t in likely.indices]
    assert answer["usage"]["prompt_tokens"] == tokens.shape[1]
    assert client.post("/v1/chat/completions", json=request | {"messages": []}).status_code == 422
    long = [{"role": "user", "content": "x " * 9000}]
    assert client.post("/v1/chat/completions", json=request | {"messages": long}).status_code == 400
