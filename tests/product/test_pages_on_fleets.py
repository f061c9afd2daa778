"""The commands of the pages on clusters and buckets, against servers that the tests start."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import onnx_files
from helpers.bucket import bucket
from helpers.marked import wait_for
from helpers.screens import REPOSITORY, shell
from helpers.web_server import serve

pytest.importorskip("distributed")
pytest.importorskip("s3fs")
pytest.importorskip("moto")
pytest.importorskip("onnxruntime")

PAGES = REPOSITORY / "docs" / "how-to"


def commands(page: str, word: str) -> list[str]:
    """Return the lines of a page's shell blocks that hold a word."""
    text = (PAGES / page).read_text("utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if word in line]


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with two models that a small runtime verifies, so that commands run as they stand there."""
    (tmp_path / "models").mkdir()
    for number in (1, 2):
        onnx_files.write_norm(tmp_path / "models" / f"{number}.onnx", number)
    return tmp_path


@pytest.fixture
def started(models: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in reversed(processes):
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def start(line: str, folder: Path, **environment: str) -> subprocess.Popen[bytes]:
    """Start what `dask ...` starts, by this interpreter, on ports of its own."""
    _, kind, *options = shlex.split(line)
    own = ["--host", "127.0.0.1", "--port", "0"] if kind == "scheduler" else ["--local-directory", str(folder)]
    return subprocess.Popen(
        [sys.executable, "-P", "-m", f"distributed.cli.dask_{kind}", *options, *own, "--no-dashboard"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )


def address_of_scheduler(folder: Path) -> str:
    """Return where the scheduler is, once it has written the whole file that says so."""
    wait_for(folder / "cluster.json")
    while not (text := (folder / "cluster.json").read_text()).rstrip().endswith("}"):
        time.sleep(0.02)
    return str(json.loads(text)["address"])


def manifests(page: str) -> dict[str, Any]:
    """Return the specification of the containers' pods in a page's manifests, by the name of the container."""
    text = (PAGES / page).read_text("utf-8")
    every = [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)]
    kinds = ("template", "worker", "scheduler")
    pods = [one["spec"][kind]["spec"] for one in every for kind in kinds if kind in one["spec"]]
    return {container["name"]: container for pod in pods for container in pod["containers"]}


def test_a_cluster_by_hand_and_what_the_pods_of_kubernetes_run(
    models: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    """One scheduler, with the worker of a pod, whom the operator tells where it is, and then with another."""
    scheduler, worker = commands("clusters.md", "--scheduler-file")
    (check,) = commands("clusters.md", "--dask cluster.json")
    pods = {name: shlex.join(container["args"]) for name, container in manifests("clusters.md").items()}
    assert scheduler.startswith(pods["scheduler"])
    started.append(start(scheduler, models))
    address = address_of_scheduler(models)
    of_a_pod = pods["worker"].replace("'$(DASK_WORKER_NAME)'", "of-a-pod")
    started.append(start(of_a_pod, models, DASK_SCHEDULER_ADDRESS=address))
    runner = shell(models)
    here = pods["check"].replace("s3://models/nightly/", "models")
    printed = runner.run(here.replace("tcp://bninspect-scheduler:8786", address))
    assert runner.code == 0, printed
    assert '"verified":2' in printed
    started[1].terminate()
    started.append(start(worker.replace("--nworkers 4", "--nworkers 1"), models))
    printed = runner.run(check)
    assert runner.code == 0, printed
    assert "2 of 2 layers verified" in printed
    assert (models / "results.jsonl").read_text().count('{"model":') == 2


def test_a_cluster_with_certificates(models: Path, started: list[subprocess.Popen[bytes]]) -> None:
    from distributed.security import Security

    made = Security.temporary()
    exports = commands("clusters.md", "export DASK_")
    variables = dict(line.removeprefix("export ").split("=") for line in exports)
    texts = {"ca.pem": made.tls_ca_file, "client.pem": made.tls_client_cert, "client.key": made.tls_client_key}
    for name, text in texts.items():
        (models / name).write_text(text)
    own = {name: value for name, value in variables.items() if "CLIENT" in name}
    roles = ("SCHEDULER", "WORKER")
    others = {name.replace("CLIENT", role): value for role in roles for name, value in own.items()}
    started.append(start("dask scheduler --scheduler-file cluster.json --protocol tls", models, **variables, **others))
    address = address_of_scheduler(models)
    started.append(start("dask worker --scheduler-file cluster.json --nthreads 1", models, **variables, **others))
    assert address.startswith("tls://")
    runner = shell(models)
    printed = runner.run(f"{'; '.join(exports)}; bninspect lint --quiet models --dask {address}")
    assert runner.code == 0, printed
    other = Security.temporary()
    texts = {"ca.pem": other.tls_ca_file, "client.pem": other.tls_client_cert, "client.key": other.tls_client_key}
    for name, text in texts.items():
        (models / f"other-{name}").write_text(text)
    strangers = "; ".join(re.sub(r"=(\w+\.\w+)$", r"=other-\1", line) for line in exports)
    for before in ("true", strangers):  # no certificate, and that of nobody we know
        refused = runner.run(f"{before}; bninspect lint --quiet models --dask {address}")
        assert runner.code == 3, refused
        assert refused.startswith(f"error: the Dask cluster at {address} does not answer")


def test_workers_that_a_batch_system_starts(models: Path, started: list[subprocess.Popen[bytes]]) -> None:
    """The script of one job, as SLURM would run it, on this machine."""
    jobqueue = pytest.importorskip("dask_jobqueue", exc_type=ImportError)
    text = (PAGES / "clusters.md").read_text("utf-8")
    (made,) = re.findall(r"^cluster = (SLURMCluster\(.*\))$", text, re.MULTILINE)
    here = made.replace('"port": 8786', '"port": 0, "host": "127.0.0.1"').replace("processes=4", "processes=1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the usual port of a page about the cluster is taken
        with eval(made.replace("8786", "0"), {"SLURMCluster": jobqueue.SLURMCluster}) as cluster:
            script = cluster.job_script()
        assert re.search(r"^#SBATCH -t 02:00:00$", script, re.MULTILINE)
        assert re.search(r"^#SBATCH --cpus-per-task=4$", script, re.MULTILINE)
        assert "--nthreads 1 " in script
        assert "--nworkers 4 " in script
        with eval(here, {"SLURMCluster": jobqueue.SLURMCluster}) as cluster:
            (models / "job.sh").write_text(cluster.job_script())
            started.append(subprocess.Popen(["bash", "job.sh"], cwd=models, stderr=subprocess.DEVNULL))
            runner = shell(models)
            printed = runner.run(f"bninspect lint --quiet models --dask {cluster.scheduler_address}")
            assert runner.code == 0, printed


def test_models_in_a_bucket_and_on_a_web_server(
    models: Path, sample_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = commands("buckets.md", "bninspect lint")
    assert len(shown) == 4
    objects = {
        "nightly/model.keras": "keras3_digits.keras",
        "nightly/other.h5": "keras2_digits.h5",
        "a/best.h5": "keras3_digits.h5",
    }
    with bucket() as found, serve(models) as server:
        for key, name in objects.items():
            found.put(key, sample_models / name)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL"):
            monkeypatch.setenv(name, found.environment[name])
        runner = shell(models)
        runner.run(f"bninspect export {sample_models}/keras3_digits.h5 -f safetensors -o model.safetensors")
        for line in shown:
            printed = runner.run(line.replace("https://example.com", server.url))
            assert runner.code == 0, printed


def test_a_matrix_of_jobs(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (PAGES / "buckets.md").read_text("utf-8")
    (check,) = re.findall(r"run: (bninspect verify .*)", text)
    (join,) = re.findall(r"run: (bninspect merge .*)", text)
    with bucket() as found:
        for path in (models / "models").iterdir():
            found.put(f"nightly/{path.name}", path)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL"):
            monkeypatch.setenv(name, found.environment[name])
        runner = shell(models)
        jobs = " & ".join(check.replace("${{ matrix.part }}", part) for part in "1234")
        printed = runner.run(f"{jobs} & ended=0; for job in $(jobs -p); do wait $job || ended=$?; done; (exit $ended)")
        assert runner.code == 0, printed
    printed = runner.run(join)
    assert runner.code == 0, printed
    assert "2 of 2 layers verified" in printed
    assert (models / "report.html").is_file()
