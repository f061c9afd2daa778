"""Exports for other programs: read back, and run where the program is installed."""

from __future__ import annotations

import io
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from bninspect import formats
from bninspect.arithmetic.formula import normalise
from bninspect.errors import UsageError
from bninspect.exporters import EXPORTERS, c_header, onnx, state_dict, tflite
from bninspect.records import BatchNorm, Checkpoint, LayerStatus, Statistics, Status
from bninspect.settings import Settings
from bninspect.verdicts import verify_task

VALUES = np.random.default_rng(6).uniform(0.5, 2, (5, 4, 3)).astype(np.float32)


def _layer(name: str, place: int, **changes: Any) -> BatchNorm:
    gamma, beta, mean, variance = VALUES[place]
    fields: dict[str, Any] = {
        "gamma": gamma,
        "beta": beta,
        "moving_mean": mean,
        "moving_variance": variance,
        "epsilon": 1e-3,
        "momentum": 0.75,
        "axis": (-1,),
        "epsilon_source": "file",
    }
    return BatchNorm(name, **{**fields, **changes})


CHECKPOINT = Checkpoint(
    "folder/m.h5",
    "keras-h5",
    "Keras 2.4.0",
    (
        _layer("plain", 0),
        _layer("block/bare", 1, gamma=None, beta=None),
        _layer("no_gamma", 2, gamma=None, epsilon=1e-5),
        _layer("doubles", 3, gamma=VALUES[3, 0].astype(np.float64), dtype="float64"),
    ),
)
X = np.random.default_rng(7).normal(size=(2, 5, 6, 3)).astype(np.float32)


def _read(path: Path, name: str, data: bytes) -> Checkpoint:
    (path / name).write_bytes(data)
    return formats.read(path / name)


def _same_maps(found: BatchNorm, layer: BatchNorm) -> None:
    """Both do the same to the same numbers."""
    x = X.astype(np.float64)
    np.testing.assert_allclose(
        normalise(found, x, axis=(3,)), normalise(layer, x, axis=(3,)), rtol=0, atol=1e-6, err_msg=layer.name
    )


def test_all_of_them_are_offered() -> None:
    from bninspect.cli.export import FORMATS

    assert {"torch", "torch-npz", "onnx", "tflite", "c"} <= set(FORMATS) == {one.name for one in EXPORTERS}


def test_torch_names_read_back(tmp_path: Path) -> None:
    data = state_dict.encode(CHECKPOINT, folded=False)
    checkpoint = _read(tmp_path, "m.safetensors", data)
    assert [layer.name for layer in checkpoint.layers] == ["plain", "block.bare", "no_gamma", "doubles"]
    for found, layer in zip(checkpoint.layers, CHECKPOINT.layers, strict=True):
        assert (found.epsilon, found.epsilon_source, found.axis) == (layer.epsilon, "file", (1,))
        _same_maps(found, layer)
        for name, array in layer.arrays.items():
            np.testing.assert_array_equal(found.arrays[name], array, strict=True)
    tensors = safetensors.numpy.load(data)
    assert set(tensors) >= {"block.bare.running_mean", "block.bare.num_batches_tracked"}
    assert "block.bare.weight" not in tensors
    np.testing.assert_array_equal(tensors["no_gamma.weight"], np.ones(3))


def test_torch_names_as_numpy_arrays() -> None:
    arrays = np.load(io.BytesIO(state_dict.encode_npz(CHECKPOINT, folded=False)), allow_pickle=False)
    np.testing.assert_array_equal(arrays["plain.running_var"], VALUES[0, 3], strict=True)
    assert float(arrays["no_gamma.eps"]) == 1e-5
    tensors = safetensors.numpy.load(state_dict.encode(CHECKPOINT, folded=False))
    assert {name for name in arrays.files if not name.endswith(".eps")} == set(tensors)


def test_torch_takes_them() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'bninspect[torch]'")
    tensors = safetensors.numpy.load(state_dict.encode(CHECKPOINT, folded=False))
    for layer in CHECKPOINT.layers:
        name = layer.name.replace("/", ".")
        own = {
            key.removeprefix(f"{name}."): torch.from_numpy(value)
            for key, value in tensors.items()
            if key.startswith(f"{name}.")
        }
        norm = torch.nn.BatchNorm2d(3, eps=layer.epsilon, affine="weight" in own).double().eval()
        norm.load_state_dict(
            {key: value.double() if value.dtype.is_floating_point else value for key, value in own.items()}
        )
        y = norm(torch.from_numpy(X.transpose(0, 3, 1, 2)).double()).detach().numpy()
        np.testing.assert_allclose(
            y.transpose(0, 2, 3, 1), normalise(layer, X.astype(np.float64), axis=(3,)), atol=1e-6
        )


def test_onnx_reads_back(tmp_path: Path) -> None:
    checkpoint = _read(tmp_path, "m.onnx", onnx.encode(CHECKPOINT, folded=False))
    assert [layer.name for layer in checkpoint.layers] == [layer.name for layer in CHECKPOINT.layers]
    for found, layer in zip(checkpoint.layers, CHECKPOINT.layers, strict=True):
        assert found.epsilon == float(np.float32(layer.epsilon))
        assert found.momentum == layer.momentum
        assert found.dtype == layer.dtype
        for name, array in layer.arrays.items():
            np.testing.assert_array_equal(found.arrays[name], array)


def test_onnx_runs(tmp_path: Path) -> None:
    ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'bninspect[onnx]'")
    data = onnx.encode(CHECKPOINT, folded=False)
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    first = np.ascontiguousarray(X.transpose(0, 3, 1, 2))
    feeds = {
        one.name: first.astype(np.float64) if one.type == "tensor(double)" else first for one in session.get_inputs()
    }
    assert list(feeds) == [f"{layer.name}/x" for layer in CHECKPOINT.layers]
    names = [f"{layer.name}/y" for layer in CHECKPOINT.layers]
    for layer, y in zip(CHECKPOINT.layers, session.run(names, feeds), strict=True):
        expected = normalise(layer, X.astype(np.float64), axis=(3,))
        np.testing.assert_allclose(y.transpose(0, 2, 3, 1), expected, rtol=0, atol=1e-6)
    (tmp_path / "m.onnx").write_bytes(data)
    model = verify_task.verify_checkpoint(formats.read(tmp_path / "m.onnx"), Settings()).model
    assert model.status is Status.PASS


def test_onnx_is_what_the_onnx_package_takes() -> None:
    checker = pytest.importorskip("onnx.checker", reason="onnx is not installed")
    checker.check_model(onnx.encode(CHECKPOINT, folded=False), full_check=True)


def test_tflite_reads_back(tmp_path: Path) -> None:
    checkpoint = _read(tmp_path, "m.tflite", tflite.encode(CHECKPOINT, folded=False))
    assert checkpoint.writer.startswith("bninspect")
    assert [layer.name for layer in checkpoint.layers] == [f"{layer.name}/y" for layer in CHECKPOINT.layers]
    for found, layer in zip(checkpoint.layers, CHECKPOINT.layers, strict=True):
        assert (found.statistics, found.class_name) == (Statistics.FOLDED, "MUL+ADD")
        _same_maps(found, layer)


@pytest.mark.tensorflow
def test_tflite_runs(tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(tflite.encode(CHECKPOINT, folded=False))
    model = verify_task.verify_checkpoint(formats.read(tmp_path / "m.tflite"), Settings(runtime="tflite")).model
    assert {layer.status for layer in model.layers} == {LayerStatus.VERIFIED}
    assert len(model.layers) == len(CHECKPOINT.layers)


HOSTILE = ('a"; system("x"); "', "*/ int main(void) {} /*", "a\\", "??/\nb", "\x00\x1b", "ünï/层", "\ud800")


def test_c_header_of_hostile_names_compiles_and_keeps_them(tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler here")
    layers = tuple(_layer(name, 0) for name in HOSTILE)
    checkpoint = replace(CHECKPOINT, layers=layers, path="*/x??/\n.h5", writer="*/")
    (tmp_path / "batch_norms.h").write_bytes(c_header.encode(checkpoint, folded=False))
    (tmp_path / "main.c").write_text(
        '#include <stdio.h>\n#include "batch_norms.h"\nint main(void) {\n'
        "for (int i = 0; i < BN_LAYERS; i++) { for (const char *c = bn_layers[i].name; *c; c++)"
        ' printf("%02x", (unsigned char)*c); printf("\\n"); }\nreturn 0; }\n'
    )
    command = [
        compiler,
        "-std=c99",
        "-trigraphs",
        "-Wall",
        "-Werror",
        "-Wno-unused-function",
        "main.c",
        "-o",
        "main",
        "-lm",
    ]
    subprocess.run(command, cwd=tmp_path, check=True)
    said = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True).stdout.splitlines()
    # A C string ends at the first zero.
    assert said == [name.encode("utf-8", "surrogatepass").split(b"\0")[0].hex() for name in HOSTILE]


STRICT = "-fsyntax-only -Wall -Wextra -Werror -pedantic -Wconversion -Wshadow"


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize(
    ("compiler", "language"), [("gcc", "-std=c99"), ("gcc", "-std=c17"), ("g++", "-std=c++11"), ("g++", "-std=c++17")]
)
def test_c_header_passes_strict_compilers(tmp_path: Path, compiler: str, language: str, folded: bool) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"there is no {compiler} here")
    (tmp_path / "main.cc").write_text('#include "batch_norms.h"\nint main() { return BN_LAYERS == 0; }\n')
    (tmp_path / "main.c").write_text('#include "batch_norms.h"\nint main(void) { return BN_LAYERS == 0; }\n')
    source = "main.cc" if compiler == "g++" else "main.c"
    for layers, options in ((CHECKPOINT.layers[:1], ["-Wdouble-promotion"]), (CHECKPOINT.layers, [])):
        data = c_header.encode(replace(CHECKPOINT, layers=layers), folded=folded)
        (tmp_path / "batch_norms.h").write_bytes(data)
        subprocess.run([compiler, language, *STRICT.split(), *options, source], cwd=tmp_path, check=True)


@pytest.mark.parametrize("folded", [False, True])
def test_c_numbers_are_exact(tmp_path: Path, folded: bool) -> None:
    values = np.array([1e-45, 3.4028235e38, 0.1, -0.0, 1, 16777216, 1e-3, 123456.79], np.float32)
    ones = np.ones(8, np.float32)
    layer = BatchNorm("bn", ones, values, ones * 0, ones, epsilon=0.0, axis=(-1,))
    text = c_header.encode(replace(CHECKPOINT, layers=(layer,)), folded=folded).decode()
    name = "shift" if folded else "beta"
    body = text.split(f"bn_0_{name}[8] = {{")[1].split("}")[0]
    read = np.array([np.float32(one.strip().rstrip("f")) for one in body.replace("\n", " ").split(",")])
    np.testing.assert_array_equal(read.view(np.uint32), values.view(np.uint32))


def test_c_of_doubles_is_double() -> None:
    text = c_header.encode(CHECKPOINT, folded=False).decode()
    assert "typedef double bn_real;" in text
    one = replace(CHECKPOINT, layers=CHECKPOINT.layers[:1])
    assert "typedef float bn_real;" in c_header.encode(one, folded=False).decode()


def test_what_has_no_form_is_refused() -> None:
    unknown = replace(CHECKPOINT, layers=(_layer("bn", 0, epsilon=None),))
    batch = replace(CHECKPOINT, layers=(_layer("bn", 0, statistics=Statistics.BATCH),))
    for encode in (onnx.encode, tflite.encode, c_header.encode):
        for checkpoint in (unknown, batch):
            with pytest.raises(UsageError):
                encode(checkpoint, folded=False)
    with pytest.raises(UsageError):
        state_dict.encode(batch, folded=False)
    for encode in (onnx.encode, state_dict.encode, state_dict.encode_npz):
        with pytest.raises(UsageError):
            encode(CHECKPOINT, folded=True)
    twins = replace(CHECKPOINT, layers=(_layer("a/b", 0), _layer("a.b", 0)))
    for encode in (state_dict.encode, state_dict.encode_npz):
        with pytest.raises(UsageError, match=r"two layers would be called 'a\.b'"):
            encode(twins, folded=False)
    # A state_dict holds no epsilon, so that an unknown one is not a hindrance.
    tensors = safetensors.numpy.load(state_dict.encode(unknown, folded=False))
    assert set(tensors) == {
        f"bn.{name}" for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    }
