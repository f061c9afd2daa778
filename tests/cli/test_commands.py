"""Commands as users call them: what they print, where, and how they end."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers.marked import alive, marked, wait_for_the_end
from helpers.running import LISTENING, after, bninspect

MODEL = "keras2_digits.h5"
LAYERS = ["batch_normalization", "batch_normalization_1", "batch_normalization_2", "batch_normalization_3"]


def test_inspect_lists_the_layers_on_standard_output_alone(sample_models: Path) -> None:
    done = bninspect("inspect", MODEL, cwd=sample_models)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == f"{MODEL}  Keras 2.21.0, keras-h5, 4 batch-norm layers, 60 channels; epsilon 0.001"
    assert [line.split()[0] for line in lines[2:6]] == LAYERS
    with h5py.File(sample_models / MODEL) as file:
        variance = file["model_weights/batch_normalization/batch_normalization/moving_variance:0"][()]
    assert f"{variance.min():.3g} .. {variance.max():.3g}" in lines[2]


def test_inspect_one_layer_in_detail_and_as_json(sample_models: Path) -> None:
    done = bninspect("inspect", MODEL, "--layer", "*_1", cwd=sample_models)
    assert "5 %" in done.stdout
    assert "batch_normalization_2" not in done.stdout
    document = json.loads(bninspect("inspect", MODEL, "--layer", "*_1", "--json", cwd=sample_models).stdout)
    (layer,) = document["models"][0]["layers"]
    assert (layer["name"], layer["status"], layer["epsilon"]) == ("batch_normalization_1", None, 0.001)
    assert document["options"]["layer"] == {"value": ["*_1"], "source": "command line"}
    assert document["options"]["timeout"] == {"value": None, "source": "default"}


def test_an_option_may_come_from_the_environment(sample_models: Path) -> None:
    done = bninspect("inspect", MODEL, "--json", cwd=sample_models, BNINSPECT_INSPECT_LAYER="*_1 *_3")
    document = json.loads(done.stdout)
    assert [layer["name"] for layer in document["models"][0]["layers"]] == [LAYERS[1], LAYERS[3]]
    assert document["options"]["layer"]["source"] == "environment"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("inspect", "broken_truncated.h5"), 3, "truncated"),
        (("inspect", "broken_lfs_pointer.h5"), 3, "git lfs pull"),
        (("inspect", "broken_bit.keras"), 3, "CRC"),
        (("inspect", "keras3_without_batch_norm.keras"), 5, "no batch-norm layer"),
        (("inspect", "keras3_without_batch_norm.keras", "--allow-empty"), 0, "no batch-norm layer"),
        (("inspect", "manifest.json"), 3, "not of a format that bninspect reads"),
        (("inspect", "broken_nan.h5"), 1, "BN101"),
        (("inspect", "broken_nan.h5", "--ignore", "BN101"), 0, "4 batch-norm layers"),
        (("inspect", "broken_nan.h5", "--fail-on", "never"), 0, "BN101"),
        (("inspect", MODEL, "broken_nan.h5", "broken_truncated.h5"), 3, "3 models: 1 pass, 1 fail, 1 error"),
    ],
)
def test_exit_codes_and_what_is_said(arguments: tuple[str, ...], code: int, says: str, sample_models: Path) -> None:
    done = bninspect(*arguments, cwd=sample_models)
    assert (done.returncode, done.stderr) == (code, "")
    assert says in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (("inspect", "missing.h5"), "does not exist", ""),
        (("inspect", MODEL, "--layer", "nothing*"), "no layer fits", "bninspect inspect"),
        (("inspect", MODEL, "--lair", "x"), "--layer", "--help"),
        (("verify", MODEL, "--rtol", "1e-3"), "--rtol and --atol go together", "--help"),
        (("verify", MODEL, "--runtime", "caffe"), "there is no runtime", "bninspect doctor lists"),
        (("verify", MODEL, "--runtime", "tf_kers"), "there is no runtime", "did you mean tf-keras?"),
        (("verify", MODEL, "-o", "jsn=build/report.json"), "'jsn' is not a format", "did you mean 'json'?"),
        (("verify", MODEL, "-o", "json"), "'json' does not name a file: write json=PATH", "--help"),
        (("export", MODEL, "--format", "npz", "-o", MODEL, "--force"), MODEL, ""),
        (("export", MODEL, "--format", "npz", "-o", "no/such/folder.npz"), "folder", ""),
        (("inspekt",), "No such command", "did you mean 'inspect'?"),
        (("zzz",), "No such command", "--help"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_to_do(
    arguments: tuple[str, ...], error: str, hint: str, sample_models: Path
) -> None:
    done = bninspect(*arguments, cwd=sample_models)
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert lines[0].startswith("error: ")
    assert error in done.stderr
    assert hint in lines[-1]
    assert "Traceback" not in done.stderr


def test_export_writes_what_the_file_holds(sample_models: Path, tmp_path: Path) -> None:
    done = bninspect("export", sample_models / MODEL, "--format", "npz", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "wrote 4 batch-norm layers, 60 channels to keras2_digits.npz\n"
    with h5py.File(sample_models / MODEL) as file, np.load(tmp_path / "keras2_digits.npz") as exported:
        for name in LAYERS:
            for parameter in ("gamma", "beta", "moving_mean", "moving_variance"):
                stored = file[f"model_weights/{name}/{name}/{parameter}:0"][()]
                np.testing.assert_array_equal(exported[f"{name}/{parameter}"], stored)
            assert exported[f"{name}/epsilon"] == 0.001
    again = bninspect("export", sample_models / MODEL, "--format", "npz", cwd=tmp_path)
    assert again.returncode == 2
    assert "--force" in again.stderr
    read_back = bninspect("inspect", "keras2_digits.npz", "--json", cwd=tmp_path)
    assert [layer["name"] for layer in json.loads(read_back.stdout)["models"][0]["layers"]] == LAYERS


def test_export_to_standard_output_is_the_data_alone(sample_models: Path) -> None:
    done = bninspect("export", sample_models / MODEL, "--format", "csv", "-o", "-", "--layer", "*_1")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["channel"] for row in rows] == [str(channel) for channel in range(12)]
    assert done.stderr.startswith("wrote 1 batch-norm layer, 12 channels")


def test_export_says_that_epsilon_is_unknown_and_takes_it(sample_models: Path) -> None:
    weights = sample_models / "keras3_digits.weights.h5"
    done = bninspect("export", weights, "--format", "json", "-o", "-")
    assert done.returncode == 0
    assert "note: epsilon is unknown for batch_normalization and 3 more" in done.stderr
    assert all(layer["epsilon"] is None for layer in json.loads(done.stdout)["layers"])
    folded = bninspect("export", weights, "--format", "json", "-o", "-", "--folded")
    assert folded.returncode == 2
    assert "--epsilon" in folded.stderr
    supplied = bninspect("export", weights, "--format", "json", "-o", "-", "--epsilon", "*_1=1e-5", "--epsilon", "1e-3")
    layers = json.loads(supplied.stdout)["layers"]
    assert [layer["epsilon"] for layer in layers] == [1e-3, 1e-5, 1e-3, 1e-3]
    assert {layer["epsilon_source"] for layer in layers} == {"--epsilon"}


def test_reports_go_to_files_and_to_standard_output_in_one_run(sample_models: Path, tmp_path: Path) -> None:
    done = bninspect(
        "inspect", sample_models / MODEL, "-o", f"json={tmp_path / 'r.json'}", "-o", f"text={tmp_path / 'r.txt'}"
    )
    assert (tmp_path / "r.txt").read_text() == done.stdout
    assert json.loads((tmp_path / "r.json").read_text())["summary"]["exit_code"] == 0


def test_a_report_never_replaces_a_model(sample_models: Path, tmp_path: Path) -> None:
    model = tmp_path / "m.h5"
    model.write_bytes((sample_models / MODEL).read_bytes())
    done = bninspect("inspect", model, "-o", f"json={model}")
    assert done.returncode != 0
    assert model.read_bytes() == (sample_models / MODEL).read_bytes()


def test_same_bytes_same_verdict_whatever_the_name_and_place(sample_models: Path, tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('ran the code of a stranger')")
    for name in ("m.bin", "m.keras", "::error::x\n.h5", "-m.h5"):
        (tmp_path / name).write_bytes((sample_models / MODEL).read_bytes())
        done = bninspect("inspect", "--json", "--", name, cwd=tmp_path, LC_ALL="C", HOME=str(tmp_path))
        assert done.returncode == 0
        (model,) = json.loads(done.stdout)["models"]
        assert [layer["name"] for layer in model["layers"]] == LAYERS
        shown = bninspect("inspect", "--", name, cwd=tmp_path).stdout
        assert not any(line.startswith("::") for line in shown.splitlines()[1:])


def test_doctor_keeps_to_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    from bninspect.cli import doctor, messages

    monkeypatch.setattr(messages, "width", lambda: 60)
    rows = doctor._screen(doctor._known()).splitlines()
    assert max(map(len, rows)) <= 60
    assert "                  folder)" in rows


def test_schema_and_doctor_and_version() -> None:
    assert json.loads(bninspect("schema").stdout)["title"] == "bninspect report, version 1.0"
    doctor = bninspect("doctor")
    assert doctor.returncode == 0
    for name in ("keras-h5", "keras-zip", "keras-weights", "npz", "safetensors", "tf-keras", "1.5 GB"):
        assert name in doctor.stdout
    known = json.loads(bninspect("doctor", "--json").stdout)
    assert {"tensorflow", "keras", "tf_keras", "torch", "onnxruntime"} <= set(known["environment"])
    assert {"name", "title", "version", "missing", "install"} == set(known["runs"][0])
    assert bninspect("--version").stdout == "bninspect 0.1.0\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_is_said(sample_models: Path) -> None:
    command = [sys.executable, "-m", "bninspect", "inspect", str(sample_models / "keras3_digits.keras"), "--json"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 3
    assert "cannot be written" in done.stderr
    assert "No space left" in done.stderr


def test_a_closed_output_is_no_error(sample_models: Path) -> None:
    command = [sys.executable, "-m", "bninspect", "inspect", str(sample_models / "keras3_digits.keras")]
    done = subprocess.run(["sh", "-c", '"$@" >&-', "-", *command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_closed_pipe_is_no_error(sample_models: Path) -> None:
    command = f"{sys.executable} -P -m bninspect inspect {MODEL} --json | head -c 10"
    done = subprocess.run(command, shell=True, cwd=sample_models, capture_output=True, text=True, check=True)
    assert done.stderr == ""


@pytest.mark.parametrize("form", ["text", "json", "jsonl"])
def test_a_reader_that_has_gone_opens_no_gate(form: str, sample_models: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "bninspect", "lint", "broken_nan.h5", "-f", form]
    command += ["-o", f"json={tmp_path / 'r.json'}"]
    with subprocess.Popen(command, cwd=sample_models, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        assert (running.wait(60), running.stderr.read()) == (1, b"")
    assert json.loads((tmp_path / "r.json").read_text())["summary"]["exit_code"] == 1


def test_an_interrupt_ends_with_130_and_leaves_no_process(sample_models: Path) -> None:
    environment = marked()
    command = after(LISTENING, "verify", sample_models / MODEL)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as running:
        while len(alive(environment)) < 5:  # the command, two workers, and who watches each
            assert running.poll() is None
            time.sleep(0.02)
        running.send_signal(signal.SIGINT)
        _, complaint = running.communicate()
    assert running.returncode == 130
    assert complaint.strip() == "error: interrupted"
    wait_for_the_end(environment)


def test_colour_by_option_environment_and_terminal(sample_models: Path) -> None:
    def coloured(*arguments: str, **environment: str) -> bool:
        return "\x1b[" in bninspect("inspect", MODEL, *arguments, cwd=sample_models, **environment).stdout

    assert not coloured()
    assert coloured("--color", "always")
    assert coloured(FORCE_COLOR="1")
    assert not coloured(FORCE_COLOR="1", NO_COLOR="1")
    assert not coloured("--color", "never", FORCE_COLOR="1")
    reader, writer = pty.openpty()
    command = [sys.executable, "-P", "-m", "bninspect", "inspect", MODEL]
    environment = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR"}}
    subprocess.run(command, cwd=sample_models, stdout=writer, stderr=writer, env=environment, check=True)
    os.close(writer)
    assert b"\x1b[1m" in os.read(reader, 100_000)
    os.close(reader)
