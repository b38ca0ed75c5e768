"""What one process costs; without third-party packages, so that the peers' environment can use it too."""

from pathlib import Path


def reset_peak() -> None:
    """Let the peak of the resident memory start at what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")


def resident_gib() -> tuple[float, float]:
    """Resident memory of this process, in GiB: its own, and that of mapped files, which the system takes back."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["RssAnon"].split()[0]) / 2**20, int(status["RssFile"].split()[0]) / 2**20


def peak_gib() -> float:
    """Highest resident memory of this process since its start or the last reset, in GiB."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 2**20
