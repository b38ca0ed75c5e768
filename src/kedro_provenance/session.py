"""Kedro's configuration loader, context and session with additions of the plug-in; each is optional."""

from collections.abc import Collection
from contextlib import chdir
from copy import deepcopy
from functools import reduce
from glob import has_magic
from io import StringIO
from itertools import chain
from operator import getitem
from pathlib import Path
from typing import Any

import yaml
from kedro.config import MissingConfigException, OmegaConfigLoader
from kedro.framework.context import CatalogCommandsMixin, compose_classes
from kedro.framework.session import KedroSession
from kedro.io import CatalogProtocol, DatasetError
from kedro.pipeline import Pipeline
from kedro.runner import AbstractRunner, ParallelRunner, SequentialRunner
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic_core import to_jsonable_python

from kedro_provenance.catalog import AtomicCatalog
from kedro_provenance.datasets import reusable
from kedro_provenance.entries import ConfiguredCatalog
from kedro_provenance.failures import RunRefusedError, modules_of
from kedro_provenance.kedro_internals import TypedContext, catalog_of, is_async, most_workers
from kedro_provenance.parameters import soft_merge, with_copies
from kedro_provenance.project import of_hooks
from kedro_provenance.runner import IncrementalRunner, ProcessRunner
from kedro_provenance.terminal import leave_out_unwritable_logs

OWN_KINDS = ("catalog", "globals", "parameters")  # others, such as `mlflow`, are asked for by other plug-ins


class CachingConfigLoader(OmegaConfigLoader):
    """Reads the files of each kind once; Kedro and the start of a run need parameters and globals several times.

    Entries of parameters may be copies of others, see `kedro_provenance.parameters.copied`. Entries of the catalog may
    name a parameter, such as ``${parameter:service.journal}``, and files next to the configuration, such as
    ``${conf:base/prompts}``.

    Args:
        named_blocks: paths of the blocks of parameters whose entries have names of the user's choice.
        below_base: folders with further parameters and catalog entries, such as those of installed packages; the
            project's own override these.
    """

    def __init__(
        self, *args: Any, named_blocks: Collection[str] = (), below_base: Collection[Path] = (), **kwargs: Any
    ) -> None:
        self.named_blocks, self.below_base = named_blocks, below_base
        super().__init__(*args, **kwargs)

    def __getitem__(self, key: str) -> dict[str, Any]:
        """A copy of the configuration of a kind, such as ``parameters``; what is wrong with files is refused."""
        if key not in self:
            if key in OWN_KINDS:
                self._require_readable()
            try:
                if key in OWN_KINDS and self._is_no_environment():
                    raise ValueError(
                        f"{self.conf_source}/{self.env} has no file of parameters, globals, catalog or credentials, "
                        "so it is not an environment: correct --env"
                    )
                if key == "catalog":
                    OmegaConf.register_new_resolver("parameter", self._parameter, replace=True)  # of this session
                    OmegaConf.register_new_resolver("conf", self._file, replace=True)
                settings = super().__getitem__(key)
                if key == "parameters":
                    settings = soft_merge(self._below_base(key, self.runtime_params), settings)
                if key == "catalog":
                    below = self._below_base(key)
                    settings = {name: below[name] for name in below if not name.startswith("_")} | settings
                self[key] = with_copies(settings, self.named_blocks) if key == "parameters" else settings
            except MissingConfigException as error:
                folder = Path(self.conf_source)
                has_environment = (folder / (self.env or self.default_run_env)).is_dir()
                if key not in OWN_KINDS or has_environment or not folder.is_dir():
                    raise
                raise RunRefusedError(f"{error}. Correct --env. Nothing was written.") from error
            except yaml.YAMLError as error:
                file = str(error).partition(", unable to read")[0]  # what follows counts lines from 0
                mark = getattr(error.__cause__, "problem_mark", None)
                place = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
                problem = getattr(error.__cause__, "problem", None) or error.__cause__
                raise RunRefusedError(f"{file}: {problem}{place}. Correct the file. Nothing was written.") from error
            except (OmegaConfBaseException, ValueError) as error:
                raise RunRefusedError(f"The {key} cannot be read: {error}. Nothing was written.") from error
            if key == "globals" and not (isinstance(data := settings.get("data", "data"), str) and data):
                raise RunRefusedError(
                    f"The globals have {data!r} as `data`; expected the folder where runs save their results, such as "
                    "data/mine. Correct globals.yml. Nothing was written."
                )
        return deepcopy(super().__getitem__(key))

    def _parameter(self, path: str) -> Any:
        return reduce(getitem, path.split("."), self["parameters"])

    def _file(self, path: str) -> str:
        if not Path(self.conf_source).is_dir():
            raise ValueError(
                f"it reads {path} of the configuration, and {self.conf_source} is an archive: unpack it, and name its "
                "folder with --conf-source"
            )
        return str(Path(self.conf_source).absolute() / path)

    def _below_base(self, key: str, *others: Any) -> dict[str, Any]:
        """Return the configuration of a kind in the folders below base, merged with `others`."""
        texts = (file.read_text("utf-8") for folder in self.below_base for file in sorted(folder.glob(f"{key}*.yml")))
        merged = OmegaConf.merge({}, *(OmegaConf.load(StringIO(text)) for text in texts), *others)
        resolved: Any = OmegaConf.to_container(merged, resolve=True)
        return resolved

    def _require_readable(self) -> None:
        """Raise RunRefusedError if Kedro would find no file in the configuration, and read none without a word."""
        source = Path(self.conf_source)
        if has_magic(str(source.absolute())):
            raise RunRefusedError(
                f"{source.absolute()} has one of the characters * ? [ in its path, which Kedro reads as a pattern of "
                "files. Move or rename the folder. Nothing was written."
            )
        if not source.is_file() and not (source / self.base_env).is_dir():
            raise RunRefusedError(
                f"There is no configuration: {source.absolute()} has no folder {self.base_env!r}. Change to the "
                "project, or name the configuration folder or its archive with --conf-source. Nothing was written."
            )

    def _is_no_environment(self) -> bool:
        """Return whether the named environment is a folder without any configuration, such as one of other files."""
        folder = Path(self.conf_source, self.env or self.default_run_env)
        if not self.env or self.env in (self.base_env, self.default_run_env) or not folder.is_dir():
            return False
        patterns = chain.from_iterable(self.config_patterns.values())
        return not any(path.is_file() for pattern in patterns for path in folder.glob(pattern))


class CatalogCommands(CatalogCommandsMixin):
    """The commands of Kedro, with output that is plain YAML."""

    def resolve_patterns(self: Any, pipelines: list[Pipeline] | None = None) -> dict[str, Any]:
        """Return the configuration of each dataset as in a catalog file; Kedro's own method leaves objects in it."""
        resolved = {
            name: {key: value for key, value in reusable(config).items() if key != "data"}
            for name, config in CatalogCommandsMixin.resolve_patterns(self, pipelines).items()
        }
        return to_jsonable_python(resolved, fallback=str)


class AtomicContext(TypedContext):
    """A context with the catalog of runs, also in notebooks and kedro-viz, for which Kedro takes its own."""

    @property
    def catalog(self) -> CatalogProtocol:
        """The catalog."""
        return catalog_of(self, compose_classes(AtomicCatalog, CatalogCommands))


class ResumingSession(KedroSession):
    """A session that runs with `IncrementalRunner`: a repeated command continues an interrupted one."""

    def run(self, *args: Any, runner: AbstractRunner | None = None, **kwargs: Any) -> dict[str, Any]:
        """Run pipelines as ``KedroSession.run`` does, by IncrementalRunner, with addresses relative to the project."""
        if runner is None or type(runner) is SequentialRunner:
            runner = IncrementalRunner(is_async(runner))
        elif type(runner) is ParallelRunner and not of_hooks("late_tags"):
            runner = ProcessRunner(most_workers(runner))
        try:
            leave_out_unwritable_logs()
            with chdir(self.store["project_path"]):
                # mypy cannot see that positional arguments never reach as far as the runner.
                return super().run(*args, **kwargs, runner=runner)  # type: ignore[misc]
        except (ValueError, KeyError, DatasetError) as error:
            modules = modules_of(error)
            of_catalog = AtomicCatalog.__module__, ConfiguredCatalog.__module__
            of_kedro = modules[-1].startswith("kedro.") or modules[-1] in of_catalog
            if of_kedro and "kedro.runner.runner" not in modules:
                message = " ".join(str(error.args[0]).split())
                raise RunRefusedError(f"{message.rstrip('.')}. Nothing was written.") from error
            raise
