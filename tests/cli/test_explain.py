"""`bninspect explain`, as users call it."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers.running import bninspect

from bninspect.records import PARAMETERS

MODEL = "keras2_digits.h5"
NAME = "batch_normalization_1"
QUESTION = (
    "--gamma", "1.0055743", "--beta", "-0.016652612", "--mean", "-0.089603029", "--variance", "0.000436493",
    "--epsilon", "1e-3", "--x", "-0.077417567",
)  # fmt: skip


def test_the_published_question() -> None:
    done = bninspect("explain", *QUESTION, "--y", "0.543057")
    assert (done.returncode, done.stderr) == (1, "")
    assert "= 0.3066464" in done.stdout
    causes = [one for one in done.stdout.splitlines() if one.startswith(("cause", "or "))]
    assert len(causes) == 1
    assert "epsilon added outside the square root" in causes[0]


def test_the_published_answer() -> None:
    done = bninspect("explain", *QUESTION, "--y", "0.30664611")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("MATCH")


def parameters(folder: Path) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    with h5py.File(folder / MODEL) as file:
        group = file[f"model_weights/{NAME}/{NAME}"]
        return {name.partition(":")[0]: np.asarray(group[name]) for name in group}


def test_one_channel_of_a_model(sample_models: Path) -> None:
    of = parameters(sample_models)
    done = bninspect("explain", MODEL, "--layer", NAME, "--channel", "3", cwd=sample_models)
    scale = of["gamma"][3] / np.sqrt(of["moving_variance"][3] + 1e-3)
    assert f"= {scale:.6f}"[:-1] in done.stdout
    done = bninspect("explain", MODEL, "--layer", NAME, "--channel", "3", "--x", "0.25", "--json", cwd=sample_models)
    (term,) = json.loads(done.stdout)["layers"][0]["arithmetic"]
    assert term["expected"] == pytest.approx(float((0.25 - of["moving_mean"][3]) * scale + of["beta"][3]), rel=1e-5)


@pytest.mark.parametrize(("epsilon", "code", "says"), [(1e-3, 0, "MATCH"), (1e-5, 1, "epsilon 1e-05 instead of 0.001")])
def test_what_another_runtime_computed(
    epsilon: float, code: int, says: str, sample_models: Path, tmp_path: Path
) -> None:
    of = parameters(sample_models)
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 12)).astype(np.float32)
    y = (x - of["moving_mean"]) / np.sqrt(of["moving_variance"] + np.float32(epsilon)) * of["gamma"] + of["beta"]
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    arrays = ("--input", tmp_path / "x.npy", "--output", tmp_path / "y.npy")
    done = bninspect("explain", MODEL, "--layer", NAME, *arrays, cwd=sample_models)
    assert (done.returncode, done.stderr) == (code, "")
    assert says in done.stdout


def test_a_training_step(sample_models: Path, tmp_path: Path) -> None:
    assert "PyTorch" in bninspect("explain", "--training", "--x", "1,2,3,4").stdout
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(5, 12)).astype(np.float32))
    batch = ("--training", "--input", tmp_path / "x.npy", "--axis", "-1", "--json")
    done = bninspect("explain", MODEL, "--layer", NAME, *batch, cwd=sample_models)
    step = json.loads(done.stdout)["step"]
    assert (step["n"], step["over"]) == (5, [0])
    assert step["moving_mean"] == parameters(sample_models)["moving_mean"][:8].astype(float).tolist()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "give a MODEL, or --mean and --variance"),
        (("--mean", "0"), "give a MODEL, or --mean and --variance"),
        (("--mean", "0", "--variance", "x"), "'x' is not a number"),
        (("--mean", "0", "--variance", "1", "--channel", "1"), "--channel needs a MODEL"),
        ((MODEL, "--gamma", "1"), "--gamma stands in the MODEL"),
        ((MODEL, "--input", MODEL), "--input and --output go together"),
        ((MODEL, "--x", "1"), "4 layers are chosen, one is needed"),
        ((MODEL, "--layer", NAME, "--channel", "99"), "channels 0 to 11"),
        ((MODEL, "--layer", "nothing"), "no layer fits"),
        (("--training",), "takes its batch from --input or from --x"),
        (("--training", "--x", "1", "--y", "1"), "do not give outputs with it"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], says: str, sample_models: Path) -> None:
    done = bninspect("explain", *arguments, cwd=sample_models)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert says in done.stderr


def test_arrays_are_read_within_the_limits_by_a_process_of_its_own(sample_models: Path, tmp_path: Path) -> None:
    for name in ("x.npy", "y.npy"):  # 1 GB each of zeros that are nowhere on the disk
        np.lib.format.open_memmap(tmp_path / name, "w+", np.float32, (16_000_000, 16)).flush()
    paths = "--input", tmp_path / "x.npy", "--output", tmp_path / "y.npy"
    layer = "--layer", "batch_normalization_2"
    done = bninspect("explain", MODEL, *layer, *paths, "--max-memory", "600MB", cwd=sample_models)
    assert (done.returncode, done.stdout) == (3, "")
    assert "memory" in done.stderr


def test_numbers_that_are_not_finite_come_back_from_that_process(sample_models: Path, tmp_path: Path) -> None:
    x = np.full((1, 12), 0.5, np.float32)
    x[0, 3] = np.inf
    np.save(tmp_path / "x.npy", x)
    paths = "--input", tmp_path / "x.npy", "--output", tmp_path / "x.npy"
    done = bninspect("explain", MODEL, "--layer", NAME, *paths, "--axis", "-1", cwd=sample_models)
    assert done.returncode == 1
    done = bninspect(
        "explain",
        MODEL,
        "--layer",
        NAME,
        "--training",
        "--input",
        tmp_path / "x.npy",
        "--axis",
        "-1",
        cwd=sample_models,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "inf" in done.stdout


def test_parameters_of_a_layer_that_was_not_chosen_are_named(sample_models: Path, tmp_path: Path) -> None:
    from bninspect import formats

    model = "keras2_nested.h5"
    layers = {layer.name: layer for layer in formats.read(sample_models / model).layers}
    other = layers["features/block/inner_norm"]
    x = np.random.default_rng(5).normal(size=(32, other.channels)).astype(np.float32)
    gamma, beta, mean, variance = (other.arrays[name].astype(np.float64) for name in PARAMETERS)
    y = gamma * (x - mean) / np.sqrt(variance + (layers["head_norm"].epsilon or 0)) + beta
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y.astype(np.float32))
    paths = ("--input", str(tmp_path / "x.npy"), "--output", str(tmp_path / "y.npy"), "--axis", "-1")
    done = bninspect("explain", model, "--layer", "head_norm", *paths, cwd=sample_models)
    assert done.returncode == 1
    assert "every parameter of features/block/inner_norm used instead of its own" in " ".join(done.stdout.split())


def test_text_and_a_channel_too_few_are_refused_with_what_to_do(sample_models: Path, tmp_path: Path) -> None:
    from bninspect import formats

    own = next(layer for layer in formats.read(sample_models / MODEL).layers if layer.name == NAME)
    x = np.ones((4, own.channels), np.float32)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", x[:, 1:])
    np.savetxt(tmp_path / "x.csv", x, delimiter=",")
    axis = ("--axis", "-1")
    given = ("--input", str(tmp_path / "x.csv"), "--output", str(tmp_path / "y.npy"), *axis)
    done = bninspect("explain", MODEL, "--layer", NAME, *given, cwd=sample_models)
    assert (done.returncode, "numpy.loadtxt" in done.stderr) == (3, True)
    given = ("--input", str(tmp_path / "x.npy"), "--output", str(tmp_path / "y.npy"), *axis)
    done = bninspect("explain", MODEL, "--layer", NAME, *given, cwd=sample_models)
    assert (done.returncode, f"lacks 1 of {own.channels} channels" in done.stderr) == (2, True)
