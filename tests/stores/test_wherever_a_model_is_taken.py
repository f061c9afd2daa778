"""URLs in every place that takes a model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import onnx_files
from helpers.running import bninspect
from helpers.web_server import serve

pytest.importorskip("fsspec")
pytest.importorskip("aiohttp")

MODEL = "keras3_digits.h5"


def test_vectors_and_explain_take_a_url(sample_models: Path, tmp_path: Path) -> None:
    with serve(sample_models) as server:
        url = f"{server.url}/{MODEL}?sig=SECRET"
        vectors = bninspect("vectors", url, "-o", "v.npz", cwd=tmp_path)
        explained = bninspect("explain", url, "--channel", "0", "--json", cwd=tmp_path)
    here = bninspect("vectors", sample_models / MODEL, "-o", "here.npz", cwd=tmp_path)
    assert (vectors.returncode, explained.returncode, here.returncode) == (0, 0, 0), vectors.stderr + explained.stderr
    assert "SECRET" not in vectors.stderr + explained.stdout + explained.stderr
    assert f"bninspect verify {server.url}/{MODEL} --against" in vectors.stderr
    with np.load(tmp_path / "v.npz") as there, np.load(tmp_path / "here.npz") as local:
        arrays = [name for name in local.files if name.endswith(("/x", "/y", "/expected"))]
        assert arrays
        assert all(np.array_equal(there[name], local[name]) for name in arrays)


def test_an_export_at_a_url_is_held_against_the_model(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    source, export = (onnx_files.write_norm(tmp_path / name) for name in ("a.onnx", "b.onnx"))
    with serve(tmp_path) as server:
        there = bninspect("verify", f"{server.url}/a.onnx", "--against", f"{server.url}/b.onnx?sig=SECRET", "--json")
    here = bninspect("verify", source, "--against", export, "--json")
    assert (there.returncode, here.returncode) == (0, 0), there.stderr
    assert "SECRET" not in there.stdout + there.stderr
    document, local = json.loads(there.stdout), json.loads(here.stdout)
    assert document["summary"] == local["summary"]
    model = document["models"][0]
    assert model["sha256"] == local["models"][0]["sha256"]
    assert model["against"]["path"] == f"{server.url}/b.onnx"
    assert document["options"]["against"]["value"] == [f"{server.url}/b.onnx"]


def test_drift_and_recalibrate_take_a_url(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    model = onnx_files.write_norm(tmp_path / "a.onnx")
    np.save(tmp_path / "data.npy", np.random.default_rng(0).random((256, 3, 4, 4), np.float32))
    with serve(tmp_path) as server:
        url = f"{server.url}/a.onnx?sig=SECRET"
        drift = bninspect("drift", url, "--data", "data.npy", "--json", cwd=tmp_path)
        new = bninspect("recalibrate", url, "--data", "data.npy", "-o", "new.onnx", "--json", cwd=tmp_path)
    same = bninspect("drift", model, "--data", "data.npy", "--json", cwd=tmp_path)
    assert (drift.returncode, same.returncode, new.returncode) == (1, 1, 0), drift.stderr + new.stderr
    assert json.loads(drift.stdout)["models"][0]["layers"] == json.loads(same.stdout)["models"][0]["layers"]
    assert "SECRET" not in drift.stdout + drift.stderr + new.stdout + new.stderr
    assert bninspect("drift", "new.onnx", "--data", "data.npy", cwd=tmp_path).returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", "data.npy", "new.onnx"]


def test_screens_say_how_much_was_fetched(sample_models: Path) -> None:
    with serve(sample_models) as server:
        url = f"{server.url}/{MODEL}"
        model = json.loads(bninspect("inspect", "--json", url).stdout)["models"][0]
        screens = [bninspect(command, url).stdout for command in ("inspect", "lint")]
    for screen in screens:
        assert f"{model['bytes_read']:,} of {model['bytes']:,} bytes fetched" in screen
    assert "fetched" not in bninspect("inspect", sample_models / MODEL).stdout


def test_what_is_known_of_a_version_is_a_baseline_under_another_name(sample_models: Path, tmp_path: Path) -> None:
    """A copy under another name has another path, and no digest: its version tells that it is the same."""
    shutil.copy(sample_models / "broken_nan.h5", tmp_path / "a.h5")
    with serve(tmp_path, version='"same"') as server:
        wrote = bninspect("lint", f"{server.url}/a.h5", "--write-baseline", "base.json", cwd=tmp_path)
        assert wrote.returncode == 0, wrote.stderr  # what is there from now on is known
        (tmp_path / "a.h5").rename(tmp_path / "b.h5")
        again = bninspect("lint", f"{server.url}/b.h5", "--baseline", "base.json", cwd=tmp_path)
        assert again.returncode == 0, again.stdout
    with serve(tmp_path, version='"other"') as server:
        other = bninspect("lint", f"{server.url}/b.h5", "--baseline", "base.json", cwd=tmp_path)
    assert other.returncode == 1, other.stdout


def test_parts_of_a_run_are_joined_with_their_versions_and_are_a_baseline(sample_models: Path, tmp_path: Path) -> None:
    names = ("broken_nan.h5", MODEL, "keras2_digits.h5")
    for name in names:
        shutil.copy(sample_models / name, tmp_path / name)
    with serve(tmp_path) as server:
        urls = [f"{server.url}/{name}" for name in names]
        whole = json.loads(bninspect("lint", *urls, "--json", cwd=tmp_path).stdout)
        for part in ("1/2", "2/2"):
            bninspect("lint", *urls, "--shard", part, "-o", f"json={part[0]}.json", cwd=tmp_path)
        merged = bninspect("merge", "1.json", "2.json", "-o", "json=merged.json", cwd=tmp_path)
        joined = json.loads((tmp_path / "merged.json").read_text())
        assert merged.returncode == 1
        assert joined["summary"] == whole["summary"]
        for found, known in zip(joined["models"], whole["models"], strict=True):
            assert found["sha256"] is None
            assert found["version"]
            assert {**found, "seconds": 0} == {**known, "seconds": 0}
        again = bninspect("lint", *urls, "--baseline", "merged.json", cwd=tmp_path)
    assert again.returncode == 0, again.stdout
    twice = bninspect("merge", "merged.json", "merged.json")
    assert twice.returncode == 2
    with serve(tmp_path, version='"other"') as server:
        url = urls[0].replace(urls[0].rpartition("/")[0], server.url)
        other = bninspect("lint", url, "--baseline", "merged.json", cwd=tmp_path)
    assert other.returncode == 1, other.stdout  # neither its path nor its version is known


def test_verify_has_a_digest_resumes_by_it_and_keeps_no_copy(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "tmp").mkdir()
    onnx_files.write_norm(tmp_path / "a.onnx")
    with serve(tmp_path) as server:
        ways = [server.url + "/a.onnx", "--resume", "r.jsonl", "--json"]
        environment = {"TMPDIR": str(tmp_path / "tmp")}
        first = bninspect("verify", *ways, cwd=tmp_path, **environment)
        again = bninspect("verify", *ways, cwd=tmp_path, **environment)
        model, later = (json.loads(done.stdout)["models"][0] for done in (first, again))
        assert model["sha256"]
        assert model["version"]
        assert model["bytes_read"] == model["bytes"]
        assert later == model  # with its seconds: nothing was run again
        too_large = bninspect("verify", server.url + "/a.onnx", "--cache-size", "100B", cwd=tmp_path, **environment)
        assert too_large.returncode == 3
        assert "too large to be downloaded" in too_large.stdout + too_large.stderr
        assert list((tmp_path / "tmp").iterdir()) == []
