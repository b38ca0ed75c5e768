"""The engine that heavy steps run on: this process, or the workers of a Ray cluster.

Steps divide their rows into shards and give the engine a function of one shard; or they train in a group of processes
that meet in ``torch.distributed``. Nothing else of the project knows Ray.
"""

import logging
import os
import pickle
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from tqdm import tqdm

from reclora_kedro.files.scratch import scratch_folder
from reclora_kedro.parameters import MOST, Block, Count, NonNegative, Positive, Resource

S = TypeVar("S")
R = TypeVar("R")

MAX_FAILURES = 3  # of a shard whose worker is lost, or of a group that trains; each is then tried again

# Workers that train keep what they have freed: each step would ask the system for its memory again, page by page.
KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
    "MALLOC_TOP_PAD_": str(2**26),
}


class EngineConfig(Block):
    """What runs the heavy steps."""

    kind: Resource[Literal["local", "ray"]]
    address: Resource[str | None]
    workers: Resource[Count]
    cpus_per_worker: Resource[Positive]
    gpus_per_worker: Resource[NonNegative]
    rows_per_shard: Resource[Count]
    rows_per_part: Resource[Count]
    scratch: Resource[str | None]

    @property
    def spreads(self) -> bool:
        """Whether steps run on workers."""
        return self.kind == "ray"

    @property
    def uses_gpus(self) -> bool:
        """Whether its workers have GPUs."""
        return self.gpus_per_worker > 0

    def require_scratch(self) -> None:
        """Refuse a scratch folder that is not there.

        Raises:
            NotADirectoryError: it is no folder.
        """
        if self.scratch is not None and not Path(self.scratch).is_dir():
            raise NotADirectoryError(
                f"engine.scratch is {self.scratch!r}, which is no folder here: make it, on a disk that all workers "
                "see, or set it to null for a temporary one."
            )

    def shards(self, rows: int) -> list[np.ndarray]:
        """Row numbers in parts of about the same size, at least one; they don't depend on the workers.

        Examples:
            >>> [part.tolist() for part in LOCAL.model_copy(update={"rows_per_shard": 2}).shards(3)]
            [[0, 1], [2]]
        """
        return np.array_split(np.arange(rows), max(1, -(-rows // self.rows_per_shard)))


LOCAL = EngineConfig(
    kind="local",
    address=None,
    workers=1,
    cpus_per_worker=1,
    gpus_per_worker=0,
    rows_per_shard=MOST,
    rows_per_part=MOST,
    scratch=None,
)


class ShardError(RuntimeError):
    """A shard of a step failed, or the cluster could not run it."""


def map_shards(
    make: Callable[[], Callable[[S], R]], shards: Sequence[S], engine: EngineConfig, step: str
) -> Iterator[R]:
    """The result of each shard, in order.

    On Ray, each worker holds what ``make`` gives for all of its shards; shards of a worker or node that is lost are run
    by the others.

    Args:
        make: gives the function that is applied to shards, such as a model's once it is loaded. On Ray, it, the shards
            and the results are pickled on their way to and from workers.
        shards: the parts of the work.
        engine: what runs it.
        step: what the work is called in messages.

    Raises:
        ConnectionError, ImportError, ValueError: there is no such Ray, see `connect`.
        ShardError: a shard failed on a worker, or the cluster was lost; names step, shard and cause.

    Examples:
        >>> list(map_shards(lambda: sum, [[1, 2], [3]], LOCAL, "add"))
        [3, 3]
    """
    if not shards:
        return
    if engine.spreads:
        yield from _map_on_ray(make, shards, engine, step)
    else:
        yield from map(make(), shards)


def map_parts(work: Callable[[S], R], parts: Sequence[S], engine: EngineConfig, step: str) -> Iterator[R]:
    """What a function gives for each part, in order, with a progress bar; for functions that need not load a model.

    Errors are those of `map_shards`.

    Examples:
        >>> list(map_parts(sum, [[1, 2], [3]], LOCAL, "add"))
        [3, 3]
    """
    results = _map_parts_on_ray(work, parts, engine, step) if engine.spreads else map(work, parts)
    yield from tqdm(results, step, len(parts), unit="part", disable=None)


def train_together(train: Callable[[], R], engine: EngineConfig, step: str) -> R:
    """What a function returns that all workers of the engine run at once, in one group of ``torch.distributed``.

    A group that loses a worker starts again, up to three times; what it keeps in checkpoints it finds there.

    Args:
        train: called by each worker; what the first one returns is the result. It is pickled on its way.
        engine: a Ray.
        step: what the work is called in messages.

    Raises:
        ConnectionError, ImportError, ValueError: there is no such Ray, see `connect`.
        ShardError: the function failed, or the cluster was lost.
    """
    for failures_left in reversed(range(1 + MAX_FAILURES)):
        ray = connect(engine)
        try:
            return _train_group(ray, train, engine, step, failures_left)
        except ray.train.ControllerError as error:  # as of Ray 2.60, of a worker that dies while its group starts
            if not failures_left:
                raise ShardError(_lost(step, error)) from error
            ray.shutdown()  # frees what the group held
    raise AssertionError


def connect(engine: EngineConfig) -> Any:
    """The module ``ray``, connected to the cluster, which is started on this machine if no address is given.

    Raises:
        ConnectionError: there is no cluster at that address.
        ImportError: Ray is not installed.
        ValueError: the cluster is too small for the workers.
    """
    if find_spec("ray") is None:
        raise ImportError(
            "engine.kind is 'ray', but Ray is not installed: pip install 'reclora-kedro[ray]', or set engine.kind to "
            "local."
        )
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # else notes on Ray's own work stand between the user's
    os.environ.setdefault("RAY_task_oom_retries", str(MAX_FAILURES))  # else what needs too much memory never ends
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 lets whatever else runs there starve the workers
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")  # else groups end up to 2 s after their work
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # a process that starts as long as a worker does
    import ray
    import ray.train.torch
    import ray.util.queue
    import ray.util.scheduling_strategies

    if not ray.is_initialized():
        cores = None if engine.address else max(1, round(engine.workers * engine.cpus_per_worker))
        try:
            ray.init(
                engine.address or "local",
                num_cpus=cores,
                include_dashboard=None if engine.address else False,
                runtime_env={"env_vars": {"POLARS_MAX_THREADS": str(max(1, round(engine.cpus_per_worker)))}},
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ConnectionError(
                f"No Ray cluster answers at engine.address {engine.address!r} ({error}). Start one there, "
                "correct the address, or set it to null for a Ray on this machine."
            ) from error
    there = ray.cluster_resources()
    for what, each in (("CPU", engine.cpus_per_worker), ("GPU", engine.gpus_per_worker)):
        if there.get(what, 0) < engine.workers * each:
            raise ValueError(
                f"engine asks for {engine.workers} workers with {each:g} {what}s each, but the Ray cluster has "
                f"{there.get(what, 0):g} {what}s: lower engine.workers or engine.{what.lower()}s_per_worker."
            )
    return ray


def _train_group(ray: Any, train: Callable[[], R], engine: EngineConfig, step: str, failures: int) -> R:
    # On the node of this process, whose end would be the job's, too: a queue elsewhere could be lost with its results.
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
        ray.get_runtime_context().get_node_id(), soft=False
    )
    job = ray.put(train)
    results = ray.util.queue.Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
    pickled = ray.cloudpickle.dumps  # else the queue's process would import all that a result is made of

    class Trainer(ray.train.torch.TorchTrainer):
        """Without the process that frees a group's place if its controller dies, since the job's end does so, too.

        As of Ray 2.60, each training would wait 12 seconds for the end of that process.
        """

        def _create_default_callbacks(self) -> list[Any]:
            every = super()._create_default_callbacks()
            return [callback for callback in every if type(callback).__name__ != "PlacementGroupCleanerCallback"]

    def work() -> None:
        result = _attempt(ray.get(job))
        if ray.train.get_context().get_world_rank() == 0 or isinstance(result, _Failure):
            results.put(pickled(result))
        if isinstance(result, _Failure):
            raise RuntimeError(result.cause)  # the others wait for what this one would have sent

    resources = {"CPU": engine.cpus_per_worker} | ({"GPU": engine.gpus_per_worker} if engine.uses_gpus else {})
    scaling = ray.train.ScalingConfig(
        num_workers=engine.workers, use_gpu=engine.uses_gpus, resources_per_worker=resources
    )
    with scratch_folder() as folder:
        run = ray.train.RunConfig(
            storage_path=folder,
            failure_config=ray.train.FailureConfig(max_failures=failures),
            worker_runtime_env={"env_vars": KEEP_MEMORY},
        )
        try:
            Trainer(work, scaling_config=scaling, run_config=run).fit()
        except ray.train.ControllerError:
            raise
        except (ray.exceptions.RayError, ray.train.TrainingFailedError) as error:
            for failure in _all_in(results):
                _unless_failed(failure, f"{step}, in one of {engine.workers} workers,")
            raise ShardError(_lost(step, error)) from error
    result = next(result for result in _all_in(results) if not isinstance(result, _Failure))
    results.shutdown(force=True)
    return result


def _map_on_ray(make: Callable[[], Any], shards: Sequence[Any], engine: EngineConfig, step: str) -> Iterator[Any]:
    """Each worker is an actor of Ray's, which a thread of this process hands one shard after the other."""
    ray = connect(engine)
    made = ray.put(make)

    class Worker:
        """Holds what ``make`` gives; what fails is told as a result, since it would fail again."""

        def __init__(self) -> None:
            self._work = _attempt(lambda: ray.get(made)())

        def run(self, shard: Any) -> Any:
            return self._work if isinstance(self._work, _Failure) else _attempt(lambda: self._work(shard))

    actor = ray.remote(
        num_cpus=engine.cpus_per_worker,
        num_gpus=engine.gpus_per_worker,
        max_restarts=MAX_FAILURES,
        max_task_retries=-1,  # restarts are what ends; a worker that cannot be reached for a moment is asked again
    )(Worker)
    workers = [actor.remote() for _ in range(min(engine.workers, len(shards)))]
    places = iter(range(len(shards)))  # that no worker has taken
    results: list[Future[Any]] = [Future() for _ in shards]

    def serve(worker: Any) -> None:
        for place in places:
            try:
                results[place].set_result(ray.get(worker.run.remote(shards[place])))
            except Exception as error:
                results[place].set_exception(error)
        ray.kill(worker)  # a worker that was lost with its node may wait for this one's place

    threads = ThreadPoolExecutor(len(workers))
    for worker in workers:
        threads.submit(serve, worker)
    try:
        for number, result in enumerate(results, start=1):
            yield _result_of(result, f"{step}, shard {number} of {len(shards)}")
    finally:
        deque(places, maxlen=0)  # the threads end, whatever made this end
        for worker in workers:
            ray.kill(worker)
        threads.shutdown()


def _map_parts_on_ray(work: Callable[[S], R], parts: Sequence[S], engine: EngineConfig, step: str) -> Iterator[R]:
    """Tasks of Ray's, whose arrays this process reads where the workers left them."""
    ray = connect(engine)
    task = ray.remote(lambda work, part: _attempt(partial(work, part)))
    cores, gpus = engine.cpus_per_worker, engine.gpus_per_worker
    task = task.options(name="part", num_cpus=cores, num_gpus=gpus, max_retries=MAX_FAILURES)
    shared = ray.put(work)
    threads = ThreadPoolExecutor(engine.workers)  # each waits for a task, so that no more of them run at once
    under_way: deque[Future[R]] = deque()
    try:
        for number in range(len(parts)):
            ahead = number + 2 * engine.workers  # so that no worker waits for this process
            for part in parts[number + len(under_way) : ahead]:
                under_way.append(threads.submit(lambda part: ray.get(task.remote(shared, part)), part))
            yield _result_of(under_way.popleft(), f"{step}, shard {number + 1} of {len(parts)}")
    finally:
        threads.shutdown(cancel_futures=True)


def _result_of(future: Future[R], where: str) -> R:
    from ray.exceptions import RayError

    try:
        return _unless_failed(future.result(), where)
    except RayError as error:
        raise ShardError(_lost(where, error)) from error


def _all_in(queue: Any) -> list[Any]:
    return [pickle.loads(result) for result in queue.get_nowait_batch(queue.qsize())]


class _Failure:
    """What went wrong on a worker, as far as it can be pickled."""

    def __init__(self, error: Exception) -> None:
        self.cause = f"{type(error).__name__}: {error}"


def _attempt(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except Exception as error:
        logging.getLogger(__name__).exception("A worker failed.")
        return _Failure(error)


def _unless_failed(result: Any, where: str) -> Any:
    if isinstance(result, _Failure):
        raise ShardError(f"{where} failed: {result.cause}")
    return result


def _lost(what: str, error: Exception) -> str:
    text = str(getattr(error, "cause", None) or error)  # of a task that failed, the cause is what says why
    lines = [line.strip() for line in re.sub(r"\x1b\[\d+m", "", text).splitlines() if line.strip()]
    return (
        f"{what} could not be ended on the Ray cluster: {' '.join(lines[:2]).rstrip('.')}. Nothing half done was kept. "
        "If workers ran out of memory, lower engine.workers, engine.rows_per_part or tokens_per_batch, then type the "
        "same command again."
    )
