"""Processes that begin with all imports done: they are forked from a server that has made them.

A process that starts from nothing takes ten seconds for PyTorch, transformers and PEFT alone.
"""

from functools import partial
from multiprocessing import get_context

import torch

from fork_server import join_server

FORKED = get_context("forkserver")
join_server()
fork_groups = partial(torch.multiprocessing.start_processes, start_method="forkserver")  # in place of `spawn`


def exit_code(function, *arguments, **named):
    """Call a function in a process of its own; what that ends with, the number of a signal below 0."""
    process = FORKED.Process(target=function, args=arguments, kwargs=named)
    process.start()
    process.join(timeout=300)
    return process.exitcode


def execute(source, group):
    """What a process of a group does: run this source."""
    exec(source)
