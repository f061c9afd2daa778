"""Models in a bucket: files, patterns and folders, in part or whole, and never two versions of one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.bucket import Bucket, bucket
from helpers.running import bninspect

pytest.importorskip("s3fs")
pytest.importorskip("moto.server")

from bninspect import errors
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
def test_files_folders_and_patterns(url: str, count: int, models: Bucket) -> None:
    code, document, said = lint(models, url)
    assert code == 0, said
    assert document["summary"]["models"] == count
    assert {model["sha256"] for model in document["models"]} == {None}
    assert all(model["version"] and model["path"].startswith("s3://models/") for model in document["models"])


def test_a_folder_without_models_is_nothing_to_check(models: Bucket) -> None:
    code, document, _ = lint(models, "s3://models/nothing/")
    assert code == 5
    assert document["models"][0]["path"] == "s3://models/nothing/"


def test_what_is_missing_or_forbidden_is_an_error_without_credentials(models: Bucket) -> None:
    code, document, said = lint(models, "s3://models/missing.h5")
    assert (code, document["models"][0]["error"]["kind"]) == (3, "Unreachable")
    assert "SECRET" not in json.dumps(document) + said


def test_a_file_that_changes_is_an_error(models: Bucket, monkeypatch: pytest.MonkeyPatch, sample_models: Path) -> None:
    for name, value in models.environment.items():
        monkeypatch.setenv(name, value)
    models.put("changing.h5", sample_models / "keras3_digits.h5")
    store = Objects(names.remote("s3://models/changing.h5"), 30)
    found = store.find()
    assert store.parts(found, [(0, 8), (8, 8)]) == [b"\x89HDF\r\n\x1a\n", store.parts(found, [(8, 8)])[0]]
    models.put("changing.h5", sample_models / "keras2_digits.h5")
    with pytest.raises(errors.BninspectError, match=r"changed|changing"):
        store.parts(found, [(0, 8)])


def test_copies_stay_within_a_limit_and_are_used_again(
    models: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sample_models: Path
) -> None:
    for name, value in models.environment.items():
        monkeypatch.setenv(name, value)
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


@pytest.mark.tensorflow
def test_what_runs_is_a_whole_copy_that_goes(models: Bucket, tmp_path: Path) -> None:
    environment = {**models.environment, "TMPDIR": str(tmp_path)}
    done = bninspect("verify", "--json", "s3://models/nightly/a/keras3_digits.h5", cwd=None, **environment)
    assert done.returncode == 0, done.stderr
    model = json.loads(done.stdout)["models"][0]
    assert model["path"] == "s3://models/nightly/a/keras3_digits.h5"
    assert model["sha256"]
    assert model["bytes_read"] == model["bytes"]
    assert model["version"]
    assert str(tmp_path) not in done.stdout
    assert not list(tmp_path.glob("bninspect-*"))
