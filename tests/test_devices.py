import resource

import torch

from reclora_kedro.devices import choose_device, choose_dtype, keep_freed_memory


def test_dtype_and_device_are_chosen_or_named():
    assert choose_dtype("bfloat16", torch.device("cpu")) == torch.bfloat16
    assert choose_dtype("auto", torch.device("cpu")) in (torch.bfloat16, torch.float32)
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


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
