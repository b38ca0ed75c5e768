"""What several tests share: the tiny random LLM, a finished run of the whole flow, and an object storage.

What takes long to import is imported where it is used: the process that hands out the files needs none of it.
"""

import atexit
import fcntl
import gc
import os
import pickle
import shutil
import signal
import sys
from types import SimpleNamespace

import pytest
from hypothesis import settings

collect_ignore = ["tests/support/preloaded.py"]  # for the server of processes alone

# What tests import stays, and looking through all of it for garbage takes half a second: seldom, and not at first.
gc.disable()
gc.set_threshold(10_000, 20, 50)


def end_soon(*_):
    """End as at Ctrl-C, but after 20 s at the latest: a test may wait for threads that only its own end would stop."""
    signal.alarm(20)
    raise KeyboardInterrupt


def pytest_configure(config):
    """Have the process that hands out the files start the server of processes; end at a signal as at Ctrl-C.

    So fixtures remove their servers, and their folders, also when `make test` is told to end.
    """
    signal.signal(signal.SIGTERM, end_soon)
    if not hasattr(config, "workerinput") and config.option.numprocesses:
        from fork_server import start_server

        start_server()


def pytest_collection_finish():
    """Leave what there is by now out of garbage collection."""
    gc.freeze()
    gc.enable()


def pytest_unconfigure():
    """Spare pytest's five searches for garbage. At exit all is found: bindings of Triton's would list what is left."""
    gc.freeze()
    atexit.register(gc.unfreeze)


# Machines differ in speed, and a test's verdict must not: no deadline, and the same examples every time. A nightly run,
# `HYPOTHESIS_PROFILE=nightly make test`, looks at more, and at others each time.
settings.register_profile("reproducible", deadline=None, derandomize=True, max_examples=15)
settings.register_profile("nightly", deadline=None, max_examples=200)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "reproducible"))


def pytest_collection_modifyitems(items):
    """Files that take longest come first: of two processes, one would wait for the other's last file otherwise.

    The first of them needs no finished run, so that one process makes it while the other tests.
    """
    items.sort(key=lambda item: (item.path.name != "test_engine.py", "project" not in item.path.parts))


@pytest.fixture(autouse=True)
def own_imports():
    """Of the projects that a test bootstraps, later tests import nothing: Kedro leaves their folders on the path."""
    path, of_processes = [*sys.path], os.environ.get("PYTHONPATH")
    yield
    sys.path[:] = path
    if of_processes is None:
        os.environ.pop("PYTHONPATH", None)
    else:
        os.environ["PYTHONPATH"] = of_processes


@pytest.fixture(scope="session", autouse=True)
def texts_of_configuration_are_parsed_once():
    from parsed_once import parse_texts_once

    with pytest.MonkeyPatch.context() as patch:
        parse_texts_once(patch)
        yield


@pytest.fixture(scope="session", autouse=True)
def disks_are_not_waited_for():
    """No test ends the power of its machine. That files are synchronized is tested by calls in place of this one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session")
def tiny_llm_folder(tmp_path_factory):
    """Folder with a two-layer random LLM and its tokenizer."""
    from fabricate import fabricate_llm

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
    from ray import cloudpickle

    from reclora_kedro.distributed.engine import LOCAL

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


@pytest.fixture
def forked_cores(monkeypatch):
    """Has the processes that share the cores begin with all imports done."""
    from forked import FORKED

    monkeypatch.setattr("reclora_kedro.distributed.engine.get_context", lambda _: FORKED)


@pytest.fixture(scope="session")
def storage_endpoint():
    """Address of an object storage on this machine that speaks S3."""
    from object_storage import serve

    with serve() as endpoint:
        yield endpoint


@pytest.fixture
def bucket(storage_endpoint, tmp_path_factory, monkeypatch):
    """A fresh bucket, and a cache of its own for copies of what lies there; code that was parsed stays so."""
    from codeprint.files import private_cache
    from object_storage import Bucket

    cache = tmp_path_factory.mktemp("cache")
    (cache / "codeprint").symlink_to(private_cache())
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    return Bucket(storage_endpoint)


@pytest.fixture(scope="session")
def postgres_server():
    """A PostgreSQL server on this machine; tests are skipped, with the reason, where none can run."""
    pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")
    from postgres_server import NoServerError, PostgresServer

    try:
        server = PostgresServer()
    except NoServerError as error:
        pytest.skip(str(error))
    try:
        yield server
    finally:
        server.remove()


@pytest.fixture
def postgres(postgres_server):
    """Address of a fresh database of that server."""
    return postgres_server.new_database()


@pytest.fixture(scope="session")
def pristine_run(tmp_path_factory):
    """The project of a finished `kedro run --env test`, of which tests take copies; made once for all processes."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with (folder / "pristine.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "pristine.finished").exists():
            from projects import copy_project, kedro_run

            kedro_run(copy_project(folder / "pristine"))  # never moved: settings know the folders of its packages
            (folder / "pristine.finished").touch()
    return folder / "pristine"


@pytest.fixture(scope="module")
def finished_run(pristine_run, tmp_path_factory):
    """A finished `kedro run --env test` of a file's own: its project folder, catalog and names of what it stored."""
    from kedro.framework.project import pipelines

    from projects import catalog_of

    project = shutil.copytree(pristine_run, tmp_path_factory.mktemp("project") / "project")
    return SimpleNamespace(project=project, catalog=catalog_of(project), outputs=pipelines["__default__"].all_outputs())


@pytest.fixture
def fabricated_project(tmp_path):
    """A fresh copy of the project, not run yet."""
    from projects import copy_project

    return copy_project(tmp_path)
