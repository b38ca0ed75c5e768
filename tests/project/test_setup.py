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


@pytest.mark.parametrize(
    ("answer", "last", "code", "said"),
    [
        ('{"dependencies": [{"vulns": []}]}', None, 0, "Known vulnerabilities: none."),
        ('{"dependencies": [{"vulns": [{"id": "CVE"}]}]}', None, 1, '{"dependencies": [{"vulns": [{"id": "CVE"}]}]}'),
        (
            "",
            None,
            0,
            "Known vulnerabilities: NOT LOOKED UP, as no service tells them from here. The last audit: never.",
        ),
        ("", "2026-01-02 0", 0, "The last audit: 2026-01-02, of other packages than these."),
    ],
    ids=["none", "some", "unreachable", "unreachable, and audited before"],
)
def test_an_audit_ends_with_what_it_found_or_with_the_day_of_the_last_one(tmp_path, answer, last, code, said):
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci", ignore=shutil.ignore_patterns("last-audit"))
    (tmp_path / "requirements.lock").write_text("polars==1\n")
    (tmp_path / ".venv/bin").mkdir(parents=True)
    uv = tmp_path / ".venv/bin/uv"
    uv.write_text(
        f"#!/bin/sh\nfor file in \"$@\"; do :; done\nprintf '%s' '{answer}' > \"$file\"\n"
    )  # its last argument
    uv.chmod(0o755)
    if last:
        (tmp_path / ".ci/last-audit").write_text(f"{last}\n")
    done = subprocess.run([tmp_path / ".ci/audit"], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip().splitlines()[-1].endswith(said)) == (code, True)
    assert (tmp_path / ".ci/last-audit").exists() == (last is not None or said.endswith("none."))
