"""The engine of the heavy steps: this process, or the workers of a Ray cluster.

Steps map a function over shards of their rows (`map_shards`), or train data-parallel in ``torch.distributed``
(`train_together`). Only this module knows Ray.
"""

import logging
import mmap
import os
import pickle
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cached_property, partial
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Generic, Literal, Self, TypeVar
from weakref import WeakValueDictionary

import numpy as np
from threadpoolctl import threadpool_limits

from kedro_provenance.files.atomic import note_full_disk
from kedro_provenance.files.scratch import end_with_parent, scratch_folder
from kedro_provenance.parameters import Block, Resource
from reclora_kedro.extras import install_line
from reclora_kedro.parameters import MAX_INT32, Count, NonNegative, Positive
from reclora_kedro.progress import Progress

if TYPE_CHECKING:
    from reclora_kedro.distributed.group import Group

S = TypeVar("S")
R = TypeVar("R")
T = TypeVar("T")

MAX_FAILURES = 3  # retries of a shard whose worker is lost, and of a group that loses a worker
SHARDS_PER_CORE = 2  # from which on processes start, each of which takes some seconds until it works
LEAST_BYTES = 2**16  # of an array that processes map from a file; smaller ones are pickled
ALIGNMENT = 64  # bytes, of such an array in its file
MAKE_ROOM_AFTER = 30  # seconds without a result; a finished worker then ends, as a lost one may wait for its place

Place = tuple[str, int, int]  # path of a file, first byte of an array in it, and the byte after its last one

_files: WeakValueDictionary[str, mmap.mmap] = WeakValueDictionary()  # that this process has mapped, by path
_idle: list[Any] = []  # workers without GPUs, kept for the next map, since starting one takes seconds


class EngineConfig(Block):
    """Settings of the engine."""

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
        return self.kind == "ray"

    @property
    def uses_gpus(self) -> bool:
        return self.gpus_per_worker > 0

    def here(self) -> Self:
        """Return an engine of this process, for a step whose rows are in memory already."""
        return self.model_copy(update={"kind": "local"})

    def require_scratch(self) -> None:
        """Raise NotADirectoryError if the scratch folder does not exist."""
        if self.scratch is not None and not Path(self.scratch).is_dir():
            raise NotADirectoryError(
                f"engine.scratch is {self.scratch!r}, which is not a folder on this machine: create it, on a disk that "
                "all workers share, or set it to null for a temporary folder."
            )

    def require_parts(self, parts: int, block: str) -> None:
        """Raise ValueError if more workers train than the `batch_parts` of a block of parameters."""
        if self.spreads and parts < self.workers:
            raise ValueError(
                f"{block}.batch_parts is {parts}, but engine.workers is {self.workers}, and each worker takes at least "
                "one part of a batch: raise batch_parts, ideally to a multiple of engine.workers."
            )

    def shards(self, rows: int) -> list[np.ndarray]:
        """Split row numbers into at least one shard of similar sizes, independently of the number of workers.

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
    """A function of a shard that each worker makes by `make` at its first shard, such as loading a model.

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
        return self._work(shard)


def map_shards(
    work: Callable[[S], R], shards: Sequence[S], engine: EngineConfig, step: str, *, one_thread: bool = False
) -> Iterator[R]:
    """Yield the results of a function of each shard, in order, with a progress bar.

    On Ray, the function, shards and results are pickled (see `OncePerWorker` for what cannot be); each worker receives
    the function once, and the shards of a lost worker are run by others. Workers without GPUs stay for the next map.
    Without Ray, processes on all cores share many shards of a function that uses `one_thread`; they map its arrays into
    memory, which they share, from a file.

    ShardError names step, shard and cause if a shard failed on a worker, or the cluster was lost. See also `connect`.

    Examples:
        >>> list(map_shards(sum, [[1, 2], [3]], LOCAL, "add"))
        [3, 3]
    """
    results: Iterator[R] = map(work, shards)
    if shards and engine.spreads:
        results = _map_on_ray(work, shards, engine, step)
    elif one_thread and (processes := _processes(shards, engine)) > 1:
        results = _map_on_cores(work, shards, engine, processes)
    with Progress(step, len(shards), "shards", shown=len(shards) > 1) as progress:  # a single shard shows its own bar
        for result in results:
            progress.update()
            yield result


def train_together(train: "Callable[[Group], R]", engine: EngineConfig, step: str) -> R:
    """Call a function with a `Group`: this process, or all workers of a Ray; return the first one's result.

    The function is pickled. A group that loses a worker starts again, up to three times, from its checkpoints if any.
    ShardError names step and cause if the function failed on a worker, or the cluster was lost. See also `connect`.
    """
    if not engine.spreads:
        from reclora_kedro.distributed.group import ALONE

        return train(ALONE)
    ray = connect(engine)
    free_workers()
    for failures_left in reversed(range(1 + MAX_FAILURES)):
        try:
            result = _train_group(ray, train, engine)
        except ray.exceptions.RayError as error:
            if not failures_left:
                raise ShardError(_lost(step, error)) from error
        else:
            if not (failures_left and isinstance(result, _Failure) and result.may_be_lost_worker):
                return _unless_failed(result, f"{step}, in one of {engine.workers} workers,")
    raise AssertionError


def connect(engine: EngineConfig) -> Any:
    """Return the module ``ray``, connected to the cluster at the address, or to one started on this machine.

    ImportError is raised without Ray, ConnectionError without a cluster, ValueError for one too small for the workers.
    """
    if find_spec("ray") is None:
        raise ImportError(
            f"engine.kind is 'ray', but Ray is not installed: `{install_line('ray')}`, or set engine.kind to local."
        )
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # else Ray's internal messages mix with the run's log
    os.environ.setdefault("RAY_worker_niceness", "0")  # at Ray's default of 15, other processes starve the workers
    import ray

    if not ray.is_initialized():
        _idle.clear()
        cores = None if engine.address else max(1, round(engine.workers * engine.cpus_per_worker))
        variables = {
            "POLARS_MAX_THREADS": str(max(1, round(engine.cpus_per_worker))),
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # else workers without GPUs would all take the node's first one
        }
        try:
            ray.init(
                engine.address or "local",
                num_cpus=cores,
                include_dashboard=None if engine.address else False,
                runtime_env={"env_vars": variables},
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ConnectionError(
                f"No Ray cluster answers at engine.address {engine.address!r} ({error}). Start one there, "
                "correct the address, or set it to null for a Ray on this machine."
            ) from error
    resources = ray.cluster_resources()
    for kind, each in (("CPU", engine.cpus_per_worker), ("GPU", engine.gpus_per_worker)):
        if resources.get(kind, 0) < engine.workers * each:
            raise ValueError(
                f"engine requests {engine.workers} workers with {each:g} {kind}s each, but the Ray cluster has "
                f"{resources.get(kind, 0):g} {kind}s: lower engine.workers or engine.{kind.lower()}s_per_worker."
            )
    return ray


def free_workers() -> None:
    """End the workers that are kept for the next map."""
    import ray

    while _idle:
        ray.kill(_idle.pop())


class _Worker:
    """A Ray actor that keeps the function of its last shard, and returns failures as results.

    An exception would make Ray retry the shard, which would fail again.
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
        max_task_retries=-1 if failures else 0,  # max_restarts bounds the retries
    )(_Worker)
    return [actor.remote() for _ in range(count)]


def _train_group(ray: Any, train: "Callable[[Group], R]", engine: EngineConfig) -> Any:
    """Return the result of the first worker of a group, or the first failure; end all workers."""
    from torch.distributed import TCPStore

    address = ray.util.get_node_ip_address()
    store = TCPStore(address, 0, is_master=True, wait_for_workers=False)
    work = ray.put(partial(_join, train, address, store.port, engine.workers))
    workers = _start_workers(ray, engine.workers, engine, failures=0)
    try:
        results = [worker.run.remote([work], rank) for rank, worker in enumerate(workers)]
        pending = results
        while pending:
            [finished], pending = ray.wait(pending)
            if isinstance(result := ray.get(finished), _Failure):
                return result
        return ray.get(results[0])
    finally:
        for worker in workers:
            ray.kill(worker)


def _join(train: "Callable[[Group], R]", address: str, port: int, size: int, rank: int) -> R | None:
    from torch.distributed import TCPStore

    from reclora_kedro.distributed.group import TIMEOUT, train_as_member

    return train_as_member(train, TCPStore(address, port, timeout=TIMEOUT), rank, size)


@contextmanager
def in_files(value: T, engine: EngineConfig, rows: int) -> Iterator[T]:
    """Yield a copy of what a function of `map_shards` reads, with its large arrays in a file that processes share.

    If the caller lets go of the value, memory holds the arrays once. Where `rows` are too few for processes, the value
    itself is yielded.
    """
    if _processes(engine.shards(rows), engine) == 1:
        yield value
        return
    with _written(value, engine) as folder:
        del value
        yield read_mapped(folder)


@contextmanager
def _written(value: Any, engine: EngineConfig) -> Iterator[Path]:
    with scratch_folder(engine.scratch) as folder:
        try:
            write_mapped(value, Path(folder))
        except OSError as error:
            note_full_disk(error, Path(folder), "Name a folder with more room in engine.scratch.")
            raise
        del value
        yield Path(folder)


def write_mapped(value: Any, folder: Path) -> None:
    """Write a value to an empty folder, for `read_mapped`; arrays that were read from another folder stay there."""
    path, places = folder / "arrays", list[Place]()
    with path.open("wb") as file:

        def keep(buffer: pickle.PickleBuffer) -> bool:
            raw = buffer.raw()
            if raw.nbytes < LEAST_BYTES:
                return True  # pickle it
            places.append(_place(raw) or _append(raw, file))
            return False

        content = pickle.dumps(value, pickle.HIGHEST_PROTOCOL, buffer_callback=keep)
    with (folder / "value").open("wb") as file:
        pickle.dump((places, content), file)


def read_mapped(folder: Path) -> Any:
    """Return the value of a folder that this machine wrote; its large arrays are read-only, and in files."""
    with (folder / "value").open("rb") as file:
        places, content = pickle.load(file)
    files = {path: _mapped(path) for path, *_ in places}
    return pickle.loads(content, buffers=[files[path][start:end] for path, start, end in places])


def _mapped(path: str) -> memoryview:
    memory = _files.get(path)
    if memory is None:
        with Path(path).open("rb") as file:
            memory = _files[path] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return memoryview(memory)


def _append(raw: memoryview, file: BinaryIO) -> Place:
    file.write(bytes(-file.tell() % ALIGNMENT))
    start = file.tell()
    file.write(raw)
    return file.name, start, file.tell()


def _place(raw: memoryview) -> Place | None:
    """Return where bytes are in a file that this process has mapped; None if they are in none."""
    address = _address(raw)
    for path, memory in _files.items():
        start = address - _address(memory)
        if 0 <= start < len(memory):
            return path, start, start + raw.nbytes
    return None


def _address(buffer: memoryview | mmap.mmap) -> int:
    return np.frombuffer(buffer, np.uint8).ctypes.data


@contextmanager
def process_pool(processes: int, begin: Callable[..., None], *arguments: Any) -> Iterator[ProcessPoolExecutor]:
    """Give processes that share this machine's cores, end with this process, and have called `begin`.

    Those of joblib would end, with what they keep, once they have read 300 MB of a file, which they take for a leak.
    """
    pool = ProcessPoolExecutor(processes, get_context("spawn"), _begin_process, (processes, begin, *arguments))
    with pool:
        try:
            yield pool
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _begin_process(processes: int, begin: Callable[..., None], *arguments: Any) -> None:
    end_with_parent()
    if processes > 1:
        threads = max(1, _cores() // processes)
        if find_spec("torch"):
            import torch

            threads = min(torch.get_num_threads(), threads)
            torch.set_num_threads(threads)
        threadpool_limits(threads)
    begin(*arguments)


def _cores() -> int:
    """Return the number of cores that this process may use, also within the quota of a container."""
    from joblib import cpu_count

    return cpu_count()


def _processes(shards: Sequence[S], engine: EngineConfig) -> int:
    """Return the number of processes of this machine among which shards of one thread are worth sharing."""
    cores = 1 if engine.spreads else _cores()
    return cores if len(shards) >= SHARDS_PER_CORE * cores else 1


def _map_on_cores(work: Callable[[S], R], shards: Sequence[S], engine: EngineConfig, processes: int) -> Iterator[R]:
    with _written(work, engine) as folder, process_pool(processes, _begin, folder) as pool:
        yield from pool.map(_run_kept, shards)


_kept: Callable[[Any], Any]


def _begin(folder: Path) -> None:
    """Load the function, whose arrays stay in the file."""
    global _kept
    Progress.hidden = True  # the process that waits for the shards shows how many are done
    _kept = read_mapped(folder)


def _run_kept(shard: Any) -> Any:
    return _kept(shard)


def _map_on_ray(work: Callable[[S], R], shards: Sequence[S], engine: EngineConfig, step: str) -> Iterator[R]:
    """Map over shards with one thread per worker, which hands it one shard after the other."""
    ray = connect(engine)
    reference = ray.put(work)  # held until the end, since a restarted worker reads it again
    count = min(engine.workers, len(shards))
    workers = [_idle.pop() for _ in range(min(count, len(_idle)))]
    workers += _start_workers(ray, count - len(workers), engine, MAX_FAILURES)
    finished: list[Any] = []
    results: dict[int, Future[R]] = {place: Future() for place in range(len(shards))}
    queue = iter(range(len(shards)))

    def serve(worker: Any) -> None:
        for place in queue:
            result = results[place]
            try:
                result.set_result(ray.get(worker.run.remote([reference], shards[place])))
            except Exception as error:
                result.set_exception(error)
                return
        finished.append(worker)

    threads = ThreadPoolExecutor(len(workers))
    for worker in workers:
        threads.submit(serve, worker)
    try:
        for place in range(len(shards)):
            while not wait([results[place]], MAKE_ROOM_AFTER).done:
                if finished:  # a worker lost with its node may need the CPUs of a finished one
                    ray.kill(finished.pop())
            yield _result(results[place], f"{step}, shard {place + 1} of {len(shards)}")
            del results[place]  # frees the result in Ray's object store
    finally:
        deque(queue, maxlen=0)  # empty the queue, so that the threads end
        keep = not results and not engine.uses_gpus
        for worker in () if keep else workers:
            ray.kill(worker)
        threads.shutdown()
        for worker in finished if keep else ():
            worker.forget.remote()
            _idle.append(worker)


def _result(future: Future[R], where: str) -> R:
    from ray.exceptions import RayError

    try:
        return _unless_failed(future.result(), where)
    except RayError as error:
        raise ShardError(_lost(where, error)) from error


class _Failure:
    """The picklable cause of a failure on a worker."""

    def __init__(self, error: Exception) -> None:
        self.cause = f"{type(error).__name__}: {error}"
        # torch reports a lost peer by a Dist* error, or for Gloo by a RuntimeError that names it.
        is_dist_error = type(error).__module__.startswith("torch") and type(error).__name__.startswith("Dist")
        self.may_be_lost_worker = is_dist_error or (isinstance(error, RuntimeError) and "gloo" in str(error).lower())


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


def _lost(step: str, error: Exception) -> str:
    text = str(getattr(error, "cause", None) or error)  # a failed task's own message holds the traceback of Ray
    lines = [line.strip() for line in re.sub(r"\x1b\[\d+m", "", text).splitlines() if line.strip()]
    return (
        f"{step} could not be completed on the Ray cluster: {' '.join(lines[:2]).rstrip('.')}. No partial result was "
        "kept. If workers ran out of memory, lower engine.workers, engine.rows_per_part or tokens_per_batch, then run "
        "the same command again."
    )
