"""Models in a bucket: files, patterns and folders, in part or whole, and never two versions of one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import onnx_files
from helpers.bucket import Bucket, bucket
from helpers.running import bninspect

pytest.importorskip("s3fs")
pytest.importorskip("moto.server")

from s3fs import S3FileSystem

from bninspect import errors
from bninspect.jobs import elsewhere
from bninspect.settings import Settings
from bninspect.stores import cache, names
from bninspect.stores.objects import Objects


@pytest.fixture(scope="module")
def models() -> Iterator[Bucket]:
    folder = Path(__file__).parents[2] / "sample_models"
    with bucket() as found:
        for key in ("nightly/a/keras3_digits.h5", "nightly/b/keras2_digits.h5", "nightly/b/keras3_digits.keras"):
            found.put(key, folder / key.rpartition("/")[2])
        found.put("nightly/README.md", folder / "README.md" if (folder / "README.md").is_file() else Path(__file__))
        yield found


@pytest.fixture
def reached(models: Bucket, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """The bucket, which this process reaches too."""
    S3FileSystem.clear_instance_cache()  # it remembers where a bucket was before
    for name, value in models.environment.items():
        monkeypatch.setenv(name, value)
    return models


def lint(models: Bucket, *arguments: str | Path) -> tuple[int, dict[str, Any], str]:
    done = bninspect("lint", "--json", *arguments, cwd=None, **models.environment)
    return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr


@pytest.mark.parametrize(
    ("url", "count"),
    [
        ("s3://models/nightly/a/keras3_digits.h5", 1),
        ("s3://models/nightly/", 3),
        ("s3://models/nightly/b/*.keras", 1),
        ("s3://models/**/*.h5", 2),
    ],
)
def test_files_folders_and_patterns(url: str, count: int, reached: Bucket) -> None:
    found = elsewhere.find(url, Settings(), listed=False)
    assert len(found.models) == count
    assert all(name.startswith("s3://models/nightly/") for name in found.models)


def test_a_folder_is_read_in_parts_and_what_is_not_there_is_an_error_without_credentials(models: Bucket) -> None:
    code, document, said = lint(models, "s3://models/nightly/", "s3://models/nothing/", "s3://models/missing.h5")
    assert code == 3, said
    missing, *read, nothing = sorted(document["models"], key=lambda model: model["path"])
    assert {(model["status"], model["sha256"]) for model in read} == {("pass", None)}
    assert [model["path"].startswith("s3://models/nightly/") and bool(model["version"]) for model in read] == [True] * 3
    assert (missing["path"], missing["error"]["kind"]) == ("s3://models/missing.h5", "Unreachable")
    assert (nothing["path"], nothing["error"]["kind"]) == ("s3://models/nothing/", "NothingToCheck")
    assert "SECRET" not in json.dumps(document) + said


def test_a_file_that_changes_is_an_error(reached: Bucket, sample_models: Path) -> None:
    models = reached
    models.put("changing.h5", sample_models / "keras3_digits.h5")
    store = Objects(names.remote("s3://models/changing.h5"), 30)
    found = store.find()
    assert store.parts(found, [(0, 8), (8, 8)]) == [b"\x89HDF\r\n\x1a\n", store.parts(found, [(8, 8)])[0]]
    models.put("changing.h5", sample_models / "keras2_digits.h5")
    with pytest.raises(errors.BninspectError, match=r"changed|changing"):
        store.parts(found, [(0, 8)])


@pytest.mark.usefixtures("reached")
def test_copies_stay_within_a_limit_and_are_used_again(tmp_path: Path, sample_models: Path) -> None:
    targets = [names.remote(f"s3://models/nightly/{place}") for place in ("a/keras3_digits.h5", "b/keras2_digits.h5")]
    stores = [Objects(target, 30) for target in targets]
    found = [store.find() for store in stores]
    limit = max(one.size for one in found)
    with cache.held(targets[0], stores[0], found[0], str(tmp_path), limit) as copy:
        assert copy.read_bytes() == (sample_models / "keras3_digits.h5").read_bytes()
        assert copy.name == "keras3_digits.h5"
    stamp = copy.stat().st_mtime_ns
    with cache.held(targets[0], stores[0], found[0], str(tmp_path), limit) as again:
        assert (again, again.stat().st_mtime_ns) == (copy, stamp)
    with cache.held(targets[1], stores[1], found[1], str(tmp_path), limit):
        assert not copy.exists()
    with cache.held(targets[1], stores[1], found[1], None, limit) as passing:
        assert passing.is_file()
    assert not passing.exists()
    with (
        pytest.raises(errors.LimitExceeded, match="too large"),
        cache.held(targets[1], stores[1], found[1], None, 1000),
    ):
        pass


def test_what_runs_is_a_whole_copy_that_goes(models: Bucket, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    models.put("a.onnx", onnx_files.write_norm(tmp_path / "a.onnx"))
    (tmp_path / "tmp").mkdir()
    environment = {**models.environment, "TMPDIR": str(tmp_path / "tmp")}
    done = bninspect("verify", "--json", "s3://models/a.onnx", cwd=None, **environment)
    assert done.returncode == 0, done.stderr
    model = json.loads(done.stdout)["models"][0]
    assert model["path"] == "s3://models/a.onnx"
    assert model["sha256"]
    assert model["bytes_read"] == model["bytes"]
    assert model["version"]
    assert str(tmp_path) not in done.stdout
    assert list((tmp_path / "tmp").iterdir()) == []
