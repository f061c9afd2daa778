"""All that a child process can be asked to do: a function for each task, which imports its steps and returns them.

The supervisor names a task by its function here; the child calls that. So nobody but the child imports what a task
needs, and the parent starts before any of it is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

if TYPE_CHECKING:
    from bninspect.formats.containers.parts import Supply
    from bninspect.formats.folder_models import FolderModels
    from bninspect.records import Checkpoint, Verified
    from bninspect.records.recalibrated import Recalibrated
    from bninspect.verdicts.own_runtime.explain_task import AnswerText

T = TypeVar("T")


def _import_nothing() -> None:
    """Leave every import to the call, which tells what is needed."""


def _need_nothing(_: Supply) -> None:
    """Do without parts of files elsewhere."""


@dataclass(frozen=True)
class LoadedTask(Generic[T]):
    """A task, imported."""

    run: Callable[[Mapping[str, Any], list[Any], Callable[[str], None]], T]
    """Takes the arguments of the call, the arrays in them and a callback for progress."""
    prepare: Callable[[], None] = _import_nothing
    """Imports what the call will need, while its arguments are still being made."""
    supply: Callable[[Supply], None] = _need_nothing
    """Takes what gets parts of files that are not on this machine, before the call."""


Task: TypeAlias = Callable[[], LoadedTask[T]]


def read_file() -> LoadedTask[Checkpoint]:
    """One model file to what it holds."""
    from bninspect.formats import read_task

    return LoadedTask(read_task.read)


def read_parts() -> LoadedTask[Checkpoint]:
    """One model file elsewhere to what it holds, by the parts of it that are needed."""
    from bninspect.formats import read_task
    from bninspect.formats.containers import parts

    return LoadedTask(read_task.read_parts, supply=parts.supply_by)


def search_folder() -> LoadedTask[FolderModels]:
    """One folder to the models in it."""
    from bninspect.formats import folder_models

    return LoadedTask(folder_models.search)


def verify_model() -> LoadedTask[Verified]:
    """A model and its file to the verdict on every layer."""
    from bninspect.verdicts import verify_task

    return LoadedTask(verify_task.verify, verify_task.prepare)


def hold_against_export() -> LoadedTask[Verified]:
    """A model and an export of it to the verdict on every layer in both."""
    from bninspect.equivalence import task
    from bninspect.verdicts import verify_task

    return LoadedTask(task.against, verify_task.prepare)


def judge_outputs() -> LoadedTask[Verified]:
    """A model and what a runtime of the user's returned for its test vectors to the verdict on every layer."""
    from bninspect.verdicts.own_runtime import outputs

    return LoadedTask(outputs.judge)


_OTHER_RUNTIMES = (".onnx", ".tflite", ".pt", ".pth", ".pt2", ".xml", ".param")


def may_need_tensorflow(path: str) -> bool:
    """Return whether TensorFlow may run a model: if not, its import ahead of time would only take time."""
    return not path.lower().endswith(_OTHER_RUNTIMES)


def recalibrate_model() -> LoadedTask[Recalibrated]:
    """A model and data to a copy of it with the statistics of the data."""
    from bninspect.statistics import recalibrate_task
    from bninspect.verdicts import verify_task

    return LoadedTask(recalibrate_task.recalibrate, verify_task.prepare)


def hold_against_data() -> LoadedTask[Verified]:
    """A model and data to whether the statistics that it stores are those of the data."""
    from bninspect.statistics import drift
    from bninspect.verdicts import verify_task

    return LoadedTask(drift.drift, verify_task.prepare)


def explain_files() -> LoadedTask[AnswerText]:
    """Layers and arrays in files of the user's to what explains these."""
    from bninspect.verdicts.own_runtime import explain_task

    return LoadedTask(explain_task.explain)


def address(task: Task[Any]) -> str:
    """Return how a child finds a task: `module:function`."""
    return f"{task.__module__}:{task.__qualname__}"


def find(address: str) -> LoadedTask[Any]:
    """Return the task at an address, imported."""
    from importlib import import_module

    module, _, name = address.partition(":")
    loaded = getattr(import_module(module), name)()
    if not isinstance(loaded, LoadedTask):
        raise TypeError(f"{address} is not a task")
    return loaded
