"""Data-parallel training: each process takes its share of every step, and gradients are summed."""

import pickle
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, multiprocessing

from kedro_provenance.files.scratch import end_with_parent, scratch_folder
from reclora_kedro.devices import keep_freed_memory

R = TypeVar("R")

TIMEOUT = timedelta(minutes=30)  # for a process to join or to reach a collective operation


@dataclass(frozen=True)
class Group:
    """The processes that train together, of which this is one; by default, this process alone.

    Examples:
        >>> group = Group()
        >>> group.rank, group.size, group.sum(torch.ones(2)), group.gather(torch.ones(2))
        (0, 1, tensor([1., 1.]), tensor([[1., 1.]]))
    """

    rank: int = 0
    size: int = 1

    def sum(self, values: Tensor) -> Tensor:
        """Sum values of one shape over the processes in place, and return them."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values

    def sum_gradients(self, weights: Iterable[Tensor]) -> None:
        """Set each weight's gradient to the sum over the processes; None where no process has one."""
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
        """Return the values of every process, in order of rank: shape (size, *values.shape)."""
        if self.size == 1:
            return values[None]
        gathered = [torch.empty_like(values) for _ in range(self.size)]
        distributed.all_gather(gathered, values)
        return torch.stack(gathered)


ALONE = Group()


def train_as_member(train: Callable[[Group], R], store: Any, rank: int, size: int) -> R | None:
    """Call `train` with a :class:`Group` of which this process is one; return its result in process 0, else None.

    `store` is the ``torch.distributed`` store in which the processes meet. CPU tensors are summed by gloo, GPU tensors
    by NCCL.
    """
    keep_freed_memory()
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)
    result = train(Group(rank, size))
    distributed.destroy_process_group()  # not after an error: the others may still wait for this process
    return result if rank == 0 else None


def train_in_processes(train: Callable[[Group], R], processes: int, step: str) -> R:
    """Call `train`, which is pickled, with a :class:`Group` of new processes; return the result of process 0.

    The processes share this process's threads, take one GPU each where there are GPUs, and end with this process.
    RuntimeError names the step and the reason of the first failure.
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
