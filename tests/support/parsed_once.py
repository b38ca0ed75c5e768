"""Configuration that is parsed once per process: a session parses 49 files, in a quarter of its time to start."""

import pickle
from functools import cache
from io import StringIO
from pathlib import Path

from omegaconf import OmegaConf, _utils, base


def parse_texts_once(patch):
    """Have the same text of a file, and the same interpolation, parsed once."""
    parse = OmegaConf.load
    parsed = cache(lambda text: pickle.dumps(parse(StringIO(text))))  # Kedro changes what it gets

    interpolation = cache(base.parse)  # whose trees are only read

    def load(file):
        return pickle.loads(parsed(file.read() if hasattr(file, "read") else Path(file).read_text("utf-8")))

    patch.setattr(OmegaConf, "load", staticmethod(load))
    for module in (base, _utils):
        patch.setattr(module, "parse", interpolation)
