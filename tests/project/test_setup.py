"""What `make` installs, by a `uv` that only writes down its arguments, and what a run of tests leaves behind."""

import shutil
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent

import pytest

from projects import ROOT

pytestmark = pytest.mark.waits

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
    assert project.endswith("--no-deps --editable . --editable src/reclora_extras")
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


def test_a_run_of_tests_that_is_killed_leaves_no_database_server(postgres_server):
    """It needs `postgres_server` for its reason to skip alone, where no server can run."""
    code = """
        import os
        import signal
        import sys

        sys.path.insert(0, sys.argv[1])
        from postgres_server import PostgresServer

        server = PostgresServer()
        print(server._server.pid, server.folder, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    command = [sys.executable, "-c", dedent(code), str(ROOT / "tests/support")]
    [server, folder] = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    try:
        for _ in range(100):
            if not Path(f"/proc/{server}").exists():
                return
            time.sleep(0.1)
        pytest.fail("the server outlives the process that started it")
    finally:
        shutil.rmtree(folder)
