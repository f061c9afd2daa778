"""What Dask runs at the start of a worker of `--dask local:N`."""

from __future__ import annotations

import signal


def dask_setup(_worker: object) -> None:
    """Leave Ctrl-C to the command: a terminal sends it to every process of the group, and the command ends them all."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
