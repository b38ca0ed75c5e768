"""What the nodes of earlier runs made, found again by what they were given.

A node's key is the digest of its code, its parameters and the contents of its inputs. Where a node with that key has
run, what it left is taken; where code, a parameter, an input or a raw file differs, the key differs, and so do those of
the nodes that read what came out differently. Nodes upstream of a change, and those downstream whose inputs came out
the same, are not run again ("early cutoff" in Mokhov, Mitchell and Peyton Jones, "Build systems à la carte", ICFP
2018).
"""

import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from reclora_kedro.files.atomic import atomic_file

TRACE, LOCK, CHECKPOINTS = "trace.json", ".lock", "checkpoints"


@dataclass(frozen=True)
class Trace:
    """What is known of a node that has run.

    Attributes:
        node: its name.
        inputs: by the name of an input, the digest of its content.
        outputs: the same of its outputs.
        seconds: how long it took, loading and saving included.
        revision: git revision of the code that it ran.
    """

    node: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    seconds: float
    revision: str | None


class Memory:
    """What one node made: a folder that is complete once its trace is there.

    Args:
        folder: where it lies; it need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def trace(self) -> Trace | None:
        """The trace of the node, if it has run to its end."""
        file = self.folder / TRACE
        return Trace(**json.loads(file.read_text(encoding="utf-8"))) if file.exists() else None

    def clear(self) -> None:
        """Remove what a run that was killed left of outputs; its checkpoints stay."""
        for path in self.folder.iterdir():
            if path.is_dir() and path.name != CHECKPOINTS:
                shutil.rmtree(path)

    def keep(self, trace: Trace) -> None:
        """Write the trace, and remove the checkpoints; the outputs must be there."""
        atomic_file(self.folder / TRACE, json.dumps(asdict(trace), indent=1).encode())
        shutil.rmtree(self.folder / CHECKPOINTS, ignore_errors=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Have one process at a time make this. The kernel drops the lock of a process that dies."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / LOCK).open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
