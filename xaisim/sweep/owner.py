"""Who has a claim: the name of a process, and whether one of this machine still runs.

own_name()                                   # "host:4711:8086": machine, number, and when it began
holds("host:4711:8086", lease, now)          # False once the lease is over, or that process is gone
"""

from __future__ import annotations

import os
import socket
from pathlib import Path


def own_name() -> str:
    """Return a name for this process: machine, number, and when it began, as numbers are used again."""
    return f"{socket.gethostname()}:{os.getpid()}:{_began(os.getpid())}"


def holds(owner: str, lease: float | None, now: float) -> bool:
    """Return whether an owner still has its claim: it renewed it in time, and is alive as far as one can see here."""
    if lease is None or lease < now:
        return False
    host, number, began = owner.rsplit(":", 2)
    if host != socket.gethostname():
        return True
    return _began(int(number)) == began


def _began(number: int) -> str:
    """Return when a process of this machine began, in the kernel's ticks; empty for one that is gone."""
    try:
        fields = Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()
        return "" if fields[0] in "ZX" else fields[19]
    except OSError:
        return "" if Path("/proc/self").exists() or not _runs(number) else "?"


def _runs(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
