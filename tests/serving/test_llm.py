"""The LLM behind the service answers as it does in a run, whoever shares its batch."""

import asyncio
import json
import re
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event as Signal

import numpy as np
import polars as pl
import pytest
import torch
from click.testing import CliRunner
from starlette.testclient import TestClient
from transformers import LlamaModel

from kedro_provenance.errors import MismatchError
from kedro_provenance.failures import RunRefusedError
from live_service import block, service_config, small_model
from projects import ROOT
from random_llama import with_random_adapter
from reclora_kedro import cli
from reclora_kedro.history.questions import CANDIDATE, questions
from reclora_kedro.history.records import prompt_records
from reclora_kedro.history.retrieval import WindowConfig
from reclora_kedro.lens import LENS_MODELS
from reclora_kedro.lens.states import gate_inputs, lens_states
from reclora_kedro.llm.answer_model import answering_model
from reclora_kedro.llm.language_model import load_language_model
from reclora_kedro.llm.prompt_set import prompt_set
from reclora_kedro.llm.prompts import PromptBuilder, PromptConfig
from reclora_kedro.pipelines.question_nodes import build_prompts
from reclora_kedro.pipelines.served_project import ServedProject
from reclora_kedro.recommendation.delivery import best_of_shortlists, candidate_questions, lists_for_users
from reclora_kedro.scoring.prompt_scores import score_prompts
from reclora_kedro.serving.app import create_app
from reclora_kedro.serving.metrics import Metrics
from reclora_kedro.serving.models import Llm, Request
from reclora_kedro.serving.service import ReloadRefusedError, Service

TEMPLATE = Path(ROOT / "conf/base/prompts/sections.jinja").read_text("utf-8")
WINDOW = WindowConfig(kind="recent", k=4)


@pytest.fixture
def current_model(tiny_llm):
    current_model = small_model()
    state = lens_states(current_model.lens, current_model.log, current_model.log.samples.head(1))
    settings = {
        "num_meta_loras": 4,
        "r": 4,
        "lora_alpha": 8,
        "gate_hidden_dim": 8,
        "target_modules": ["q_proj", "v_proj"],
    }
    adapted = with_random_adapter(tiny_llm.model, 0.5, gate_dim=state["user"].shape[1], **settings)
    prompt = PromptConfig.model_validate(block("finetuning", "prompt"))
    model = answering_model(tiny_llm.with_model(adapted), prompt, blend="average")
    builder = PromptBuilder(tiny_llm.tokenizer, TEMPLATE, prompt, tiny_llm.context_tokens)
    llm = Future()
    llm.set_result(Llm(model, builder, WINDOW, "user", 4096))
    return small_model(llm=llm)


def offline(current_model, users):
    """What the recommendation step makes of the same."""
    config, llm = current_model.recommendation, current_model.llm.result()
    shortlist, _ = lists_for_users(current_model.recommender, users, config.shortlist)
    questions = candidate_questions(current_model.log, shortlist)
    history = current_model.log.histories(questions, WINDOW)
    prompt = PromptConfig.model_validate(block("finetuning", "prompt"))
    prompts, _ = build_prompts(
        llm.model.llm, TEMPLATE, current_model.log, questions, {"events": history}, prompt, "Unknown title"
    )
    inputs = gate_inputs(lens_states(current_model.lens, current_model.log, questions), "user")
    scores = score_prompts(llm.model, prompts, inputs, 4096)
    return best_of_shortlists(shortlist, prompts.with_columns(score=scores), config.top_n)


@pytest.mark.parametrize("prompts_per_batch", [100, 15])
def test_scores_are_those_of_a_run_whether_all_users_share_a_batch_or_take_turns(
    tmp_path, current_model, prompts_per_batch
):
    settings = {"deadline_ms": 200, "prompts_per_batch": prompts_per_batch}
    service = Service(service_config(tmp_path, **settings), lambda: current_model, Metrics())
    users = (3, 0, 7, 5)

    async def answer_all():
        requests = [Request(rank=True, user=str(user), n=10, model="llm", explain=True) for user in users]
        parts = [(lambda now, request=request: request, 30) for request in requests]
        together = service.answer(parts[:2]), *(service.answer([part]) for part in parts[2:])
        return [answer for answers in await asyncio.gather(*together) for answer in answers]

    answers = asyncio.run(answer_all())
    expected = offline(current_model, users)
    for user, answer in zip(users, answers, strict=True):
        own = expected.filter(user_id=user)
        assert current_model.log.items["item_id"].gather(answer.items).to_list() == own["item_id"].to_list()
        np.testing.assert_allclose(answer.scores, own["score"], atol=1e-4)
    because = [answer.because[0] for answer in answers]
    assert all(len(reason["gates"]) == 4 for reason in because)
    for answer in answers:
        titles = current_model.log.items["title"].gather(answer.items)
        for title, reason in zip(titles, answer.because, strict=True):
            assert f"New item: {title}" in reason["prompt"]
    assert len({tuple(reason["gates"]) for reason in because}) == len(users)
    text = service.metrics.text().decode()
    rows = sum(len(answer.items) for answer in answers)
    assert ('reclora_batch_rows_count{queue="llm"} 1.0' in text) == (prompts_per_batch == 100)
    assert service.current_model.recommendation.shortlist == 20 > 0 < rows
    service.close()


def test_only_requests_for_the_llm_wait_until_it_is_loaded(tmp_path, current_model):
    loading = Future()
    service = Service(service_config(tmp_path), lambda: replace(current_model, llm=loading), Metrics())

    async def answer_both():
        [lists, reranked] = (
            asyncio.create_task(service.answer([(lambda now, model=model: Request(True, "3", n=5, model=model), 30)]))
            for model in ("lens", "llm")
        )
        await lists
        before = await service.look(lambda now: now.gates_of(3))
        assert not reranked.done()
        loading.set_result(current_model.llm.result())
        [answer] = await reranked
        return answer, before, await service.look(lambda now: now.gates_of(3))

    answer, before, after = asyncio.run(answer_both())
    assert (len(answer.scores), before, len(after)) == (5, None, 4)
    service.close()


def test_a_model_whose_llm_cannot_be_loaded_does_not_take_over(tmp_path, current_model):
    failed, loaded = Future(), [current_model]
    failed.set_exception(RunRefusedError("The adapter belongs to another base LLM."))
    service = Service(service_config(tmp_path), lambda: loaded[-1], Metrics())
    loaded.append(replace(current_model, llm=failed))
    with pytest.raises(ReloadRefusedError, match=r"belongs to another base LLM\. The old model stays"):
        service.reload()
    assert service.current_model is current_model
    service.close()
    with pytest.raises(RunRefusedError):  # where all answers need it, nothing is served without it
        Service(service_config(tmp_path, model="llm"), lambda: loaded[-1], Metrics())


REQUESTS = [
    ("POST", "/recommend", {"user": "3", "explain": True}),
    ("POST", "/recommend", {"history": [{"item": "3", "rating": 5}]}),
    ("POST", "/score", {"user": "3", "items": ["1", "2"]}),
    *(("GET", path, None) for path in ("/users/3", "/items?q=7", "/items/3/neighbours", "/model", "/health/ready")),
    *(("GET", f"/page/{path}", None) for path in ("start", "user?user=3", "items?q=7", "champion")),
    *(("GET", path, None) for path in ("/", "/metrics")),
    ("POST", "/events", {"events": [{"user": "77", "item": "4", "rating": 5, "time": 1_000_000_000}]}),
    ("POST", "/recommend", {"user": "77"}),
    ("DELETE", "/users/77/events", None),
]


def ask(client, method, path, body):
    """The status of an answer, and what it recommends or tells of a user."""
    answer = client.request(method, path, json=body)
    told = answer.json() if path.startswith(("/recommend", "/score", "/users", "/items")) else {}
    return path, answer.status_code, told | {"request_id": None, "as_of": None}


@pytest.mark.parametrize("model", LENS_MODELS.modules())
def test_all_routes_answer_as_ever_while_an_llm_is_built_at_the_start_and_at_a_reload(
    tmp_path, tiny_llm_folder, monkeypatch, model
):
    """Transformers sets torch's default dtype, of the whole process, while it builds a model."""
    begun, go_on, build = Signal(), Signal(), LlamaModel.__init__

    def build_slowly(llm, config):
        build(llm, config)
        begun.set()
        assert go_on.wait(60)

    current_model = small_model(of_lens={"model": model, "item_text": model == "text_transformer"})
    monkeypatch.setattr(LlamaModel, "__init__", build_slowly)
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(load_language_model, str(tiny_llm_folder), dtype="bfloat16", device="cpu")
        try:
            assert begun.wait(60)
            service = Service(service_config(tmp_path), lambda: replace(current_model), Metrics())
            with TestClient(create_app(service)) as client:
                at_start = [ask(client, *request) for request in REQUESTS]
                service.reload()
                after_reload = [ask(client, *request) for request in REQUESTS]
                go_on.set()
                assert {weights.dtype for weights in loading.result().model.parameters()} == {torch.bfloat16}
                expected = [ask(client, *request) for request in REQUESTS]
        finally:
            go_on.set()
    assert {status for _, status, _ in expected} == {200}
    assert at_start == after_reload == expected


@pytest.mark.parametrize("kind", [RunRefusedError, MismatchError])
def test_a_service_ends_with_the_reason_why_its_llm_cannot_be_loaded(tmp_path, current_model, monkeypatch, kind):
    failed = Future()
    failed.set_exception(kind("The adapter belongs to another base LLM."))
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(ServedProject, "current_model", lambda project: replace(current_model, llm=failed))
    given = f"service.journal={tmp_path / 'journal.sqlite'},service.port=0"
    ended = CliRunner().invoke(cli.serve, ["--env", "test", "--params", given])
    assert ended.exit_code == 1
    assert "The adapter belongs to another base LLM." in ended.output


def as_vllm_documents(model, request):
    """Scores of `/generative_scoring`: the first label's share of the labels' probabilities after query and item."""
    with torch.no_grad():
        prompts = [torch.tensor([request["query"] + item]) for item in request["items"]]
        labels = [model(prompt).logits[0, -1, request["label_token_ids"]] for prompt in prompts]
    return [label.softmax(dim=0)[0].item() for label in labels]


def test_the_request_of_the_guide_gives_our_scores_by_what_vllm_documents(tiny_llm):
    log, prompt = small_model().log, PromptConfig.model_validate(block("finetuning", "prompt"))
    pairs = pl.DataFrame(
        {"user_index": [3] * 5, "item_index": range(5)}, {"user_index": pl.Int32, "item_index": pl.Int32}
    )
    asked = questions(log.now(pairs.with_row_index("row")))
    builder = PromptBuilder(tiny_llm.tokenizer, TEMPLATE, prompt, tiny_llm.context_tokens)
    prompts = builder.build(prompt_records(asked, log, log.histories(asked, WINDOW)))
    guide = Path(ROOT / "docs/guides/serve-loras.md").read_text("utf-8")
    [code] = [code for code in re.findall(r"```python\n(.*?)```", guide, re.DOTALL) if "label_token_ids" in code]
    values = {"base_llm": tiny_llm, "prompt_config": prompt, "token_ids": prompts["token_ids"].to_list()}
    exec(code, values)
    request = json.loads(json.dumps(values["request"]))
    assert request.keys() == {"model", "query", "items", "label_token_ids", "apply_softmax"}
    assert len(request["query"]) > 20 > 0 < min(map(len, request["items"]))
    expected = answering_model(tiny_llm, prompt).scores(prompt_set(prompts, CANDIDATE), 4096, "scores")
    np.testing.assert_allclose(as_vllm_documents(tiny_llm.model, request), expected, atol=1e-5)
