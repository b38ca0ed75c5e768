"""What several tests share: the tiny random LLM."""

import pytest
from hypothesis import settings

from fabricate import fabricate_llm

# Machines differ in speed, and a test's verdict must not: no deadline, and the same examples every time.
settings.register_profile("reproducible", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("reproducible")


@pytest.fixture(scope="session")
def tiny_llm_folder(tmp_path_factory):
    """Folder with a two-layer random LLM and its tokenizer."""
    folder = tmp_path_factory.mktemp("llm")
    fabricate_llm(folder)
    return folder


@pytest.fixture
def tiny_llm(tiny_llm_folder):
    """The tiny LLM in float32 on the CPU, fresh for each test."""
    from reclora_kedro.llm.language_model import load_language_model

    return load_language_model(str(tiny_llm_folder), dtype="float32", device="cpu")
