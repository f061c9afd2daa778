"""Models of several files at URLs: what is read there is what is read here, and nothing outside of their folder."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from helpers import nginx, several_files
from helpers.running import bninspect
from helpers.web_server import serve

pytest.importorskip("fsspec")
pytest.importorskip("aiohttp")

from bninspect import errors
from bninspect.jobs import processes
from bninspect.jobs.context import SILENT
from bninspect.jobs.elsewhere import RemoteReading
from bninspect.records import Checkpoint
from bninspect.settings import Settings
from bninspect.stores import names
from bninspect.stores.model_files import ModelFiles
from bninspect.workers import tasks
from bninspect.workers.supervisor import Worker

HERE = ("127.0.0.1",)
KINDS = [write.__name__ for write in several_files.FORMATS]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model of each kind, by its name, below one folder."""
    root = tmp_path_factory.mktemp("models")
    for kind in KINDS:
        (root / kind).mkdir()
    return {write.__name__: write(root / write.__name__) for write in several_files.FORMATS}


@pytest.fixture(scope="module")
def reader() -> Iterator[Worker]:
    with processes.reader(Settings(), SILENT) as found:
        yield found


@pytest.fixture(scope="module", params=["nginx", "s3"])
def place(
    request: pytest.FixtureRequest, models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The URL of the folder, on a web server and in a bucket."""
    root = models["ncnn"].parents[1]
    if request.param == "nginx":
        with nginx.serving(root, tmp_path_factory.mktemp("nginx")) as url:
            yield url
        return
    pytest.importorskip("s3fs").S3FileSystem.clear_instance_cache()  # it remembers where the bucket was before
    pytest.importorskip("moto.server")
    from helpers.bucket import bucket

    with bucket() as found, pytest.MonkeyPatch.context() as patch:
        for file in root.rglob("*"):
            if file.is_file():
                found.put(file.relative_to(root).as_posix(), file)
        for name, value in found.environment.items():
            patch.setenv(name, value)
        yield "s3://models"


def url_of(place: str, path: Path) -> str:
    name = quote(path.name) if place.startswith("http") else path.name
    return f"{place}/{path.parent.name}/{name}"


def read(reader: Worker, url: str, *, whole: bool, cache: str | None = None) -> Checkpoint:
    reading = RemoteReading(Settings(allow_host=HERE, cache=cache))
    try:
        return reading.read(reader, names.remote(url, allowed=HERE), whole=whole)
    except errors.BninspectError as error:
        raise reading.named_error(error) from None
    finally:
        reading.close()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_read_is_the_model(
    kind: str, place: str, models: dict[str, Path], reader: Worker, tmp_path: Path
) -> None:
    path, url = models[kind], url_of(place, models[kind])
    here = reader.call(tasks.read_file, Checkpoint, {"path": str(path), "digest": True})
    parts = read(reader, url, whole=False)
    wholes = [read(reader, url, whole=True), *(read(reader, url, whole=True, cache=str(tmp_path)) for _ in range(2))]
    assert here.layers
    for there in (parts, *wholes):
        assert [layer.name for layer in there.layers] == [layer.name for layer in here.layers]
        for layer, same in zip(there.layers, here.layers, strict=True):
            assert layer.epsilon == same.epsilon
            assert layer.arrays.keys() == same.arrays.keys()
            assert all(np.array_equal(layer.arrays[name], same.arrays[name]) for name in same.arrays)
        assert there.bytes == here.bytes
        assert re.fullmatch("[0-9a-f]{64}", str(there.version))
        assert there.version == parts.version
    assert (parts.path, parts.sha256) == (url, None)
    assert [there.sha256 for there in wholes] == [here.sha256] * 3
    assert parts.bytes_read is not None
    assert parts.bytes is not None
    assert parts.bytes_read <= (0.1 * parts.bytes if kind == "checkpoint" else parts.bytes + 10_000)


def test_a_folder_of_a_bucket_holds_each_model_once(place: str, models: dict[str, Path]) -> None:
    if place.startswith("http"):
        pytest.skip("a web server does not say which files it has")
    done = bninspect("lint", "--json", f"{place}/")
    document = json.loads(done.stdout)
    found = {(model["path"], model["status"]) for model in document["models"]}
    expected = {url_of(place, path) for path in models.values()} - {url_of(place, models["onnx"])}
    assert {path for path, _ in found} - {url_of(place, models["onnx"])} == expected, done.stderr
    assert {status for _, status in found} == {"pass"}, document


@pytest.mark.parametrize("name", ["../secret.bin", "/etc/passwd", "http://o/x.bin", "a\\b.bin", "inner/x.bin", ".."])
@pytest.mark.parametrize("write", [several_files.onnx, several_files.tensorflowjs])
def test_a_model_that_names_a_file_elsewhere_is_refused(
    name: str, write: object, tmp_path: Path, reader: Worker
) -> None:
    (tmp_path / "m" / "inner").mkdir(parents=True)
    for secret in (tmp_path / "secret.bin", tmp_path / "m" / "inner" / "x.bin"):
        secret.write_bytes(bytes(1000))
    path = write(tmp_path / "m", name)  # type: ignore[operator]
    with serve(tmp_path) as server:
        with pytest.raises(errors.UnsafeFile, match="elsewhere"):
            read(reader, f"{server.url}/m/{path.name}", whole=False)
        with pytest.raises(errors.UnsafeFile, match="elsewhere"):  # as a reader that is no longer ours would ask
            ModelFiles(names.remote(f"{server.url}/m/{path.name}", allowed=HERE), 10).find(name)
    assert {request.split()[0] for request in server.requests} <= {f"/m/{path.name}", "/m/shard1of2.bin"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_file_is_named(kind: str, tmp_path: Path, reader: Worker) -> None:
    (tmp_path / "m").mkdir()
    path = getattr(several_files, kind)(tmp_path / "m")
    lost = max((file for file in (tmp_path / "m").rglob("*.*") if file != path), key=lambda one: one.name)
    if kind == "saved_model":
        lost = tmp_path / "m" / "variables" / "variables.data-00000-of-00001"
    lost.unlink()
    with serve(tmp_path) as server:
        for whole in (False, True):
            with pytest.raises(errors.UnreadableFile, match=re.escape(lost.name)):
                read(reader, f"{server.url}/m/{quote(path.name)}", whole=whole)


def test_a_file_that_changes_half_way_is_an_error(tmp_path: Path) -> None:
    path = several_files.ncnn(tmp_path)
    with serve(tmp_path) as server:
        files = ModelFiles(names.remote(f"{server.url}/m.param", allowed=HERE), 10)
        assert files.find("m.bin") == path.with_suffix(".bin").stat().st_size
        files.require_same()
        path.with_suffix(".bin").write_bytes(bytes(50))
        with pytest.raises(errors.DamagedFile, match=r"m\.bin changed while it was read"):
            files.parts("m.bin", [(0, 8)])
        with pytest.raises(errors.DamagedFile, match=r"m\.bin changed while it was read"):
            files.require_same()


def test_a_server_that_has_every_file_is_not_asked_for_ever(
    sample_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bninspect.stores.model_files.MOST_FILES", 3)
    with serve(sample_models) as server:
        files = ModelFiles(names.remote(f"{server.url}/keras3_digits.h5", allowed=HERE), 10)
        assert [files.find(name) for name in ("a", "b", "a", "keras3_digits.h5")][:3] == [None, None, None]
        with pytest.raises(errors.LimitExceeded, match="at most 3"):
            files.find("c")


def test_a_version_of_one_file_is_not_one_of_several() -> None:
    with pytest.raises(errors.UnsafeFile, match="version"):
        names.beside(names.remote("s3://b/m.param?versionId=7"), "m.bin")
