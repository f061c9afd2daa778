"""The inside of a worker process: limits itself, then answers calls on standard input until that ends.

start.py starts it with the arguments BYTES and TASK. BYTES limits the address space (0 does not). TASK, if it is not
empty, is the address of a task of tasks.py that prepares before the first call.

Answers go to the original standard output; whatever else writes there (a library's print, say) reaches standard error.
"""

from __future__ import annotations

import logging
import math
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from bninspect import errors
from bninspect.workers import tasks
from bninspect.workers.frames import read_frame, write_frame

if TYPE_CHECKING:
    from bninspect.formats.containers.parts import Supply


def _limit_memory(memory: int) -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limits; the supervisor's clock still holds.
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def _limit_processor(seconds: float) -> None:
    """Let the kernel end this process if it outlives its supervisor in a loop."""
    try:
        import resource
    except ImportError:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    until = used.ru_utime + used.ru_stime + seconds * (os.cpu_count() or 1)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(until) + 1, resource.RLIM_INFINITY))


def _call(message: Mapping[str, Any], arrays: list[Any], progress: Callable[[str], None], supply: Supply) -> Any:
    steps = tasks.find(str(message["task"]))
    steps.supply(supply)
    _limit_processor(float(message["seconds"]))
    return steps.run(message["arguments"], arrays, progress)


def _answer(
    message: Mapping[str, Any], arrays: list[Any], progress: Callable[[str], None], supply: Supply
) -> Mapping[str, Any]:
    try:
        return {"result": _call(message, arrays, progress, supply)}
    except errors.BninspectError as error:
        return {"error": describe(error)}
    except MemoryError:
        return {
            "error": describe(
                errors.LimitExceeded("out of memory", why=_allowance(), hint="allow more: --max-memory 4GB")
            )
        }
    except Exception as error:  # noqa: BLE001 - a defect of ours is one model's error, never a traceback on a terminal
        return {"error": describe(_defect(error, verbose=bool(message["verbose"])))}


def describe(error: errors.BninspectError) -> Mapping[str, str]:
    """Return an error as it travels to the supervisor."""
    return {"kind": type(error).__name__, "what": error.what, "why": error.why, "hint": error.hint}


def _allowance() -> str:
    limit = int(sys.argv[1])
    return f"the limit for this step is {limit / 1e9:.3g} GB" if limit else "this machine has no more"


def _defect(error: Exception, *, verbose: bool) -> errors.WorkerDied:
    if verbose:
        traceback.print_exc()
    where = traceback.extract_tb(error.__traceback__)[-1]
    return errors.WorkerDied(
        f"internal error: {type(error).__name__}",
        why=f"{error} ({Path(where.filename).name}:{where.lineno})",
        hint="run it again with -vv for the details, and report it: this is a defect of bninspect",
    )


def _private_output() -> BinaryIO:
    """Return the original standard output, and let everybody else's go to standard error."""
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return output


class _Supervisor:
    """Asks the supervisor, who may fetch what this process may not."""

    def __init__(self, output: BinaryIO) -> None:
        self._output = output

    def find(self, name: str) -> int | None:
        size: int | None = self._asked(name, None)[0]["size"]
        return size

    def parts(self, name: str, spans: Sequence[tuple[int, int]]) -> list[Any]:
        return self._asked(name, [list(span) for span in spans])[1]

    def _asked(self, name: str, wanted: list[list[int]] | None) -> tuple[dict[str, Any], list[Any]]:
        write_frame(self._output, {"of": name, "wanted": wanted})
        if (frame := read_frame(sys.stdin.buffer)) is None:
            raise errors.WorkerDied("the supervisor has gone")
        return frame


def _do_without_triton() -> None:
    """Have PyTorch believe that Triton, which it brings along to compile for GPUs, is not installed.

    Imported after TensorFlow it crashes the process: each has an LLVM of its own. Nothing is compiled here.
    """
    sys.modules["triton"] = None  # type: ignore[assignment]
    logging.getLogger("torch.utils.flop_counter").setLevel(logging.ERROR)  # which warns that it is not installed


def main() -> int:
    """Answer calls until standard input ends."""
    _limit_memory(int(sys.argv[1]))
    output = _private_output()
    _do_without_triton()
    if task := sys.argv[2]:
        tasks.find(task).prepare()
    write_frame(output, {"result": True})

    while (frame := read_frame(sys.stdin.buffer)) is not None:
        message, arrays = frame
        answer = _answer(message, arrays, lambda text: write_frame(output, {"progress": text}), _Supervisor(output))
        write_frame(output, answer)
    return 0
