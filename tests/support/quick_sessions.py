"""Sessions of Kedro that do once per process what they would do anew each time."""

import pickle
import re
import sys
from copy import deepcopy
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

from kedro_provenance.session import CachingConfigLoader, soft_merge

REUSED = ("catalog", "globals", "parameters")  # not credentials, which environment variables decide
REFERENCE = re.compile(rb"\$\{(?!globals:)")  # to what may be a runtime parameter
REPLACED = (OmegaConf, "load"), (OmegaConfigLoader, "__getitem__"), (CachingConfigLoader, "_below_base")
ORIGINALS = [getattr(*place) for place in REPLACED]


def as_users_have(patch: pytest.MonkeyPatch) -> None:
    """Have sessions read conf/ as those of users do."""
    for place, function in zip(REPLACED, ORIGINALS, strict=True):
        patch.setattr(*place, function)


def quicken_sessions(patch: pytest.MonkeyPatch) -> None:
    """Have sessions parse and resolve conf/, and compile the patterns of the catalog, once.

    A run's own parameters are merged with the resolved ones of conf/, which refer to no parameter.

    Nor do they look for ibis, which is not installed, or read the source code around each frame of the stack to know
    which file called.
    """

    def callers():
        frames = [sys._getframe(1)]
        while frames[-1].f_back:
            frames.append(frames[-1].f_back)
        return [SimpleNamespace(filename=frame.f_code.co_filename) for frame in frames]

    parse_file, resolve, resolve_below = ORIGINALS
    parsed, resolved, resolved_below = {}, {}, {}

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
        files = {
            str(file.relative_to(loader.conf_source)): file.read_bytes()
            for environment in environments
            for file in sorted(Path(loader.conf_source, environment).rglob("*.yml"))
        }
        set_globals = str(loader.data.get("globals"))  # by a cell of a study
        state = (key, environments, str(loader.merge_strategy), set_globals, *files.items())
        if key == "parameters":
            texts = [text for name, text in files.items() if "catalog" not in name]
            return merged(loader, texts, resolved, state, lambda: resolve(loader, key))
        service = str((loader.runtime_params or {}).get("service"))  # the catalog names service.folder
        return once(resolved, (*state, service), lambda: resolve(loader, key))

    def below_base(loader, key, *others):
        if key != "parameters":
            return resolve_below(loader, key, *others)
        files = [file for folder in loader.below_base for file in sorted(folder.glob(f"{key}*.yml"))]
        texts = [file.read_bytes() for file in files]
        state = (str(loader["globals"]), *texts)
        return merged(loader, texts, resolved_below, state, lambda: resolve_below(loader, key, loader.runtime_params))

    def merged(loader, texts, results, state, make):
        given = loader.runtime_params or {}
        if REFERENCE.search(b" ".join([*texts, str(given).encode()])):
            return make()
        loader.runtime_params = {}
        try:
            return soft_merge(once(results, state, make), deepcopy(given))
        finally:
            loader.runtime_params = given

    compiled = cache(parse.compile)
    for place, function in zip(REPLACED, (load, get, below_base), strict=True):
        patch.setattr(*place, function)
    patch.setattr(catalog_config_resolver, "parse", lambda pattern, name: compiled(pattern).parse(name))
    patch.setitem(sys.modules, "ibis", None)
    for module in (py_loader, dynaconf_files):
        patch.setattr(module, "inspect", SimpleNamespace(stack=callers))
