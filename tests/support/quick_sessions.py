"""Sessions of Kedro that do once per process what they would do anew each time."""

import pickle
import sys
from functools import cache
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import parse
import pytest
from dynaconf.loaders import py_loader
from dynaconf.utils import files as dynaconf_files
from kedro.config import OmegaConfigLoader
from kedro.io import catalog_config_resolver
from omegaconf import OmegaConf

REUSED = ("catalog", "globals", "parameters")  # not credentials, which environment variables decide


def quicken_sessions(patch: pytest.MonkeyPatch) -> None:
    """Have sessions parse and resolve conf/, and compile the patterns of the catalog, once.

    Nor do they look for ibis, which is not installed, or read the source code around each frame of the stack to know
    which file called.
    """

    def callers():
        frames = [sys._getframe(1)]
        while frames[-1].f_back:
            frames.append(frames[-1].f_back)
        return [SimpleNamespace(filename=frame.f_code.co_filename) for frame in frames]

    parse_file, resolve = OmegaConf.load, OmegaConfigLoader.__getitem__
    parsed, resolved = {}, {}

    def once(results, state, make):
        if state not in results:
            results[state] = pickle.dumps(make())
        return pickle.loads(results[state])

    def load(file):
        if not isinstance(file, StringIO):
            return parse_file(file)
        return once(parsed, file.getvalue(), lambda: parse_file(file))

    def get(loader, key):
        if key in loader.data or key not in REUSED or not Path(loader.conf_source).is_dir():
            return resolve(loader, key)
        environments = (loader.base_env, loader.env or loader.default_run_env)
        files = [
            (file.name, str(file.parent.relative_to(loader.conf_source)), file.read_bytes())
            for environment in environments
            for file in sorted(Path(loader.conf_source, environment).rglob("*.yml"))
        ]
        given = loader.runtime_params or {}
        given = str(given if key == "parameters" else given.get("service"))  # the catalog names service.folder
        set_globals = str(loader.data.get("globals"))  # by a cell of a study
        state = (key, environments, str(loader.merge_strategy), given, set_globals, *files)
        return once(resolved, state, lambda: resolve(loader, key))

    compiled = cache(parse.compile)
    patch.setattr(OmegaConf, "load", load)
    patch.setattr(OmegaConfigLoader, "__getitem__", get)
    patch.setattr(catalog_config_resolver, "parse", lambda pattern, name: compiled(pattern).parse(name))
    patch.setitem(sys.modules, "ibis", None)
    for module in (py_loader, dynaconf_files):
        patch.setattr(module, "inspect", SimpleNamespace(stack=callers))
