"""How steps are written: nodes named after their functions, in a namespace that leaves entries their names."""

from collections.abc import Callable, Collection, Mapping
from functools import wraps
from typing import Any

from kedro.io.core import is_parameter
from kedro.pipeline import Node, Pipeline
from rich.console import RenderableType

from reclora_kedro.terminal import show

Entries = str | list[str] | dict[str, str] | None


def node(function: Callable[..., Any], inputs: Entries, outputs: Entries, **options: Any) -> Node:
    """Return a node with the name of its function, unless `options` of Kedro's ``Node`` have another one."""
    return Node(function, inputs, outputs, **{"name": function.__name__} | options)


def shown(name: str, tabulate: Callable[..., RenderableType], inputs: Entries) -> Node:
    """Return the node of this name that prints what a function tabulates of its inputs."""

    @wraps(tabulate)
    def show_tables(*read: Any) -> None:
        show(tabulate(*read))

    return node(show_tables, inputs, None, name=name)


def params(*paths: str) -> list[str]:
    return [f"params:{path}" for path in paths]


def named(*entries: str, **renamed: str) -> dict[str, str]:
    """Return inputs by argument: entries with the name of theirs, and others.

    Examples:
        >>> named("log", config="params:lens")
        {'log': 'log', 'config': 'params:lens'}
    """
    return dict(zip(entries, entries, strict=True)) | renamed


def step(namespace: str, *nodes: Node) -> Pipeline:
    """Return the nodes of a step."""
    return Pipeline(nodes, namespace=namespace, prefix_datasets_with_namespace=False)


def in_namespace(namespace: str, nodes: list[Node], renamed: Mapping[str, str], own: Collection[str] = ()) -> Pipeline:
    """Put nodes and their outputs into a namespace; of inputs, those in `own`, as others are shared between steps."""
    free = Pipeline(nodes)
    names = {entry: entry for entry in free.inputs() - {*own}} | dict(renamed)
    read = free.inputs() & names.keys()
    return Pipeline(
        nodes,
        namespace=namespace,
        inputs={entry: names[entry] for entry in read if not is_parameter(entry)},
        outputs={entry: names[entry] for entry in free.outputs() & names.keys()},
        parameters={entry: names[entry] for entry in read if is_parameter(entry)},
    )
