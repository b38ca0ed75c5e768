"""The live service under load: seconds per answer, many users, PEFT's adapter per row, memory, and kills.

    make bench-serve
    python benchmarks/serve.py --lens-requests 200 --llm-requests 4
    python benchmarks/serve.py --mixed-minutes 30 --kills 20
    python benchmarks/serve.py --stall
    python benchmarks/serve.py --processes

A lens of one epoch and an adapter of random weights, which changes no time, on the data and the base LLM of conf/base.
The service runs in a process of its own; the clients are coroutines of this one, each of which keeps its connection
and asks again as soon as it is answered. The clients have one core and the service the others, if there are two.
"""

import argparse
import asyncio
import json
import os
import pickle
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from itertools import count, cycle
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl
import torch
from plotly.subplots import make_subplots
from results import markdown, publish, timed
from running import Project, open_project
from torch import nn

CANDIDATES = 20  # of a request
CLIENTS = (1, 4, 16)
USERS = (1, 100, 1000, 10_000)
EVENTS = 20  # of each of these users
ROUNDS = 3  # of which the one in the middle counts
LATER = 10**9  # added to the ids of the log's users, which are whole numbers in conf/base
OURS, ONE_USER, PEFT = "RecLoRA, a user per row", "RecLoRA, one user", "PEFT's adapter_names, an exported LoRA per row"
RELOAD_SECONDS = 10  # between reloads in mixed load


def build_model(project: Project) -> Any:
    """A model of a project's data, without a run."""
    from reclora_kedro.adapters.methods import new_adapter
    from reclora_kedro.candidates.item_model import Training
    from reclora_kedro.distributed.engine import LOCAL
    from reclora_kedro.history.fields import describe_items
    from reclora_kedro.history.log import InteractionLog
    from reclora_kedro.history.log_builder import build_log
    from reclora_kedro.history.retrieval import WindowConfig
    from reclora_kedro.ingestion.config import IngestionConfig
    from reclora_kedro.lens.states import LensReader, gate_inputs, lens_states
    from reclora_kedro.lens.training import fit_lens
    from reclora_kedro.llm.answer_model import answering_model
    from reclora_kedro.llm.item_vectors import principal_components, tfidf_vectors
    from reclora_kedro.llm.prompts import PromptBuilder
    from reclora_kedro.pipelines.ingestion.nodes import build_canonical_tables
    from reclora_kedro.recommendation.chosen import Choice
    from reclora_kedro.recommendation.config import RecommendationConfig
    from reclora_kedro.recommendation.recommender import FittedRecommender
    from reclora_kedro.serving.models import Llm, ServedModel

    parameters, history, prompt = project.parameters, project.parameters["history"], project.parameters["prompt"]
    raw = {f"raw_{table}": project.load(f"raw_{table}") for table in ("interactions", "items", "item_texts", "users")}
    interactions, items, users, _ = build_canonical_tables(**raw, config=parameters["ingestion"], engine=LOCAL)
    log = build_log(interactions, items, users, history, LOCAL)
    assert isinstance(log, InteractionLog)
    words, _ = tfidf_vectors(describe_items(items))
    vectors, _ = principal_components(words, history.item_embedding.components, history.seed)
    log = log.with_embeddings(vectors)
    lens, _ = fit_lens(log, parameters["lens"].model_copy(update={"max_epochs": 1}))
    base_llm, template = project.load("base_llm"), project.load(f"{prompt.template}.prompt_template")
    adapter = parameters["finetuning"]["variants"]["reclora"].adapter
    inputs = gate_inputs(lens_states(lens, log, log.samples.head(1)), "user")
    adapted = new_adapter(base_llm.model, adapter, inputs.to(base_llm.device), seed=0).eval()
    for name, weights in adapted.named_parameters():
        if "reclora_B" in name:
            nn.init.normal_(weights, std=0.02)
    choice = Choice(kind="item_knn", order="lens", sources={"item_knn": {}})
    config = RecommendationConfig.model_validate(parameters["recommendation"])
    config = config.model_copy(update={"shortlist": CANDIDATES})
    llm = Future[Llm]()
    llm.set_result(
        Llm(
            model=answering_model(base_llm.with_model(adapted), prompt),
            prompts=PromptBuilder(base_llm.tokenizer, template, prompt, base_llm.context_tokens),
            window=WindowConfig(kind="recent", k=10),
            gate_input="user",
            tokens_per_batch=parameters["scoring"].tokens_per_batch,
        )
    )
    return ServedModel(
        versions={},
        about={},
        lens=lens,
        retriever=None,
        recommender=FittedRecommender.from_choice(Training.from_log(log), choice, config, LensReader(lens, log)),
        table=None,
        llm=llm,
        ingestion=IngestionConfig.model_validate(parameters["ingestion"]),
    )


def serve(environment: str, folder: Path, rows: int, cores: set[int]) -> None:
    """Measure what needs no HTTP, write it to a folder, then answer on a free port until the process is ended.

    A model that the folder has from an earlier process answers at once.
    """
    from reclora_kedro.serving.app import create_app, create_server
    from reclora_kedro.serving.config import ServiceConfig
    from reclora_kedro.serving.metrics import Metrics
    from reclora_kedro.serving.service import Service

    os.sched_setaffinity(0, cores)
    torch.set_num_threads(len(cores))
    kept, told = folder / "model.pickle", dict[str, Any]()
    if kept.exists():
        current_model, block = pickle.loads(kept.read_bytes())
    else:
        project = open_project(environment)
        current_model, block = build_model(project), dict(project.parameters["service"])
        told = {"rows": measure_rows(current_model, rows), "equal": measure_equality(current_model)} if rows else {}
        kept.write_bytes(pickle.dumps((replace(current_model, llm=None), block)))

    told |= {name: getattr(current_model.log, f"{name}s")[f"{name}_id"].to_list() for name in ("user", "item")}

    def load() -> Any:
        return replace(pickle.loads(kept.read_bytes())[0], llm=current_model.llm)

    block |= {
        "journal": str(folder / "journal/journal.sqlite"),
        "reload_seconds": None,
        "timeout_seconds": 600,
        "port": 0,
    }
    config = ServiceConfig.model_validate(block)
    service = Service(config, load, Metrics())
    server = create_server(create_app(service), config)

    async def run() -> None:
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        told["port"] = server.servers[0].sockets[0].getsockname()[1]
        draft = folder / f"{os.getpid()}.tmp"
        draft.write_text(json.dumps(told))
        draft.rename(draft.with_suffix(".json"))
        await serving

    asyncio.run(run())


@contextmanager
def running_service(environment: str, folder: Path, rows: int, cores: set[int]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The process of a service, and what it found."""
    options = ["--env", environment, "--rows", str(rows), "--cores", *map(str, cores)]
    with subprocess.Popen([sys.executable, __file__, "--serve", str(folder), *options]) as server:
        try:
            while not (found := folder / f"{server.pid}.json").exists():
                if server.poll() is not None:
                    sys.exit("the service ended before it answered")
                time.sleep(0.1)
            yield server.pid, json.loads(found.read_text())
        finally:
            server.terminate()


@torch.inference_mode()
def measure_rows(current_model: Any, rows: int) -> dict[str, list[float]]:
    """Seconds of a batch of rows: of as many users, of one user, and by PEFT with an exported LoRA per row.

    The prompts are the same ones; what differs is whose they are.
    """
    from peft import PeftModel

    from reclora_kedro.adapters.methods import user_loras
    from reclora_kedro.gate_inputs import GateInputs
    from reclora_kedro.history.questions import CANDIDATE, questions
    from reclora_kedro.history.records import prompt_records
    from reclora_kedro.lens.states import gate_inputs, lens_states
    from reclora_kedro.llm.language_model import load_language_model
    from reclora_kedro.llm.prompt_set import prompt_set

    log, llm = current_model.log, current_model.llm.result()
    users = np.argsort(-np.diff(log.sequences.offsets), kind="stable")[:rows].astype(np.int32)
    pairs = pl.DataFrame({"user_index": users, "item_index": np.arange(len(users), dtype=np.int32) % log.items.height})
    scored = questions(log.now(pairs.with_row_index("row")))
    prompts = llm.prompts.build(prompt_records(scored, log, log.histories(scored, llm.window)))
    inputs = gate_inputs(lens_states(current_model.lens, log, scored), "user")
    of_one = GateInputs(
        inputs.rows, "user", inputs.values[:1].expand_as(inputs.values).contiguous(), inputs.lens_logits
    )
    device = llm.model.device
    batches = {
        name: prompt_set(prompts, CANDIDATE, values).batch(range(len(users)), device)
        for name, values in ((OURS, inputs), (ONE_USER, of_one))
    }
    works: dict[str, Callable[[], Any]] = {name: partial(llm.model.logits, batch) for name, batch in batches.items()}
    with tempfile.TemporaryDirectory() as folder:
        ids = [str(user) for user in users]
        user_loras(llm.model.model, inputs.values.to(device), ids).save(Path(folder) / "users")
        base = load_language_model(**llm.model.llm.arguments)
        peft = PeftModel.from_pretrained(base.model, f"{folder}/users/user_{ids[0]}", adapter_name=ids[0])
        for user in ids[1:]:
            peft.load_adapter(f"{folder}/users/user_{user}", adapter_name=user)
    batch = batches[OURS]
    mask = (torch.arange(batch.token_ids.shape[1], device=device) <= batch.last[:, None]).long()
    works[PEFT] = lambda: peft.eval()(batch.token_ids, attention_mask=mask, adapter_names=ids, logits_to_keep=1)
    return {name: [timed(work)[1] for _ in range(3)][1:] for name, work in works.items()}


def measure_equality(current_model: Any) -> dict[str, float]:
    """Largest difference of the service's scores from those of the recommendation step, for some users."""
    from reclora_kedro.history.records import prompt_records
    from reclora_kedro.lens.states import gate_inputs, lens_states
    from reclora_kedro.recommendation.delivery import candidate_questions, lists_for_users
    from reclora_kedro.scoring.prompt_scores import score_prompts
    from reclora_kedro.serving.journal import Content
    from reclora_kedro.serving.live_log import LiveLog
    from reclora_kedro.serving.models import Request, Snapshot, answer_by_lens, answer_by_llm

    log, llm, users = (
        current_model.log,
        current_model.llm.result(),
        current_model.log.users["user_id"].head(3).to_list(),
    )
    shortlist, _ = lists_for_users(current_model.recommender, users, CANDIDATES)
    shortlisted = candidate_questions(log, shortlist)
    prompts = llm.prompts.build(prompt_records(shortlisted, log, log.histories(shortlisted, llm.window)))
    prompts = shortlisted.hstack(prompts.drop("row", "use", "label"))
    inputs = gate_inputs(lens_states(current_model.lens, log, shortlisted), "user")
    by_llm = score_prompts(llm.model, prompts, inputs, llm.tokens_per_batch).to_numpy()
    differences = {"lens": 0.0, "llm": 0.0}
    snapshot = Snapshot.take(current_model, LiveLog(log, current_model.ingestion, Content([], {})))
    for user in users:
        rows = (shortlist["user_id"] == user).to_numpy()
        request = Request(rank=False, user=str(user), items=shortlist["item_index"].to_numpy()[rows], model="llm")
        [answer] = answer_by_lens([request], snapshot)
        differences["lens"] = max(
            differences["lens"], float(np.abs(answer.scores - shortlist["score"].to_numpy()[rows]).max())
        )
        answer_by_llm([answer])
        differences["llm"] = max(differences["llm"], float(np.abs(answer.scores - by_llm[rows]).max()))
    return differences


class Client:
    """A connection to the service that is kept."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    @asynccontextmanager
    async def connected(cls, port: int) -> AsyncIterator["Client"]:
        """A client, until its connection is closed."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            yield cls(reader, writer)
        finally:
            writer.close()

    async def post(self, path: str, body: Any) -> tuple[int, float]:
        """Post JSON; the status of the answer, and the seconds until it was there as a whole."""
        content, start = json.dumps(body).encode(), time.perf_counter()
        head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        self._writer.write(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)
        answer = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        [length] = [line for line in answer.split(b"\r\n") if line.startswith(b"content-length:")]
        await self._reader.readexactly(int(length.split(b":")[1]))
        return int(answer[9:12]), time.perf_counter() - start


async def ask_all(port: int, requests: Iterator[tuple[str, Any]], clients: int, *more: int) -> list[tuple[int, float]]:
    """Status and seconds of each request, by so many clients, in turn on each of the ports."""
    answers = list[tuple[int, float]]()

    async def ask(port: int) -> None:
        async with Client.connected(port) as client:
            for path, body in requests:
                answers.append(await client.post(path, body))

    ports = cycle([port, *more])
    await asyncio.gather(*(ask(next(ports)) for _ in range(clients)))
    return answers


def measure_load(port: int, users: Sequence[Any], model: str, clients: int, requests: int) -> dict[str, Any]:
    """One row of the tables: requests in turn of these users."""
    bodies = ({"user": users[place % len(users)], "n": CANDIDATES, "model": model} for place in range(requests))
    start = time.perf_counter()
    answers = asyncio.run(ask_all(port, (("/recommend", body) for body in bodies), clients))
    took, seconds = time.perf_counter() - start, np.array([seconds for _, seconds in answers])
    if refused := sorted({status for status, _ in answers} - {200}):
        sys.exit(f"the service answered {refused}")
    return {
        "model": model,
        "clients": clients,
        "users": min(len(users), requests),
        "requests": requests,
        "p50, ms": 1e3 * float(np.quantile(seconds, 0.5)),
        "p95, ms": 1e3 * float(np.quantile(seconds, 0.95)),
        "requests/s": requests / took,
    }


def add_users(port: int, items: Sequence[Any], users: int) -> list[int]:
    """Add users of the same number of events over HTTP, and ask for each item's neighbours; the users' ids."""
    random, now = np.random.default_rng(0), int(time.time())
    ids = [LATER + user for user in range(users)]
    events = [
        {"user": user, "item": items[item], "rating": int(random.integers(1, 6)), "time": now - place}
        for user in ids
        for place, item in enumerate(random.choice(len(items), EVENTS, replace=False))
    ]
    bodies = (("/events", {"events": events[first : first + 1000]}) for first in range(0, len(events), 1000))
    warm = (("/recommend", {"user": user}) for user in ids[:1000])
    asyncio.run(ask_all(port, bodies, 1))
    asyncio.run(ask_all(port, warm, max(CLIENTS)))
    return ids


def measure_users(port: int, items: Sequence[Any], users: int, requests: int) -> list[dict[str, Any]]:
    """Rows by number of distinct users, all with the same number of events: the round in the middle of each."""
    added, numbers = add_users(port, items, users), [most for most in USERS if most <= users]
    rounds = [
        [measure_load(port, added[:most], "lens", max(CLIENTS), max(most, requests)) for most in numbers]
        for _ in range(ROUNDS)
    ]
    return [sorted(rows, key=lambda row: row["requests/s"])[ROUNDS // 2] for rows in zip(*rounds, strict=True)]


def measure_mixed(port: int, pid: int, users: Sequence[Any], items: Sequence[Any], minutes: float) -> dict[str, Any]:
    """Recommendations, scores, events, histories and reloads for some minutes: statuses, and memory by second."""
    random, begin, memory = np.random.default_rng(1), time.monotonic(), list[tuple[float, float]]()
    statuses, reload_at = list[int](), RELOAD_SECONDS

    def requests() -> Iterator[tuple[str, Any]]:
        for kind in cycle(("recommend", "explain", "events", "score", "history")):
            if time.monotonic() > begin + 60 * minutes:
                return
            user = users[int(random.integers(len(users)))]
            some = [items[item] for item in random.integers(len(items), size=5)]
            event = {"item": some[0], "rating": int(random.integers(1, 6))}
            yield {
                "recommend": ("/recommend", {"user": user}),
                "explain": ("/recommend", {"user": user, "explain": True}),
                "events": ("/events", {"events": [event | {"user": user}]}),
                "score": ("/score", {"user": user, "items": some}),
                "history": ("/recommend", {"history": [event]}),
            }[kind]

    async def watch() -> None:
        nonlocal reload_at
        while (passed := time.monotonic() - begin) < 60 * minutes:
            status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
            memory.append((passed, int(status["VmRSS"].split()[0]) / 2**10))
            if passed > reload_at:
                reload_at += RELOAD_SECONDS
                async with Client.connected(port) as client:  # the service closes one that is idle for five seconds
                    statuses.append((await client.post("/model/reload", {}))[0])
            await asyncio.sleep(min(1, minutes))

    async def work() -> None:
        answers, _ = await asyncio.gather(ask_all(port, requests(), 4), watch())
        statuses.extend(status for status, _ in answers)

    asyncio.run(work())
    return {"statuses": statuses, "memory": memory}


def mixed_row(mixed: dict[str, Any]) -> dict[str, Any]:
    """Errors, and memory by quarters: what grows in the first one is caches."""
    quarters = [median(part) for part in np.array_split([mib for _, mib in mixed["memory"]], 4)]
    errors = sum(status != 200 for status in mixed["statuses"])
    by_quarter = {f"MiB, quarter {place + 1}": mib for place, mib in enumerate(quarters)}
    return {"answers": len(mixed["statuses"]), "errors": errors, **by_quarter}


def measure_stall(port: int, users: Sequence[Any], items: Sequence[Any]) -> list[dict[str, Any]]:
    """How long others wait beside one large request: by lens, and by the LLM for a client that has gone."""
    small = {"user": users[0], "n": 10}

    async def by_lens(items_per_user: int) -> dict[str, Any]:
        large = {"requests": [{"user": user, "n": items_per_user, "explain": True} for user in users[:64]]}
        async with Client.connected(port) as greedy, Client.connected(port) as other:
            sent = asyncio.create_task(greedy.post("/recommend", large))
            await asyncio.sleep(0.05)
            waits = [(await other.post("/recommend", small))[1]]
            while not sent.done():
                waits.append((await other.post("/recommend", small))[1])
            status, seconds = await sent
            return {"large request": f"lens, 64 users, {items_per_user} items each with reasons", "status": status} | {
                "seconds": seconds,
                "longest wait of others, s": max(waits),
            }

    async def by_llm() -> dict[str, Any]:
        async with Client.connected(port) as greedy:
            asked = {"user": users[0], "items": items[:256], "model": "llm"}
            sent = asyncio.create_task(greedy.post("/score", asked))
            await asyncio.sleep(1)
            sent.cancel()
        async with Client.connected(port) as other:
            status, seconds = await other.post("/score", {"user": users[1], "items": items[:1], "model": "llm"})
            return {"large request": "LLM, 256 items, whose client leaves after 1 s", "status": status} | {
                "seconds": None,
                "longest wait of others, s": seconds,
            }

    asyncio.run(ask_all(port, iter([("/recommend", small), ("/recommend", small | {"model": "llm"})]), 1))
    return [asyncio.run(by_lens(1000)), asyncio.run(by_lens(28)), asyncio.run(by_llm())]


def cpu_seconds(*pids: int) -> float:
    """Seconds of processor time that processes have taken."""
    ticks = (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13] for pid in pids)
    return sum(sum(map(int, each)) for each in ticks) / os.sysconf("SC_CLK_TCK")


def measure_processes(service: Callable[[], Any], requests: int) -> list[dict[str, Any]]:
    """The lens by one process, and by two behind one journal, with half of the clients each."""
    random, rows = np.random.default_rng(2), list[dict[str, Any]]()
    with service() as (pid, told), service() as (other_pid, other):
        users, items, ports = told["user"], told["item"], [told["port"], other["port"]]

        def bodies(share: float) -> Iterator[tuple[str, Any]]:
            for place in range(requests):
                user, item = users[place % len(users)], items[int(random.integers(len(items)))]
                event = {"events": [{"user": user, "item": item, "rating": 4}]}
                yield ("/events", event) if random.random() < share else ("/recommend", {"user": user, "n": CANDIDATES})

        for port in ports:
            asyncio.run(ask_all(port, bodies(0.5), 1))  # so that both have counted what they answer by
        for share, most in ((0, 1), (0, 2), (0.2, 1), (0.2, 2)):
            start, used = time.perf_counter(), cpu_seconds(pid, other_pid)
            answers = asyncio.run(ask_all(ports[0], bodies(share), max(CLIENTS), *ports[1:most]))
            took, seconds = time.perf_counter() - start, np.array([seconds for _, seconds in answers])
            rows.append(
                {"processes": most, "share of events": share, "errors": sum(status != 200 for status, _ in answers)}
                | {f"p{part}, ms": 1e3 * float(np.quantile(seconds, part / 100)) for part in (50, 95)}
                | {"requests/s": requests / took}
                | {"CPU ms of the service per request": 1e3 * (cpu_seconds(pid, other_pid) - used) / requests}
            )
    return rows


async def send_events_and_kill(port: int, pid: int, kill: int, items: Sequence[Any], limit: int) -> set[str]:
    """Have clients send events, and kill the service under them; the ids of those that it acknowledged."""
    acknowledged = set[str]()

    async def send(own: int) -> None:
        async with Client.connected(port) as client:
            for number in count():
                event_id = f"{kill}.{own}.{number}"
                event = {"user": LATER + own, "item": items[number % len(items)], "rating": 4, "event_id": event_id}
                status, _ = await client.post("/events", {"events": [event] * 2})
                assert status == 200
                acknowledged.add(event_id)
                if len(acknowledged) == limit:
                    os.kill(pid, 9)

    ends = await asyncio.gather(*(send(own) for own in range(max(CLIENTS))), return_exceptions=True)
    assert all(isinstance(end, OSError | asyncio.IncompleteReadError) for end in ends), ends
    return acknowledged


def measure_kills(service: Callable[[], Any], folder: Path, kills: int) -> dict[str, Any]:
    """Kill services under load, each of which takes up the journal of the one before."""
    acknowledged, items = set[str](), range(1, 50)
    for kill in range(kills):
        with service() as (pid, told):
            acknowledged |= asyncio.run(send_events_and_kill(told["port"], pid, kill, items, 100 + 10 * kill))
    with sqlite3.connect(folder / "journal/journal.sqlite") as journal:
        stored = [event_id for (event_id,) in journal.execute("SELECT event_id FROM events WHERE event_id LIKE '%.%'")]
    return {
        "kills": kills,
        "acknowledged": len(acknowledged),
        "lost": len(acknowledged - {*stored}),
        "stored twice": len(stored) - len({*stored}),
    }


def plot(by_clients: list[dict[str, Any]], memory: list[tuple[float, float]]) -> go.Figure:
    """Requests per second by number of clients, and memory in mixed load."""
    figure = make_subplots(
        rows=1, cols=2, subplot_titles=("Requests per second by clients", "Memory in mixed load, MiB")
    )
    for model in ("lens", "llm"):
        part = [row for row in by_clients if row["model"] == model]
        rates = [row["requests/s"] for row in part]
        figure.add_bar(x=[str(row["clients"]) for row in part], y=rates, name=model, row=1, col=1)
    figure.add_scatter(
        x=[second / 60 for second, _ in memory], y=[mib for _, mib in memory], showlegend=False, row=1, col=2
    )
    figure.update_yaxes(type="log", row=1, col=1).update_yaxes(rangemode="tozero", row=1, col=2)
    return figure.update_xaxes(title="clients", row=1, col=1).update_xaxes(title="minutes", row=1, col=2)


def main() -> None:
    """Measure, then show and keep the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="base", help="environment whose data and base LLM are used")
    parser.add_argument("--lens-requests", type=int, default=1000, help="of each measurement of the lens")
    parser.add_argument("--llm-requests", type=int, default=32, help="of each measurement of the LLM")
    parser.add_argument("--rows", type=int, default=64, help="of a batch, and users of these")
    parser.add_argument("--users", type=int, default=max(USERS), help="most distinct users")
    parser.add_argument("--mixed-minutes", type=float, default=1, help="of mixed load with reloads")
    parser.add_argument("--kills", type=int, default=3, help="of the service under load")
    parser.add_argument("--stall", action="store_true", help="measure only how long others wait beside a large request")
    parser.add_argument("--processes", action="store_true", help="measure only one process and two behind one journal")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--cores", type=int, nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.env, arguments.serve, arguments.rows, {*arguments.cores})
        return
    first, *others = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {first})
    cores = {*(others or [first])}
    with tempfile.TemporaryDirectory() as name:
        all_cores = partial(running_service, arguments.env, Path(name), 0, {first, *others})
        if arguments.processes:
            os.sched_setaffinity(0, {first, *others})
            print(markdown(measure_processes(all_cores, arguments.lens_requests)))
            return
        if arguments.stall:
            with running_service(arguments.env, Path(name), 0, cores) as (_, told):
                for row in measure_stall(told["port"], told["user"], told["item"]):
                    print(json.dumps(row))
            return
        service = partial(running_service, arguments.env, Path(name), arguments.rows, cores)
        with service() as (pid, told):
            port, users = told["port"], told["user"]
            measure_load(port, users, "lens", 1, min(100, arguments.lens_requests))
            counts = {"lens": arguments.lens_requests, "llm": arguments.llm_requests}
            by_clients = [
                measure_load(port, users, model, clients, requests)
                for model, requests in counts.items()
                for clients in CLIENTS
            ]
            mixed = measure_mixed(port, pid, users, told["item"], arguments.mixed_minutes)
            by_users = measure_users(port, told["item"], arguments.users, arguments.lens_requests)
        killed = measure_kills(service, Path(name), arguments.kills)
        os.sched_setaffinity(0, {first, *others})
        by_processes = measure_processes(all_cores, arguments.lens_requests)
    row = mixed_row(mixed)
    tables = {
        "Largest difference from offline scores": [told["equal"]],
        "By number of clients": by_clients,
        f"By number of users, of {EVENTS} events each": by_users,
        f"One batch of {arguments.rows} rows": [
            {"whose LoRA": name, "seconds": median(values)} for name, values in told["rows"].items()
        ],
        f"{arguments.mixed_minutes:g} minutes of mixed load, with a reload every {RELOAD_SECONDS} s": [row],
        "Kills under load": [killed],
        "Processes behind one journal, all cores for all": by_processes,
        "Cores": [{"service": len(cores), "clients": 1, "shared": "no" if others else "yes"}],
    }
    publish("serve", tables, plot(by_clients, mixed["memory"]))


if __name__ == "__main__":
    main()
