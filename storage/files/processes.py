"""Processes as more than numbers that the system uses again, whatever becomes of the machine's clock."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def started(pid: int) -> str:
    """Which of all processes with this number runs on this machine now, "" where none does (or a zombie).

    On Linux it is the boot and the clock ticks since then: the time of day at which a process began is worked
    out from the clock of now, and so changes for all of them when the clock is set.
    """
    boot = _boot()
    if boot:
        try:
            facts = Path(f"/proc/{int(pid)}/stat").read_text(errors="replace").rpartition(")")[2].split()
        except (OSError, ValueError):
            return ""
        return "" if facts[0] in "ZX" else f"{boot}/{facts[19]}"
    return _started_elsewhere(pid)


def _started_elsewhere(pid: int) -> str:
    import psutil

    try:
        process = psutil.Process(int(pid))
        return "" if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except (psutil.Error, ValueError):
        return ""


@lru_cache(maxsize=1)
def _boot() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""
