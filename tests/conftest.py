"""What several tests share: the tiny random LLM, and an object storage."""

import os
import pickle
import sys
from io import StringIO

import pytest
from hypothesis import settings
from omegaconf import OmegaConf
from ray import cloudpickle

from fabricate import fabricate_llm
from object_storage import Bucket, serve
from reclora_kedro.distributed.engine import LOCAL

# Processes that test side by side share the cores: threads of each that wait for one another would take them all.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"

# Machines differ in speed, and a test's verdict must not: no deadline, and the same examples every time.
settings.register_profile("reproducible", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("reproducible")


@pytest.fixture(scope="session", autouse=True)
def _quick_sessions():
    """Each session of Kedro parses conf/, and for each parameter looks for ibis, which is not there: once will do."""
    parse, parsed = OmegaConf.load, {}

    def load(file):
        if not isinstance(file, StringIO):
            return parse(file)
        text = file.getvalue()
        if text not in parsed:
            parsed[text] = pickle.dumps(parse(file))
        return pickle.loads(parsed[text])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OmegaConf, "load", load)
        patch.setitem(sys.modules, "ibis", None)
        yield


def pytest_collection_modifyitems(items):
    """Files that take longest come first: of two processes, one would wait for the other's last file otherwise."""
    items.sort(key=lambda item: "project" not in item.path.parts)


@pytest.fixture(scope="session")
def tiny_llm_folder(tmp_path_factory):
    """Folder with a two-layer random LLM and its tokenizer."""
    folder = tmp_path_factory.mktemp("llm")
    fabricate_llm(folder)
    return folder


@pytest.fixture
def tiny_model(tiny_llm_folder):
    """The tiny LLM in float32 on the CPU, answering prompts; fresh for each test."""
    from few_rows import load_model

    return load_model(tiny_llm_folder)


@pytest.fixture
def tiny_llm(tiny_model):
    """The tiny LLM by itself, with its tokenizer."""
    return tiny_model.llm


@pytest.fixture
def workers_here(monkeypatch):
    """Gives an engine whose workers' part is done here, with all that goes to them and comes back pickled."""

    def here(work, shards, engine, step):
        work = pickle.loads(cloudpickle.dumps(work))
        return (pickle.loads(cloudpickle.dumps(work(pickle.loads(cloudpickle.dumps(shard))))) for shard in shards)

    def engine_of(rows_per_shard):
        monkeypatch.setattr("reclora_kedro.distributed.engine._map_on_ray", here)
        return LOCAL.model_copy(update={"kind": "ray", "rows_per_shard": rows_per_shard})

    return engine_of


@pytest.fixture
def forked_groups(monkeypatch):
    """Has the processes of a group begin with all imports done."""
    from forked import fork_groups

    monkeypatch.setattr("torch.multiprocessing.spawn", fork_groups)


@pytest.fixture(scope="session")
def storage_endpoint():
    """Address of an object storage on this machine that speaks S3."""
    with serve() as endpoint:
        yield endpoint


@pytest.fixture
def bucket(storage_endpoint, tmp_path_factory, monkeypatch):
    """A fresh bucket, and a cache of its own for copies of what lies there."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    return Bucket(storage_endpoint)
