"""Whether the workers of a cluster are like this machine: results of other versions would be results of another run."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from bninspect import environment, errors
from bninspect.safe_text import printable
from bninspect.version import __version__

PROCESSOR = "processor features"
_INSTALLED = {"bninspect": "bninspect", **environment.PACKAGES}


@cache
def describe() -> Mapping[str, str | None]:
    """Return what the results of this process depend on: versions, and what its processor can do."""
    known = {name: value for name, value in environment.describe().items() if name != "platform"}
    return {"bninspect": __version__, **known, PROCESSOR: " ".join(environment.processor_features())}


def require(workers: Mapping[str, Any], *, runs: bool) -> Mapping[str, str | None]:
    """Return what every worker must say of itself, whenever it joins.

    Versions are compared with those of this machine, the processor's features among the workers: nothing runs here.

    Args:
        workers: what `describe` returned by the address of each worker, or the exception that it raised there.
        runs: whether frameworks run, so that the processor counts.

    Raises:
        UnlikeWorker: they are not alike; the hint says what to install.
    """
    here = dict(describe())
    if not runs:
        del here[PROCESSOR]
    elif workers and isinstance(first := next(iter(workers.values())), Mapping):
        here[PROCESSOR] = first.get(PROCESSOR)
    for address, there in workers.items():
        check(here, there, address)
    return here


def check(expected: Mapping[str, str | None], found: Any, worker: str) -> None:
    """Raise UnlikeWorker if what a worker says of itself is not as expected."""
    label = printable(worker)
    if not isinstance(found, Mapping):
        raise errors.UnlikeWorker(
            f"bninspect does not start on the worker {label}",
            why=printable(f"{type(found).__name__}: {found}", 300),
            hint=f"pip install 'bninspect[dask]=={__version__}' on every worker, in Python {describe()['python']}",
        )
    for name, here in expected.items():
        there = found.get(name)
        if there != here:
            raise errors.UnlikeWorker(
                f"the worker {label} is not like the other workers",
                why=printable(f"{name} is {there or 'not installed'} there, and {here or 'not installed'} here", 900)
                if name != PROCESSOR
                else "its processor has other features, so that its kernels round in another way: "
                + printable(", ".join(sorted(set(str(here).split()) ^ set(str(there).split()))), 300),
                hint=_remedy(name, here),
            )


def _remedy(name: str, here: str | None) -> str:
    if name == PROCESSOR:
        return "ask the cluster for machines of one kind, such as one partition or one node pool"
    if name not in _INSTALLED:
        return f"run the workers in Python {here}, or this command in theirs"
    package = _INSTALLED[name].replace("_", "-")
    return f"pip install {package}=={here} on the worker" if here else f"pip uninstall {package} on the worker"
