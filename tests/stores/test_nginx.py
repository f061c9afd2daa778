"""Models behind a real web server, on this machine and in a network namespace of its own."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers import nginx, onnx_files
from helpers.running import bninspect

pytest.importorskip("aiohttp")
pytest.importorskip("fsspec")

MODEL = "keras3_digits.h5"


@pytest.fixture
def served(sample_models: Path, tmp_path: Path) -> Path:
    """A folder with one model that is much larger than its batch norms."""
    import h5py
    import numpy as np

    (tmp_path / "root").mkdir()
    (tmp_path / "nginx").mkdir()
    path = tmp_path / "root" / MODEL
    shutil.copy(sample_models / MODEL, path)
    with h5py.File(path, "r+") as file:
        file["padding"] = np.arange(1_000_000, dtype=np.float32)
    return path


def _inspected(url: str, *options: str) -> dict[str, Any]:
    done = bninspect("inspect", f"{url}/{MODEL}", "--json", *options)
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)["models"][0]
    return found


def test_a_part_of_a_file_is_read_and_its_version_said(served: Path, tmp_path: Path) -> None:
    with nginx.serving(served.parent, tmp_path / "nginx") as url:
        found = _inspected(url, "--allow-host", "127.0.0.1")
    assert found["sha256"] is None
    assert str(found["version"]).strip('W/"')
    size = served.stat().st_size
    read = found["bytes_read"]
    assert isinstance(read, int)
    assert 0 < read < size // 4
    requests = (tmp_path / "nginx" / "requests").read_text()
    assert '" 206 ' in requests


def test_a_whole_file_is_verified_by_its_digest(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    for name in ("nginx", "root"):
        (tmp_path / name).mkdir()
    model = onnx_files.write_norm(tmp_path / "root" / "a.onnx")
    with nginx.serving(model.parent, tmp_path / "nginx") as url:
        done = bninspect("verify", f"{url}/a.onnx", "--json", "--allow-host", "127.0.0.1")
    found = json.loads(done.stdout)["models"][0]
    assert (done.returncode, found["status"]) == (0, "pass")
    assert found["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()


def test_a_server_in_another_network(served: Path, tmp_path: Path) -> None:
    with nginx.network() as (address, inside), nginx.serving(served.parent, tmp_path / "nginx", address, inside) as url:
        found = _inspected(url, "--allow-host", address)
    layers = json.loads(bninspect("inspect", str(served), "--json").stdout)["models"][0]["layers"]
    assert [layer["name"] for layer in found["layers"]] == [layer["name"] for layer in layers]
