"""Values whose arrays are in a file."""

import gc
from weakref import ref

import numpy as np
import pytest
from scipy.sparse import csr_array

from reclora_kedro.distributed import engine as engine_module
from reclora_kedro.distributed.engine import LEAST_BYTES, LOCAL, in_files, read_mapped, write_mapped


@pytest.fixture
def folders(tmp_path):
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        folder.mkdir()
    return folders


def arrays():
    large = np.arange(LEAST_BYTES, dtype=np.float32).reshape(256, -1)
    return {
        "large": large,
        "again": large,
        "by_column": np.asfortranarray(large),
        "part": large[:, ::2],
        "small": np.arange(3),
        "none": large[:0],
        "sparse": csr_array((large.ravel(), np.zeros(large.size, dtype=np.int32), [0, large.size])),
        "text": "title",
    }


def test_a_value_is_read_as_it_was_written_and_each_large_array_once(folders):
    value = arrays()
    write_mapped(value, folders[0])
    copy = read_mapped(folders[0])
    for name in (names := ("large", "by_column", "part", "small", "none")):
        np.testing.assert_array_equal(copy[name], value[name])
    assert [name for name in names if copy[name].flags.writeable] == ["part", "small", "none"]  # these are pickled
    assert (copy["sparse"] != value["sparse"]).nnz == 0
    assert copy["again"] is copy["large"]
    in_file = (value["large"], value["by_column"], value["sparse"].data, value["sparse"].indices)
    assert (folders[0] / "arrays").stat().st_size == sum(each.nbytes for each in in_file)


def test_arrays_of_a_file_are_not_written_again(folders):
    write_mapped(arrays(), folders[0])
    first = read_mapped(folders[0])
    write_mapped({"first": first, "rows": first["large"][16:128], "other": first["large"] + 1}, folders[1])
    assert (folders[1] / "arrays").stat().st_size == first["part"].nbytes + first["large"].nbytes  # and of the other
    second = read_mapped(folders[1])
    np.testing.assert_array_equal(second["rows"], first["large"][16:128])
    np.testing.assert_array_equal(second["other"], first["large"] + 1)


@pytest.mark.parametrize("shards", [1, 2])
def test_memory_holds_the_arrays_of_a_value_in_files_once(monkeypatch, shards):
    monkeypatch.setattr("joblib.cpu_count", lambda: 2)
    monkeypatch.setattr("reclora_kedro.distributed.engine.SHARDS_PER_CORE", 1)
    engine = LOCAL.model_copy(update={"rows_per_shard": 10})
    value = arrays()
    own, total = ref(value["large"]), value["large"].sum()
    with in_files(value, engine, 10 * shards) as value:
        gc.collect()
        assert (own() is None) == (shards == 2)
        assert value["large"].sum() == total
        assert len(engine_module._files) == shards - 1
    del value
    gc.collect()
    assert len(engine_module._files) == 0


def test_where_the_disk_is_full_another_folder_is_advised(monkeypatch, tmp_path):
    class Full:
        def __enter__(self):
            (tmp_path / "arrays").symlink_to("/dev/full")
            return str(tmp_path)

        def __exit__(self, *_):
            (tmp_path / "arrays").unlink()

    monkeypatch.setattr("joblib.cpu_count", lambda: 2)
    monkeypatch.setattr("reclora_kedro.distributed.engine.scratch_folder", lambda parent: Full())
    with (
        pytest.raises(OSError, match="No space left") as error,
        in_files(arrays(), LOCAL.model_copy(update={"rows_per_shard": 1}), 10),
    ):
        pass
    assert f"The disk is full: {tmp_path} needs more" in error.value.__notes__[0]
    assert "engine.scratch" in error.value.__notes__[0]
