import os
import resource
import subprocess
import sys

import pytest
import torch

from reclora_kedro.devices import choose_device, choose_dtype, keep_freed_memory


def test_dtype_and_device_are_chosen_or_named():
    assert choose_dtype("bfloat16", torch.device("cpu")) == torch.bfloat16
    assert choose_dtype("auto", torch.device("cpu")) in (torch.bfloat16, torch.float32)
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "", "cpu:1"])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(device):
    with pytest.raises(
        ValueError, match=rf"device is '{device}', but this machine has cpu.*: set lens.device, retriever.device or"
    ):
        choose_device(device)


def test_threads_of_a_run_do_not_spin_for_long_while_they_wait():
    command = [sys.executable, "-c", "import reclora_kedro.settings, torch; torch.ones(1)"]
    environment = {name: value for name, value in os.environ.items() if "OMP_" not in name}
    environment["OMP_DISPLAY_ENV"] = "VERBOSE"  # GNU OpenMP shows what it has read once it is loaded
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "GOMP_SPINCOUNT = '10000'" in ended.stderr


def test_freed_memory_is_used_again():
    def page_faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(10):
            activations = [torch.ones(2**20) for _ in range(8)]
            del activations
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    keep_freed_memory()
    page_faults()
    assert page_faults() < 1000  # 81,920 pages of 4 KiB were written
