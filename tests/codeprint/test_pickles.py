"""Unpickling imports the classes that the bytes name."""

import bz2
import gzip
import pickle
import zipfile
from types import SimpleNamespace

import joblib
import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from codeprint import fingerprint
from codeprint.files import paths_at
from codeprint.fingerprints import Fingerprint
from codeprint.pickles import pickled_kinds

FOUND = {"codeprint.fingerprints:Fingerprint", "codeprint.fingerprints:fingerprint", "codeprint.files:paths_at"}
ELEMENTS = [
    np.arange(100_000),  # with the bytes of other operations between those of the pickle
    *range(70_000),  # in several frames
    make_pipeline(FunctionTransformer(fingerprint), FunctionTransformer(paths_at)),
    SimpleNamespace(inner={"deep": Fingerprint("a")}),
    np.arange(2000),
]


@pytest.mark.parametrize("protocol", range(2, 6))
def test_classes_inside_objects_of_libraries_are_found(tmp_path, protocol):
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(ELEMENTS, protocol))
    assert pickled_kinds(tmp_path / "model.pkl") == FOUND


@pytest.mark.parametrize("compress", [0, 3, ("gzip", 3), ("bz2", 3), ("xz", 3)])
def test_those_that_joblib_writes_are_found(tmp_path, compress):
    joblib.dump(ELEMENTS, tmp_path / "model.joblib", compress=compress)
    assert pickled_kinds(tmp_path / "model.joblib") == FOUND


def test_other_files_name_none(tmp_path):
    pickled = pickle.dumps(ELEMENTS)
    with zipfile.ZipFile(tmp_path / "weights.pt", "w") as archive:  # as `torch.save` writes it
        archive.writestr("weights/data.pkl", pickled)
        archive.writestr("weights/data/0", b"codeprint.files")
    assert pickled_kinds(tmp_path / "weights.pt") == FOUND
    for name, content in (
        ("empty", b""),
        ("text.json", b'["codeprint.files:paths_at"]'),
        ("table.csv.gz", gzip.compress(b"codeprint.files\npaths_at\n")),
        ("broken.bz2", bz2.compress(pickled)[:100]),
        ("x.txt", b"x y z"),
        ("broken.zip", b"PK\3\4..."),
    ):
        (tmp_path / name).write_bytes(content)
        assert pickled_kinds(tmp_path / name) == set()
