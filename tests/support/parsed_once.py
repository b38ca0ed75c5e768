"""What sessions read and merge anew, and tests once per process: half of the time of a session that runs little.

What is kept is found by all that it is made of, so a test that changes any of it has it made again.
"""

import os
import pickle
import sys
from functools import cache
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import yaml
from dynaconf.loaders import py_loader
from dynaconf.utils import files
from omegaconf import OmegaConf, _utils, base

from kedro_provenance.session import CachingConfigLoader


def parse_texts_once(patch):
    """Have the same text of a file, and the same interpolation, parsed once, and the same configuration merged once."""
    parse, load_yaml = OmegaConf.load, yaml.load
    parsed = cache(lambda text: pickle.dumps(parse(StringIO(text))))  # Kedro changes what it gets
    plain = cache(lambda text, loader: pickle.dumps(load_yaml(text, loader)))
    interpolation = cache(base.parse)  # whose trees are only read

    def load(file):
        return pickle.loads(parsed(file.read() if hasattr(file, "read") else Path(file).read_text("utf-8")))

    def load_text(stream, Loader):
        return pickle.loads(plain(stream, Loader)) if isinstance(stream, str) else load_yaml(stream, Loader)

    patch.setattr(OmegaConf, "load", staticmethod(load))
    patch.setattr(yaml, "load", load_text)
    for module in (base, _utils):
        patch.setattr(module, "parse", interpolation)
    merge_once(patch)
    for module in (files, py_loader):
        patch.setattr(module, "inspect", SimpleNamespace(stack=stack))
    if find_spec("ibis") is None:  # Kedro looks for it on the whole path for each of 600 parameters
        patch.setitem(sys.modules, "ibis", None)


def stack():
    """The names of the files that are being run, all that Dynaconf reads of `inspect.stack`.

    That reads the lines around each call, and looks through all modules for them: half a second whenever a project is
    bootstrapped, where thousands of modules are imported, as in tests.
    """
    frame, names = sys._getframe(1), []
    while frame is not None:
        names.append(SimpleNamespace(filename=frame.f_code.co_filename))
        frame = frame.f_back
    return names


def merge_once(patch):
    """Have a loader take from another one what that has merged of the same files, arguments and environment."""
    merged, read = {}, CachingConfigLoader.__getitem__

    def get(loader, key):
        if key in loader or (origin := origin_of(loader, key)) is None:
            return read(loader, key)
        if origin in merged:
            loader[key] = pickle.loads(merged[origin])
        settings = read(loader, key)
        if origin not in merged:
            merged[origin] = pickle.dumps(settings)
        return settings

    patch.setattr(CachingConfigLoader, "__getitem__", get)


def origin_of(loader, key):
    """All that the configuration of a kind is made of; None where it isn't in files and values alone."""
    source = Path(loader.conf_source)
    folders = [*loader.below_base, source / loader.base_env, source / (loader.env or loader.default_run_env)]
    if not all(folder.is_dir() for folder in folders):
        return None
    files = [file for folder in folders for file in sorted(folder.rglob("*.*")) if file.is_file()]
    names = (file.relative_to(source) if file.is_relative_to(source) else file for file in files)
    texts = tuple((str(name), file.read_bytes()) for name, file in zip(names, files, strict=True))
    given = [loader.runtime_params, loader.config_patterns, loader.merge_strategy, [*loader.named_blocks], loader.env]
    given.append(loader.data.get("globals"))  # which a study sets
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    place = str(source.absolute()) if key == "catalog" else None  # other kinds name no files beside them
    return key, place, loader.base_env, loader.default_run_env, texts, repr(given), str(environment)
