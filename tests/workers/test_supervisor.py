"""The supervisor survives whatever its child does, and says what it was."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import slow_to_start, worker_tasks

from bninspect import errors
from bninspect.records import Option
from bninspect.workers import start
from bninspect.workers.limits import WorkerLimits
from bninspect.workers.supervisor import Worker

GENEROUS = WorkerLimits(30, 1_500_000_000)


@pytest.fixture(autouse=True)
def _tasks_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))


@pytest.fixture
def worker() -> Iterator[Worker]:
    with Worker(GENEROUS) as one:
        yield one


def test_it_answers_and_tells_of_progress(worker: Worker) -> None:
    seen: list[str] = []
    assert worker.call(worker_tasks.echo, Option, {"value": "ü\0\n"}, seen.append) == Option("ü\0\n", "echo")
    assert seen == ["half-way"]


@pytest.mark.parametrize(("name", "there"), [("triton", False), ("quadriton", True)])
def test_triton_is_not_imported_beside_tensorflow(worker: Worker, tmp_path: Path, name: str, there: bool) -> None:
    (tmp_path / f"{name}.py").touch()
    assert worker.call(worker_tasks.imports, Option, {"name": name, "folder": str(tmp_path)}).value is there


def test_arrays_reach_the_child(worker: Worker) -> None:
    total = worker.call(worker_tasks.array_sum, Option, {"array": np.arange(10, dtype=np.float32)})
    assert total.value == 45.0


def test_an_error_of_the_task_arrives_whole_and_the_child_lives_on(worker: Worker) -> None:
    with pytest.raises(errors.DamagedFile) as caught:
        worker.call(worker_tasks.refuse, Option, {})
    assert (caught.value.what, caught.value.why, caught.value.hint) == ("broken", "because", "mend it")
    first = worker._process
    assert worker.call(worker_tasks.echo, Option, {"value": 1}).value == 1
    assert worker._process is first


def test_a_defect_becomes_an_error_without_a_traceback(worker: Worker) -> None:
    with pytest.raises(errors.WorkerDied, match="KeyError") as caught:
        worker.call(worker_tasks.blunder, Option, {})
    assert "worker_tasks.py" in caught.value.why


def test_a_native_hang_is_ended_by_the_clock_and_the_next_call_works() -> None:
    with Worker(WorkerLimits(2, 1_500_000_000)) as worker:
        with pytest.raises(errors.LimitExceeded, match="2 s") as caught:
            worker.call(worker_tasks.hang_holding_the_lock, Option, {})
        assert "--timeout" in caught.value.hint
        assert worker.call(worker_tasks.echo, Option, {"value": 1}).value == 1


def test_the_start_of_the_process_is_not_the_time_of_the_task_and_a_new_process_starts_alike() -> None:
    with Worker(WorkerLimits(2, 1_500_000_000)) as worker:
        worker.start(slow_to_start.echo)
        assert worker.call(slow_to_start.echo, Option, {"value": 1}).value == 1
        with pytest.raises(errors.LimitExceeded, match="not finished within 2 s"):
            worker.call(slow_to_start.hang, Option, {})
        assert worker.call(slow_to_start.echo, Option, {"value": 2}).value == 2


def test_a_process_that_never_starts_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bninspect.workers.supervisor.START_SECONDS", 1.0)
    with Worker(GENEROUS) as worker:
        worker.start(slow_to_start.echo)
        with pytest.raises(errors.WorkerDied, match="did not start within 1 s"):
            worker.call(slow_to_start.echo, Option, {"value": 1})


def test_work_that_was_given_up_is_not_begun_again() -> None:
    with Worker(GENEROUS) as worker:
        pass
    with pytest.raises(errors.WorkerDied, match="given up"):
        worker.call(worker_tasks.echo, Option, {"value": 1})


def test_a_crash_is_named_by_its_signal(worker: Worker) -> None:
    with pytest.raises(errors.WorkerDied, match="SIGSEGV"):
        worker.call(worker_tasks.crash, Option, {})
    assert worker.call(worker_tasks.echo, Option, {"value": 1}).value == 1


def test_an_early_exit_is_reported_with_its_last_words(worker: Worker) -> None:
    with pytest.raises(errors.WorkerDied, match="exit code 7") as caught:
        worker.call(worker_tasks.leave, Option, {})
    assert caught.value.why == "last words"


@pytest.mark.parametrize("watched", [False, True])
def test_too_much_memory_is_refused(watched: bool) -> None:
    with (
        Worker(WorkerLimits(60, 400_000_000, watched=watched)) as worker,
        pytest.raises(errors.LimitExceeded) as caught,
    ):
        worker.call(worker_tasks.devour, Option, {})
    assert "--max-memory" in caught.value.hint


def test_prints_of_libraries_are_no_answers_and_noise_is_dropped() -> None:
    shown: list[str] = []
    with Worker(GENEROUS, show=shown.append) as worker:
        assert worker.call(worker_tasks.babble, Option, {}).value == "intact"
    assert "E0000 a real error" in shown
    assert not [line for line in shown if "oneDNN" in line]


def test_a_json_py_in_the_working_directory_is_never_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('ran the code of a stranger')")
    (tmp_path / "numpy.py").write_text("raise SystemExit('ran the code of a stranger')")
    monkeypatch.chdir(tmp_path)
    with Worker(GENEROUS) as worker:
        assert worker.call(worker_tasks.echo, Option, {"value": 1}).value == 1


@pytest.mark.parametrize("asked", [1, 2])
def test_a_call_that_was_foretold_is_answered_and_one_that_was_not_too(asked: int) -> None:
    task = worker_tasks.echo
    start.prestart(GENEROUS, task, {"value": 1})
    with Worker(GENEROUS) as worker:
        worker.start(task)
        assert worker.call(task, Option, {"value": asked}) == Option(asked, "echo")
        assert worker.call(task, Option, {"value": 3}) == Option(3, "echo")
    start.dismiss()


def test_what_waits_for_one_task_is_replaced_by_what_has_other_limits_and_for_another_task_stays() -> None:
    one, other = worker_tasks.echo, worker_tasks.babble
    start.prestart(GENEROUS, other)
    start.prestart(replace(GENEROUS, seconds=1.0), one)
    start.prestart(GENEROUS, one)
    assert start._spare.keys() == {(GENEROUS, one), (GENEROUS, other)}
    start.dismiss()
    assert not start._spare
