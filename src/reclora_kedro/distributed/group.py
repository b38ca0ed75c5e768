"""Groups of processes that train together: each takes its share of every step, and gradients are summed."""

import pickle
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, multiprocessing

from kedro_provenance.files.lifetime import end_with_parent
from kedro_provenance.files.scratch import scratch_folder
from reclora_kedro.devices import keep_freed_memory

R = TypeVar("R")

PATIENCE = timedelta(minutes=30)  # with a member that has not joined, or not reached the same sum


class Group:
    """The processes that train together; outside :func:`train_as_member`, this process alone.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.

    Examples:
        >>> group = Group()
        >>> group.rank, group.size, group.sum(torch.ones(2)), group.gather(torch.ones(2))
        (0, 1, tensor([1., 1.]), tensor([[1., 1.]]))
    """

    def __init__(self) -> None:
        joined = distributed.is_available() and distributed.is_initialized()
        self.rank = distributed.get_rank() if joined else 0
        self.size = distributed.get_world_size() if joined else 1

    def sum(self, values: Tensor) -> Tensor:
        """Replace values, of the same shape in all processes, by their sum over the processes; return them."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values

    def sum_gradients(self, weights: Iterable[Tensor]) -> None:
        """Give each weight the sum of the processes' gradients; one that no process has a gradient of keeps none."""
        if self.size == 1:
            return
        weights = list(weights)
        has_gradient = torch.tensor([float(weight.grad is not None) for weight in weights], device=weights[0].device)
        gradients = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]
        summed = self.sum(torch.cat([has_gradient, *(gradient.flatten() for gradient in gradients)]))
        has_gradient, *gradients = summed.split([len(weights), *(weight.numel() for weight in weights)])
        for weight, has, gradient in zip(weights, has_gradient, gradients, strict=True):
            weight.grad = gradient.view_as(weight) if has else None

    def gather(self, values: Tensor) -> Tensor:
        """The values of every process, in order of rank: shape (size, *values.shape)."""
        if self.size == 1:
            return values[None]
        gathered = [torch.empty_like(values) for _ in range(self.size)]
        distributed.all_gather(gathered, values)
        return torch.stack(gathered)


def train_as_member(train: Callable[[], R], store: Any, rank: int, size: int) -> R | None:
    """Call a function as one process of a :class:`Group`; return its result in the first process, None in the others.

    Tensors on a CPU are summed by gloo, those on GPUs by NCCL.

    Args:
        train: what every member calls at once.
        store: a store of ``torch.distributed``, in which the members meet.
        rank: number of this process, from 0.
        size: number of processes.
    """
    keep_freed_memory()
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
    result = train()
    distributed.destroy_process_group()  # not after an error: the others may still wait for this process
    return result if rank == 0 else None


def train_in_processes(train: Callable[[], R], processes: int, step: str) -> R:
    """Return the result of a function that several new processes of this machine call at once, as a :class:`Group`.

    They share this process's threads, take one GPU each where there are GPUs, and end with this process.

    Args:
        train: called by each process; the first one's result is returned. It is pickled on its way.
        processes: their number.
        step: what the work is called in messages.

    Raises:
        RuntimeError: a process failed; the message holds the reason of the first that did.
    """
    with scratch_folder() as folder:
        threads = max(1, torch.get_num_threads() // processes)
        try:
            multiprocessing.spawn(_member, (pickle.dumps(train), processes, threads, folder), nprocs=processes)
        except (multiprocessing.ProcessRaisedException, multiprocessing.ProcessExitedException) as error:
            reason = str(error).strip().splitlines()[-1]
            raise RuntimeError(f"{step} in {processes} processes failed: {reason}") from error
        return pickle.loads(Path(folder, "result").read_bytes())


def _member(rank: int, train: bytes, processes: int, threads: int, folder: str) -> None:
    end_with_parent()
    torch.set_num_threads(threads)
    if rank < torch.cuda.device_count():
        torch.cuda.set_device(rank)
    store = distributed.FileStore(f"{folder}/group", processes)
    result = train_as_member(pickle.loads(train), store, rank, processes)
    if rank == 0:
        Path(folder, "result").write_bytes(pickle.dumps(result))
