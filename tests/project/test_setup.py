"""What `make` installs, by a `uv` that only writes down its arguments."""

import subprocess

import pytest

from projects import ROOT

UV = """#!/bin/sh
case "$*" in *--dry-run*) exit ${UNREACHABLE:-0};; esac
echo "$*" >> "$CALLS"
case "$*" in *"requirements -"*) cat > "$CALLS.lock";; esac
"""


@pytest.mark.parametrize(
    ("gpu", "unreachable", "build"),
    [
        ("", "0", "the build for the CPU, as no NVIDIA GPU is seen"),
        ("", "1", "the default build, with GPU libraries, as the index of its builds for the CPU cannot be reached"),
        ("/dev/nvidiactl", "0", "the default build, with GPU libraries, as /dev/nvidiactl is there"),
    ],
)
def test_set_up_takes_the_build_of_pytorch_for_the_machine_and_says_which(gpu, unreachable, build, tmp_path):
    (tmp_path / "bin").mkdir()
    for name, text in {"uv": UV, "python": "#!/bin/sh\n"}.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    environment = {"PATH": "/usr/bin:/bin", "UNREACHABLE": unreachable, "CALLS": str(tmp_path / "calls")}
    make = ["make", "-C", str(ROOT), f"VENV={tmp_path}", f"GPU={gpu}", f"{tmp_path}/.ready"]
    said = subprocess.run(make, env=environment, capture_output=True, text=True, check=True).stdout
    assert f"PyTorch: {build}" in said
    [*packages, project] = (tmp_path / "calls").read_text().splitlines()
    assert project.endswith("--no-deps --editable .")
    if "for the CPU, as" not in build:
        [whole] = packages
        assert whole.endswith("--requirements requirements.lock")
        return
    [torch, _] = packages
    assert "--torch-backend cpu --reinstall-package torch torch==" in torch
    locked = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if line[:1].isalpha()]
    rest = [line for line in (tmp_path / "calls.lock").read_text().splitlines() if line[:1].isalpha()]
    left_out = {line.partition("==")[0] for line in set(locked) - set(rest)}
    assert {"torch", "triton", "nvidia-nccl-cu13"} <= left_out
    assert not {name for name in left_out if not name.startswith(("torch", "triton", "nvidia-", "cuda-"))}
