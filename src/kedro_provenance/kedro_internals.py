"""The private names of Kedro 1.0 to 1.7 that the plug-in needs, each with the reason why no public one serves.

An update of Kedro that changes one of them breaks this file and no other.
"""

import inspect
from collections import Counter
from collections.abc import Collection
from contextlib import AbstractContextManager
from functools import partial, update_wrapper
from itertools import chain
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

from kedro.config import AbstractConfigLoader, MissingConfigException
from kedro.framework import project
from kedro.framework.context import KedroContext
from kedro.framework.hooks.manager import _create_hook_manager, _register_hooks
from kedro.framework.project import pipelines, settings
from kedro.io import AbstractDataset, CatalogProtocol, DataCatalog, DatasetError
from kedro.io.core import VersionNotFoundError, is_parameter, parse_dataset_definition
from kedro.pipeline import Node, Pipeline
from kedro.runner import AbstractRunner, ParallelRunner, SequentialRunner, ThreadRunner
from kedro.runner.task import Task

from kedro_provenance.datasets import at_local_path
from kedro_provenance.files.storage import is_remote, storage_options
from kedro_provenance.remote_versions import RemoteVersions

try:
    from kedro.validation import ParameterValidator, TypeExtractor
except ImportError:
    # Before Kedro 1.3, parameters have no types: the classes below are defined, and never used. Of two definitions of a
    # name, mypy takes the first.
    ParameterValidator = TypeExtractor = object  # type: ignore[misc, assignment]
HAS_TYPES = TypeExtractor is not object


class CatalogOfCopies(DataCatalog):
    """A catalog that reads versions in an object storage from copies of them in the user's cache.

    Entries of the catalog files and those that a pattern makes both pass `_add_from_config`, and nothing public.
    """

    def _add_from_config(self, ds_name: str, ds_config: dict[str, Any]) -> None:
        self._validate_dataset_config(ds_name, ds_config)
        if ds_config.get("versioned") and is_remote(ds_config.get("filepath")):
            versions = RemoteVersions(ds_config["filepath"], storage_options(ds_config))
            kind, _ = parse_dataset_definition({key: ds_config[key] for key in ("type", "versioned")})
            ds_config = at_local_path(ds_config, versions.folder) | {"type": reading_remote(versions, kind)}
        super()._add_from_config(ds_name, ds_config)


class NodeByNodeRunner(SequentialRunner):
    """A sequential runner with an overridable order of nodes and way to run each.

    Runners implement `_run`; `_suggest_resume_scenario` is what Kedro's own `_run` calls after an error.
    """

    def ordered(self, pipeline: Pipeline) -> list[Node]:
        """Return the nodes in the order to run them in."""
        return pipeline.nodes

    def run_node(self, task: Task, catalog: Any) -> None:
        """Run a node."""
        task.execute()

    def _run(self, pipeline: Pipeline, catalog: Any, hook_manager: Any = None, run_id: str | None = None) -> None:
        done: set[Node] = set()
        loads_left = Counter(chain.from_iterable(node.inputs for node in pipeline.nodes))
        inputs, outputs = pipeline.inputs(), pipeline.outputs()  # once: Kedro finds them anew each time
        for node in self.ordered(pipeline):
            try:
                self.run_node(Task(node, catalog, self._is_async, hook_manager, run_id), catalog)
            except Exception:
                if done:  # after an error of the first node, Kedro would advise to repeat the command, which is no help
                    self._suggest_resume_scenario(pipeline, done, catalog)
                raise
            done.add(node)
            loads_left.subtract(node.inputs)
            for name in {*node.inputs} - inputs | {*node.outputs} - outputs:
                if loads_left[name] < 1:
                    catalog.release(name)


class PreparingRunner(ThreadRunner):
    """A runner in threads of nodes that are prepared for each run; Kedro offers nothing around a run's nodes.

    Nodes that could not be sent to other processes are refused as `ParallelRunner` refuses them.
    """

    def prepared(self, pipeline: Pipeline, workers: int) -> AbstractContextManager[Pipeline]:
        """Return the nodes that run in place of those of a pipeline, as long as the context is held."""
        raise NotImplementedError

    def _run(self, pipeline: Pipeline, catalog: Any, hook_manager: Any = None, run_id: str | None = None) -> None:
        ParallelRunner._validate_nodes(pipeline.nodes)
        with self.prepared(pipeline, self._get_required_workers_count(pipeline)) as nodes:
            super()._run(nodes, catalog, hook_manager, run_id)


class TypesOfParameters(TypeExtractor):
    """Finds the types of the parameters that nodes read by the annotations of these arguments alone.

    Kedro evaluates all annotations of a function, and finds no type if one is imported for type checkers alone.
    """

    def _extract_types_from_node(self, node: Node) -> dict[str, type]:
        if inspect.isbuiltin(node.func):
            return {}
        given = zip(inspect.signature(node.func).parameters, node.inputs, strict=False)
        named = node._inputs.items() if isinstance(node._inputs, dict) else given
        arguments = {name: argument for argument, name in named if is_parameter(name)}
        function = update_wrapper(partial(node.func), node.func)
        annotations = getattr(node.func, "__annotations__", {})
        function.__annotations__ = {name: annotations[name] for name in arguments.values() if name in annotations}
        of_parameters: Any = SimpleNamespace(func=function, inputs=arguments)
        return super()._extract_types_from_node(of_parameters)


class TypedContext(KedroContext):
    """A context whose parameters have the types that `TypesOfParameters` finds.

    Kedro's own makes a validator with an extractor of its own, and takes no other one.
    """

    def _get_validated_params(self) -> dict[str, Any]:
        scope = self._pipelines_to_validate
        if self._validated_params_cache is None or self._cached_validation_scope != scope:
            try:
                parameters = self.config_loader["parameters"]
            except MissingConfigException:
                parameters = self._runtime_params or {}
            made = dict(pipelines) if scope is None else {name: pipelines[name] for name in scope}
            validator = ParameterValidator(made)
            validator.type_extractor = TypesOfParameters(made)
            self._validated_params_cache = validator.validate_raw_params(parameters)
            self._cached_validation_scope = scope
        return self._validated_params_cache


def names_in_dicts(node: Node) -> list[dict[str, str]]:
    """Return a node's inputs and outputs by argument and by key if they are given so; public lists name no keys."""
    return [each for each in (node._inputs, node._outputs) if isinstance(each, dict)]


def requested_names() -> list[str] | None:
    """Return the names given to ``pipelines.set_requested``, which Kedro keeps in a private attribute."""
    return getattr(pipelines, "_requested_pipelines", None)


def request_pipelines(names: Collection[str] | None) -> None:
    """Have Kedro make these pipelines, or all of them; earlier versions than 1.5 always make all."""
    if hasattr(pipelines, "set_requested"):
        pipelines.set_requested(None if names is None else [*names])


def is_async(runner: AbstractRunner | None) -> bool:
    """Return whether a runner loads and saves in threads, which is a private attribute."""
    return getattr(runner, "_is_async", False)


def most_workers(runner: ParallelRunner) -> int:
    """Return the number of processes that a runner was given, which is a private attribute."""
    return runner._max_workers


def catalog_of(context: KedroContext, kind: type) -> CatalogProtocol:
    """Return a context's catalog as one of another class: `context.catalog` is always a plain DataCatalog."""
    return context._get_catalog(kind)


def open_context(loader: AbstractConfigLoader, path: Path, env: str | None) -> KedroContext:
    """Return the context of a project with a configuration of its own; Kedro's sessions make one from the files alone.

    Its hooks are those of `settings.py`.
    """
    hook_manager = _create_hook_manager()
    _register_hooks(hook_manager, settings.HOOKS)
    context: KedroContext = settings.CONTEXT_CLASS(
        package_name=project.PACKAGE_NAME,
        project_path=path,
        config_loader=loader,
        env=env,
        hook_manager=hook_manager,
        runtime_params=getattr(loader, "runtime_params", None),
    )
    hook_manager.hook.after_context_created(context=context)
    return context


def reading_remote(versions: RemoteVersions, kind: type[AbstractDataset]) -> type[AbstractDataset]:
    """Return a type of datasets that finds its versions in an object storage, and fetches those to read.

    Kedro finds versions by listing folders of the dataset's own filesystem; it has no public way to list others.
    """

    # mypy takes no base class that is known only when the code runs; here it is the type that the entry names.
    class Reading(kind):  # type: ignore[misc, valid-type]
        remote_versions = versions

        def exists(self) -> bool:
            try:
                version = self.resolve_load_version()
            except VersionNotFoundError:
                return False
            return version is not None and versions.has(version)

        def _get_versions(self) -> list[str]:
            return [str(self._get_versioned_path(version)) for version in versions.all()]

        def _fetch_latest_load_version(self) -> str:
            if (newest := versions.newest) is None:
                raise VersionNotFoundError(f"Did not find any versions in {versions.address}")
            return newest

        def _get_load_path(self) -> PurePosixPath:
            path = super()._get_load_path()
            versions.fetch(path.parent.name)
            return path

        def _get_save_path(self) -> PurePosixPath:
            super()._get_save_path()  # which refuses a version that exists
            raise DatasetError(f"Data in {versions.address} are saved through the catalog: `catalog.save(name, data)`.")

    Reading.__name__, Reading.__qualname__, Reading.__module__ = kind.__name__, kind.__qualname__, kind.__module__
    return Reading
