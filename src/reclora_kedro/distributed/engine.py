"""The engine that heavy steps run on: this process, or the workers of a Ray cluster.

Steps divide their rows into shards and give the engine a function of one shard; or they train in a group of processes
that meet in ``torch.distributed``. Nothing else of the project knows Ray.
"""

import logging
import os
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Generic, Literal, Self, TypeVar

import numpy as np

from kedro_provenance.parameters import Block, Resource
from reclora_kedro.parameters import MAX_INT32, Count, NonNegative, Positive
from reclora_kedro.progress import Progress

S = TypeVar("S")
R = TypeVar("R")

MAX_FAILURES = 3  # of a shard whose worker is lost, or of a group that trains; each is then tried again
MAKE_ROOM_AFTER = 30  # seconds without a result: a worker that is done then ends, as one may wait for its place

_idle: list[Any] = []  # workers without GPUs that wait for the next map: another one takes seconds to start


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

    def here(self) -> Self:
        """The same, but in this process: for a step whose rows are in its memory already."""
        return self.model_copy(update={"kind": "local"})

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

    def require_parts(self, parts: int, block: str) -> None:
        """Refuse more workers than a step's rows have parts, which is `batch_parts` of a block of parameters.

        Raises:
            ValueError: there are more.
        """
        if parts < self.workers:
            raise ValueError(
                f"{block}.batch_parts is {parts}, but engine.workers is {self.workers}, and each takes at least one "
                "part of a step's rows: raise the former, best to a multiple of the latter."
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
    rows_per_shard=MAX_INT32,
    rows_per_part=MAX_INT32,
    scratch=None,
)


class ShardError(RuntimeError):
    """A shard of a step failed, or the cluster could not run it."""


class OncePerWorker(Generic[S, R]):
    """A function of a shard that each worker makes when it meets its first one, such as a model's once it is loaded.

    Args:
        make: gives the function.

    Examples:
        >>> work = OncePerWorker(lambda: print("loaded") or sum)
        >>> work([1, 2]), work([3])
        loaded
        (3, 3)
    """

    def __init__(self, make: Callable[[], Callable[[S], R]]) -> None:
        self._make = make

    @cached_property
    def _work(self) -> Callable[[S], R]:
        return self._make()

    def __call__(self, shard: S) -> R:
        """Apply the function, which is made first if it has not been."""
        return self._work(shard)


def map_shards(work: Callable[[S], R], shards: Sequence[S], engine: EngineConfig, step: str) -> Iterator[R]:
    """Results of a function of each shard, in order, with a progress bar.

    On Ray, each worker holds the function for all of its shards; those of a worker or node that is lost are run by the
    others. Arrays of results are read where the workers left them. Workers without GPUs stay for the next map.

    Args:
        work: applied to each shard. On Ray, it, the shards and the results are pickled on their way to and from
            workers; see `OncePerWorker` for a function that cannot be.
        shards: the parts of the work.
        engine: what runs it.
        step: what the work is called in messages.

    Raises:
        ConnectionError, ImportError, ValueError: there is no such Ray, see `connect`.
        ShardError: a shard failed on a worker, or the cluster was lost; names step, shard and cause.

    Examples:
        >>> list(map_shards(sum, [[1, 2], [3]], LOCAL, "add"))
        [3, 3]
    """
    results = _map_on_ray(work, shards, engine, step) if shards and engine.spreads else map(work, shards)
    with Progress(step, len(shards), "shards", shown=len(shards) > 1) as progress:  # a single one's work has its own
        for result in results:
            progress.update()
            yield result


def train_together(train: Callable[[], R], engine: EngineConfig, step: str) -> R:
    """Return the result of a function that all workers of an engine call at once, as a `Group`.

    A group that loses a worker starts again, up to three times; what it keeps in checkpoints it finds there.

    Args:
        train: called by each worker; the first one's result is returned. It is pickled on its way.
        engine: a Ray.
        step: what the work is called in messages.

    Raises:
        ConnectionError, ImportError, ValueError: there is no such Ray, see `connect`.
        ShardError: the function failed, or the cluster was lost.
    """
    ray = connect(engine)
    free_workers()
    for failures_left in reversed(range(1 + MAX_FAILURES)):
        try:
            result = _train_group(ray, train, engine)
        except ray.exceptions.RayError as error:
            if not failures_left:
                raise ShardError(_lost(step, error)) from error
        else:
            if not (failures_left and isinstance(result, _Failure) and result.may_be_a_loss):
                return _unless_failed(result, f"{step}, in one of {engine.workers} workers,")
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
            "engine.kind is 'ray', but Ray is not installed: pip install -e '.[ray]', or set engine.kind to local."
        )
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # else notes on Ray's own work stand between the user's
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 lets whatever else runs there starve the workers
    import ray

    if not ray.is_initialized():
        _idle.clear()
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
    resources = ray.cluster_resources()
    for what, each in (("CPU", engine.cpus_per_worker), ("GPU", engine.gpus_per_worker)):
        if resources.get(what, 0) < engine.workers * each:
            raise ValueError(
                f"engine asks for {engine.workers} workers with {each:g} {what}s each, but the Ray cluster has "
                f"{resources.get(what, 0):g} {what}s: lower engine.workers or engine.{what.lower()}s_per_worker."
            )
    return ray


def free_workers() -> None:
    """End the workers that wait for the next map."""
    import ray

    while _idle:
        ray.kill(_idle.pop())


class _Worker:
    """An actor of Ray's, which holds the function that it applies to shards until it gets another one.

    What fails is told as a result, since it would fail again.
    """

    _reference: Any = None
    _work: Any = None

    def forget(self) -> None:
        self._reference = self._work = None

    def run(self, work: list[Any], shard: Any) -> Any:
        [reference] = work  # within a list, Ray leaves a reference as it is
        if reference != self._reference:
            import ray

            self.forget()
            self._reference, self._work = reference, ray.get(reference)
        return _attempt(lambda: self._work(shard))


def _start_workers(ray: Any, count: int, engine: EngineConfig, failures: int) -> list[Any]:
    actor = ray.remote(
        num_cpus=engine.cpus_per_worker,
        num_gpus=engine.gpus_per_worker,
        max_restarts=failures,
        max_task_retries=-1 if failures else 0,  # restarts are what ends; one that cannot be reached is asked again
    )(_Worker)
    return [actor.remote() for _ in range(count)]


def _train_group(ray: Any, train: Callable[[], R], engine: EngineConfig) -> Any:
    """What the first worker of a group returns, or the failure of the first that fails; those left are ended."""
    from torch.distributed import TCPStore

    address = ray.util.get_node_ip_address()
    store = TCPStore(address, 0, is_master=True, wait_for_workers=False)
    work = ray.put(partial(_join, train, address, store.port, engine.workers))
    workers = _start_workers(ray, engine.workers, engine, failures=0)
    try:
        results = [worker.run.remote([work], rank) for rank, worker in enumerate(workers)]
        waiting = results
        while waiting:
            [ended], waiting = ray.wait(waiting)
            if isinstance(result := ray.get(ended), _Failure):
                return result
        return ray.get(results[0])
    finally:
        for worker in workers:
            ray.kill(worker)


def _join(train: Callable[[], R], address: str, port: int, size: int, rank: int) -> R | None:
    """What a worker of a group does."""
    from torch.distributed import TCPStore

    from reclora_kedro.distributed.group import PATIENCE, train_as_member

    return train_as_member(train, TCPStore(address, port, timeout=PATIENCE), rank, size)


def _map_on_ray(work: Callable[[S], R], shards: Sequence[S], engine: EngineConfig, step: str) -> Iterator[R]:
    """A thread of this process hands each worker one shard after the other."""
    ray = connect(engine)
    held = ray.put(work)  # until the end, since a worker that starts again reads it again
    count = min(engine.workers, len(shards))
    workers = [_idle.pop() for _ in range(min(count, len(_idle)))]
    workers += _start_workers(ray, count - len(workers), engine, MAX_FAILURES)
    done: list[Any] = []
    results: dict[int, Future[R]] = {place: Future() for place in range(len(shards))}
    places = iter(range(len(shards)))  # that no worker has taken

    def serve(worker: Any) -> None:
        for place in places:
            result = results[place]
            try:
                result.set_result(ray.get(worker.run.remote([held], shards[place])))
            except Exception as error:
                result.set_exception(error)
                return
        done.append(worker)

    threads = ThreadPoolExecutor(len(workers))
    for worker in workers:
        threads.submit(serve, worker)
    try:
        for place in range(len(shards)):
            while not wait([results[place]], MAKE_ROOM_AFTER).done:
                if done:  # a worker that was lost with its node may wait for the place of one that is done
                    ray.kill(done.pop())
            yield _result_of(results[place], f"{step}, shard {place + 1} of {len(shards)}")
            del results[place]  # and its place in Ray's memory
    finally:
        deque(places, maxlen=0)  # the threads end, whatever made this end
        keep = not results and not engine.uses_gpus
        for worker in () if keep else workers:
            ray.kill(worker)
        threads.shutdown()
        for worker in done if keep else ():
            worker.forget.remote()
            _idle.append(worker)


def _result_of(future: Future[R], where: str) -> R:
    from ray.exceptions import RayError

    try:
        return _unless_failed(future.result(), where)
    except RayError as error:
        raise ShardError(_lost(where, error)) from error


class _Failure:
    """What went wrong on a worker, as far as it can be pickled."""

    def __init__(self, error: Exception) -> None:
        self.cause = f"{type(error).__name__}: {error}"
        # As torch says that another process is gone: by an error of its own, or for Gloo by a plain one with this name.
        of_torch = type(error).__module__.startswith("torch") and type(error).__name__.startswith("Dist")
        self.may_be_a_loss = of_torch or (isinstance(error, RuntimeError) and "gloo" in str(error).lower())


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
