"""A process that kills itself, as SIGKILL does, at a chosen write of a checkpoint.

`synced:3` kills it when the third draft is on the disk only in part, `moved:3` when the third checkpoint has been moved
into place. Product code knows nothing of this.
"""

import os
import signal
from pathlib import Path


def killing_environment(folder, kill_at):
    """Environment of a Python process that kills itself; `folder` takes its sitecustomize.py."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(f"import killing\nkilling.install({kill_at!r})\n")
    path = os.pathsep.join([str(folder), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path}


def install(kill_at):
    moment, _, count = kill_at.partition(":")
    left = int(count)
    sync, move = os.fsync, Path.replace

    def count_down():
        nonlocal left
        left -= 1
        return left == 0

    def killing_sync(descriptor):
        file = Path(f"/proc/self/fd/{descriptor}").readlink()
        is_draft = file.name.startswith("step-") and "/.unfinished-" in str(file)
        if moment == "synced" and is_draft and count_down():
            os.truncate(file, file.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        sync(descriptor)

    def killing_move(self, target):
        result = move(self, target)
        if Path(target).name.startswith("step-") and moment == "moved" and count_down():
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    os.fsync, Path.replace = killing_sync, killing_move
