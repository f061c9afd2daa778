"""Models on a Dask cluster: the verdicts of one machine, each once, whatever becomes of a worker."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from helpers.dask_cluster import Running, children, cluster, wait_until
from helpers.marked import alive, marked, wait_for_the_end
from helpers.running import LISTENING, after, bninspect

from bninspect import errors
from bninspect.jobs.cluster import client, likeness

pytest.importorskip("distributed")

COPIES = 12


@pytest.fixture
def models(tmp_path: Path, sample_models: Path) -> Path:
    (tmp_path / "models").mkdir()
    for number in range(COPIES):
        shutil.copy(sample_models / "keras3_digits.h5", tmp_path / "models" / f"good{number:02}.h5")
    shutil.copy(sample_models / "broken_nan.h5", tmp_path / "models" / "nan.h5")
    shutil.copy(sample_models / "broken_bit.keras", tmp_path / "models" / "bit.keras")
    return tmp_path


@pytest.fixture
def running(models: Path) -> Any:
    (models / "dask").mkdir()
    with cluster(models / "dask", workers=2) as found:
        yield found


def verdicts(document: dict[str, Any]) -> list[Any]:
    """Return what a report says, without what differs between two runs of one machine."""
    models = [{**model, "seconds": 0} for model in document["models"]]
    return [models, document["summary"]]


def test_verdicts_are_those_of_one_machine_and_come_as_they_end(running: Running, models: Path) -> None:
    here = bninspect("lint", "--json", "models", cwd=models)
    there = bninspect(
        *("lint", "--json", "models", "--dask", running.file, "--resume", "r.jsonl", "-o", "html=r.html"), cwd=models
    )
    assert there.returncode == here.returncode == 3, there.stderr
    assert there.stderr == here.stderr
    assert verdicts(json.loads(there.stdout)) == verdicts(json.loads(here.stdout))
    lines = [json.loads(line) for line in (models / "r.jsonl").read_text().splitlines()]
    assert len([line for line in lines if "model" in line]) == COPIES + 2
    again = bninspect("lint", "--json", "models", "--dask", running.file, "--resume", "r.jsonl", cwd=models)
    assert verdicts(json.loads(again.stdout)) == verdicts(json.loads(here.stdout))


def test_a_worker_that_is_killed_costs_no_model(running: Running, models: Path) -> None:
    """It dies while it works, its nanny starts another one, and what it had is done once more."""
    wait_until(lambda: len(running.worker_pids()) == 2)
    names = ["models"]
    for copy in range(8):
        shutil.copytree(models / "models", models / f"more{copy}")
        names.append(f"more{copy}")
    lines: list[int] = []

    def ended() -> int:
        return (models / "r.jsonl").read_text().count("\n") if (models / "r.jsonl").is_file() else 0

    def kill() -> None:
        wait_until(lambda: ended() > 20)
        os.kill(running.worker_pids()[0], signal.SIGKILL)
        lines.append(ended())

    killer = threading.Thread(target=kill)
    killer.start()
    done = bninspect("lint", "--json", *names, "--dask", running.file, "-o", "jsonl=r.jsonl", cwd=models)
    killer.join()
    assert lines[0] < 8 * (COPIES + 2)
    document = json.loads(done.stdout)
    assert document["summary"]["models"] == 9 * (COPIES + 2)
    kinds = Counter((model["error"] or {}).get("kind") for model in document["models"])
    assert kinds == {None: 9 * (COPIES + 1), "DamagedFile": 9}, done.stderr


def test_without_any_worker_every_model_is_an_error(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bninspect import Settings
    from bninspect.jobs import pipeline
    from bninspect.jobs.context import Surroundings

    (models / "dask").mkdir()
    with cluster(models / "dask", workers=1) as found:

        def end(_: Any) -> None:
            monkeypatch.setattr(client, "WAIT_SECONDS", 2.0)
            for worker in found.workers:
                worker.terminate()
                worker.wait()

        paths = [str(path) for path in sorted((models / "models").iterdir())]
        settings = Settings(dask=str(found.file))
        report = pipeline.inspect(paths, settings, Surroundings(ended=end))
    assert report.summary.models == COPIES + 2
    assert report.summary.exit_code == 3
    lost = [model for model in report.models if model.error and model.error.kind == "WorkerDied"]
    assert lost
    assert {model.error.what for model in lost if model.error} == {"no worker of the Dask cluster is left"}


def test_ctrl_c_cancels_what_waits_and_leaves_no_process(models: Path) -> None:
    for copy in range(20):
        shutil.copytree(models / "models", models / f"more{copy}")
    environment = marked()
    with subprocess.Popen(
        after(LISTENING, "lint", ".", "--dask", "local:2", "--resume", "r.jsonl"),
        cwd=models,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as command:
        wait_until(lambda: (models / "r.jsonl").is_file() and (models / "r.jsonl").read_text().count("\n") > 5)
        os.killpg(command.pid, signal.SIGINT)  # as a terminal does: to all of the group
        printed, said = command.communicate()
    assert (command.returncode, printed) == (130, "")
    found, *lines = filter(None, said.splitlines())  # click ends the line of the ^C
    assert found.endswith(" models were found")
    assert lines[0] == "error: interrupted"
    assert len(lines) == 2, said
    wait_for_the_end(environment)


def begun(command: list[str], folder: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a command in a folder, and return it in the middle of its work."""
    (folder / "r.jsonl").unlink(missing_ok=True)
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=quiet, stderr=quiet)
    wait_until(lambda: (folder / "r.jsonl").is_file() and (folder / "r.jsonl").read_text().count("\n") > 5)
    assert process.poll() is None
    return process


def test_a_command_that_is_killed_leaves_no_process_and_is_taken_up(models: Path) -> None:
    for copy in range(4):
        shutil.copytree(models / "models", models / f"more{copy}")
    place = ["lint", ".", "--dask", "local:2", "--resume", "r.jsonl"]
    environment = marked()
    with begun(after("pass", *place), models, environment) as process:
        process.kill()
    wait_for_the_end(environment)
    known = (models / "r.jsonl").read_text().count("\n")
    again = bninspect(*place, "--json", cwd=models)
    document = json.loads(again.stdout)
    assert known < document["summary"]["models"] == 5 * (COPIES + 2)
    assert len({model["path"] for model in document["models"]}) == 5 * (COPIES + 2)
    assert Counter(model["status"] for model in document["models"])["error"] == 5


def test_a_killed_command_leaves_no_process_on_the_workers(models: Path) -> None:
    """Nobody tells the workers that it is gone: what nobody needs ends by itself."""
    for copy in range(4):
        shutil.copytree(models / "models", models / f"more{copy}")
    (models / "dask").mkdir()
    impatient = models / "dask" / "impatient.py"
    impatient.write_text("from bninspect.jobs.cluster import worker_side\nworker_side.IDLE_SECONDS = 1.0\n")
    place = ["lint", ".", "--resume", "r.jsonl", "--dask"]
    with cluster(models / "dask", 2, DASK_DISTRIBUTED__WORKER__PRELOAD=repr([str(impatient)])) as found:
        with begun(after("pass", *place, found.file), models, marked()) as process:
            process.kill()
        wait_until(lambda: not any(children(pid, "bninspect") for pid in found.worker_pids()))
        again = json.loads(bninspect(*place, found.file, "--json", cwd=models).stdout)
    assert again["summary"]["models"] == 5 * (COPIES + 2)


def test_a_command_that_has_ended_leaves_no_process_on_the_workers(running: Running, models: Path) -> None:
    """A cluster goes on after a command; the processes of its run do not."""
    done = bninspect("lint", "models", "--dask", running.file, cwd=models)
    assert done.returncode == 3
    below = [pid for pid in running.worker_pids() if children(pid, "bninspect")]
    assert below == []


def test_no_scheduler_is_an_error_and_not_a_traceback(
    models: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from bninspect.cli import run

    monkeypatch.setattr(client, "CONNECT_SECONDS", 1.0)
    monkeypatch.chdir(models)
    assert run(["lint", "models", "--dask", "tcp://127.0.0.1:9"]) == 3
    said = capfd.readouterr().err
    assert said.startswith("error: the Dask cluster at tcp://127.0.0.1:9 does not answer\n  why: ")
    assert "Traceback" not in said


def test_a_worker_of_another_version_is_refused_and_what_to_install_is_said() -> None:
    here = dict(likeness.describe())
    assert likeness.require({"a": here}, runs=True) == here
    with pytest.raises(errors.UnlikeWorker, match="worker b") as caught:
        likeness.require({"a": here, "b": {**here, "h5py": "2.0"}}, runs=False)
    assert caught.value.why == f"h5py is 2.0 there, and {here['h5py']} here"
    assert caught.value.hint == f"pip install h5py=={here['h5py']} on the worker"
    with pytest.raises(errors.UnlikeWorker) as caught:
        likeness.require({"a": ModuleNotFoundError("No module named 'bninspect'")}, runs=False)
    assert "bninspect[dask]==" in caught.value.hint


def test_processors_count_where_frameworks_run_and_only_there() -> None:
    here = dict(likeness.describe())
    other = {**here, likeness.PROCESSOR: f"{here[likeness.PROCESSOR]} AVX1024"}
    assert likeness.PROCESSOR not in likeness.require({"a": here, "b": other}, runs=False)
    assert likeness.require({"a": other, "b": other}, runs=True)[likeness.PROCESSOR] == other[likeness.PROCESSOR]
    with pytest.raises(errors.UnlikeWorker) as caught:
        likeness.require({"a": here, "b": other}, runs=True)
    assert "AVX1024" in caught.value.why


def test_a_configuration_file_names_no_cluster(models: Path) -> None:
    (models / "bninspect.toml").write_text('dask = "tcp://10.0.0.1:8786"\n')
    done = bninspect("lint", "models", cwd=models)
    assert done.returncode == 2
    assert "'dask' may not stand in" in done.stderr
    assert alive(marked()) == []
