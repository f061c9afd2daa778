"""Which reader reads what: by content alone, one for each file, and words for what none reads."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bninspect import formats
from bninspect.errors import UnknownFormat, UnreadableFile, UnsafeFile
from bninspect.formats import folder_models
from bninspect.formats.unknown_files import describe, hint, identify, is_zip_behind

PACKAGE = Path(formats.__file__).parents[1]


def weights_file(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array([b"bn"])
        group = file.create_group("bn")
        names = [f"bn/{role}:0" for role in ("gamma", "beta", "moving_mean", "moving_variance")]
        group.attrs["weight_names"] = np.array(names, "S")
        for name in names:
            group.create_dataset(name, data=np.ones(3, np.float32))
    return path


def test_formats_have_names_of_their_own() -> None:
    assert len({known.name for known in formats.FORMATS}) == len(formats.FORMATS)
    for known in formats.FORMATS:
        assert known.title
        assert all(suffix.startswith(".") for suffix in known.suffixes)


def test_importing_the_readers_imports_nothing_heavy() -> None:
    script = "import sys, bninspect.formats; print({'h5py', 'tensorflow', 'keras', 'tf_keras'} & set(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "set()"


def test_a_folder_is_of_no_format_that_is_not_tried_for_folders(tmp_path: Path, sample_models: Path) -> None:
    shutil.unpack_archive(sample_models / "keras3_digits.keras", tmp_path / "unpacked", "zip")
    for name in ("saved_model.pb", "checkpoint", "model.index", "model.onnx", "weights.safetensors"):
        (tmp_path / f"of_{name}").mkdir()
        (tmp_path / f"of_{name}" / name).write_bytes(b"")
    claimed = {
        home for home in formats._HOMES for folder in tmp_path.iterdir() if formats._format(home).matches(folder, b"")
    }
    assert claimed == set(formats._FOLDERS)


def test_hdf5_is_opened_in_one_place() -> None:
    for module in PACKAGE.rglob("*.py"):
        if module.name not in {"hdf5.py", "hdf5_array.py", "hdf5_attribute.py"}:
            assert "h5py.File" not in module.read_text(encoding="utf-8"), module
            assert "from h5py" not in module.read_text(encoding="utf-8"), module


@pytest.mark.parametrize(
    "name", ["model.h5", "model.keras", "model.weights.h5", "model.safetensors", "model", "m.json", "-rf", "{}"]
)
def test_the_name_of_a_file_decides_nothing(tmp_path: Path, name: str) -> None:
    found = formats.read(weights_file(tmp_path / name))
    assert (found.format, [layer.name for layer in found.layers]) == ("keras-h5", ["bn"])


def test_every_model_of_a_writer_is_claimed_by_one_reader_whatever_its_name(
    shared_models: Path, tmp_path: Path
) -> None:
    counted: Counter[str] = Counter()
    for path in sorted(shared_models.glob("writers/**/*.[hk]*")):
        copy = tmp_path / "model.bin"
        shutil.copyfile(path, copy)
        one, other = formats.read(path), formats.read(copy)
        assert one.format == other.format
        assert [layer.name for layer in one.layers] == [layer.name for layer in other.layers]
        counted[one.format] += 1
    assert counted >= Counter({"keras-h5": 51, "keras-zip": 14, "keras-weights": 10})


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="there is no such file"):
        formats.read(tmp_path / "model.h5")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are a thing of Unix")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.h5")
    with pytest.raises(UnreadableFile, match="neither a file nor a folder"):
        formats.read(tmp_path / "model.h5")


def test_a_link_to_a_model_is_read(tmp_path: Path) -> None:
    """The cache of the Hugging Face hub consists of them."""
    (tmp_path / "model.h5").symlink_to(weights_file(tmp_path / "blob"))
    assert len(formats.read(tmp_path / "model.h5").layers) == 1


@pytest.mark.parametrize(
    ("content", "words", "hint_words"),
    [
        (b"", "an empty file", "download the file again"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer, not the file itself", "git lfs pull"),
        (b"<html><body>404", "a web page", "download the file again"),
        (b"\x80\x04\x95\x10\x00", "a Python pickle", "load it, if you trust it"),
        (b"hello world", "text", "bninspect doctor lists the formats"),
        (b"\x00\x01\x02\xff" * 99, "binary data of an unknown kind", "bninspect doctor lists the formats"),
    ],
)
def test_what_no_reader_reads_is_called_what_it_is(tmp_path: Path, content: bytes, words: str, hint_words: str) -> None:
    path = tmp_path / "model.h5"
    path.write_bytes(content)
    with pytest.raises(UnknownFormat) as caught:
        formats.read(path)
    assert words in caught.value.why
    assert caught.value.hint.startswith(hint_words)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ((), "an empty folder"),
        (("readme.txt",), "a folder"),
    ],
)
def test_folders_that_no_reader_reads(tmp_path: Path, members: tuple[str, ...], words: str) -> None:
    folder = tmp_path / "model.keras"
    folder.mkdir()
    for member in members:
        (folder / member).write_bytes(b"")
    assert identify(folder) == words
    with pytest.raises(UnknownFormat, match=words):
        formats.read(folder)


def test_a_file_that_two_readers_claim_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = weights_file(tmp_path / "model.h5")
    double = next(known for known in formats.FORMATS if known.name == "keras-h5")
    other = replace(double, name="other", title="Something else")
    monkeypatch.setattr(formats, "_candidates", lambda _path, _head: (*formats.FORMATS, other))
    with pytest.raises(UnsafeFile, match=r"several kinds at once; .* and Something else"):
        formats.read(path)


def zipped() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("config.json", "{}")
    return stream.getvalue()


@pytest.mark.parametrize("comment", [b"", b"with a comment"])
def test_hdf5_that_is_a_zip_as_well_is_refused(tmp_path: Path, comment: bytes) -> None:
    path = weights_file(tmp_path / "model.h5")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("config.json", "{}")
        archive.comment = comment
    with pytest.raises(UnsafeFile, match="a zip archive"):
        formats.read(path)
    assert zipfile.is_zipfile(path)  # that is why


@given(st.binary(max_size=400), st.binary(max_size=60))
def test_what_zipfile_opens_counts_as_a_zip(
    tmp_path_factory: pytest.TempPathFactory, before: bytes, after: bytes
) -> None:
    assume(b"PK\x05\x06" not in before + after)  # a second end would be the one that zipfile believes
    path = tmp_path_factory.mktemp("zip") / "file"
    for content in (before, before + b"PK\x05\x06" + after, before + after):
        path.write_bytes(content)
        assert not is_zip_behind(path, b"")
    for content in (before + zipped(), before + zipped() + after):
        path.write_bytes(content)
        with zipfile.ZipFile(path) as archive:
            assert archive.namelist() == ["config.json"]
        assert is_zip_behind(path, b"")
        assert not is_zip_behind(path, b"PK\x03\x04")


# Words for kinds of files


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (zipped(), "a zip archive"),
        (b"PK\x03\x04" + bytes(22) + b"\x10\0\0\0archive/data.pkl", "a PyTorch checkpoint"),
        (b"PK\x05\x06" + bytes(18), "an empty zip archive"),
        (b"\x93NUMPY\x01\x00", "a NumPy array (.npy)"),
        (b"\x1c\x00\x00\x00TFL3\x14\x00", "a TFLite model"),
        (b'\x10\x00\x00\x00\x00\x00\x00\x00{"a":', "a safetensors file"),
        (b"\x08\x01\x12\xc3\xd1\x1f\x0a", "a TensorFlow SavedModel graph (saved_model.pb)"),
        (b"\x08\x07\x12\x07pytorch\x1a", "an ONNX model"),
        (b"\x1f\x8b\x08", "a gzip file"),
        (b"  <!doctype HTML>", "a web page, such as a login or error page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied", "XML text, such as a storage server's error"),
        (b"<Error><Code>AccessDenied", "XML text, such as a storage server's error"),
        (b'<?xml version="1.0"?><project/>', "XML text"),
        (b'<?xml version="1.0"?>\n<net name="m" version="10">', "an OpenVINO model"),
        (b'<?xml version="1.0"?>\n<!-- made by -->\n<net name="m" version="11">', "an OpenVINO model"),
        (b'<net name="m" version="11">', "an OpenVINO model"),
        (b"\x08\x04\x12\x2f\x0a\x10\x0a\x05image\x1a\x07", "a Core ML model"),
        (b"\x08\x01\x12\xaf\x01\x0a\x90\x01\x0a\x05image\x1a\x07", "a Core ML model"),
        (b"\x0a\x9b\x2a\x08\x00\x10" + b"\xff" * 9 + b"\x01\x1a\x22", "a program of Paddle"),
        (b'{"base_code":{"magic":"pir","trainable":true,"version":4},"program":', "a program of Paddle"),
        (bytes(16) + b"\x04\0\0\0\x08\x05\x10\x04", "parameters of Paddle (.pdiparams)"),
        (b"\x0a\x05VGG16\xa2\x06\x40\x0a\x05conv1", "weights of Caffe (.caffemodel)"),
        (b"\x0a\x07AlexNet\x12\x40\x0a\x05conv1", "weights of Caffe (.caffemodel)"),
        (b'{"a": 1}', "JSON text"),
        (b"\0" * 100, "nothing but zero bytes, as an interrupted download leaves"),
        (b"#!/usr/bin/env python\n" + "grüße".encode(), "text"),
        (b"a" * 257 + b"ustar", "a tar archive"),
        (b"sys_info" + bytes(249) + b"ustar", "a checkpoint of PyTorch 0.1 (a tar archive)"),
    ],
)
def test_words(head: bytes, words: str) -> None:
    assert describe(head) == words


def test_a_core_ml_model_is_called_so_and_not_damaged(tmp_path: Path) -> None:
    path = tmp_path / "m.mlmodel"
    path.write_bytes(b"\x08\x04\x12\x10\x0a\x0e\x0a\x05image\x1a\x05\x2a\x03\x08\xe0\x01\xa2\x1f\x00")
    with pytest.raises(UnknownFormat) as caught:
        formats.read(path)
    assert caught.value.why == "it is a Core ML model"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (("Manifest.json", "Data/com.apple.CoreML/model.mlmodel"), "a Core ML package (.mlpackage)"),
        (("_CHECKPOINT_METADATA", "default/_METADATA"), "an Orbax checkpoint (JAX)"),
        (("manifest.ocdbt", "_METADATA", "d/0"), "an Orbax checkpoint (JAX)"),
        (("_METADATA", "_sharding", "params.kernel/0"), "an Orbax checkpoint (JAX)"),
    ],
)
def test_a_folder_of_another_kind_is_an_error_and_never_empty(
    files: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    folder = tmp_path / "models" / "other"
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    for searched in (folder, folder.parent):
        assert folder_models.search({"path": str(searched)}, [], lambda _: None).models == (str(folder),)
    with pytest.raises(UnknownFormat) as caught:
        formats.read(folder)
    assert caught.value.why == f"it is {words}"


@given(st.binary(max_size=4096))
def test_every_file_is_called_something(head: bytes) -> None:
    assert describe(head)
    assert isinstance(hint(head), str)


def test_real_files_of_other_kinds(shared_models: Path) -> None:
    expected = {
        "mlperf-tiny/pretrainedResnet.tflite": "a TFLite model",
        "mlperf-tiny/kws_ref_model": "a TensorFlow SavedModel folder",
        "mlperf-tiny/kws_ref_model/saved_model.pb": "a TensorFlow SavedModel graph (saved_model.pb)",
        "saved-model/module_fused/saved_model.pb": "a TensorFlow SavedModel graph (saved_model.pb)",
        "tf1/frozen_manual.pb": "a TensorFlow graph (GraphDef)",
        "tf1/ckpt_manual": "a folder with TensorFlow checkpoints",
        "tf1/ckpt_manual/model.ckpt.index": "a part of a TensorFlow checkpoint, by its name",
        "torch/sd.pt": "a PyTorch checkpoint",
        "torch/whole.pt": "a PyTorch checkpoint",
        "torch/m.safetensors": "a safetensors file",
        "torch/truth.npz": "a zip archive",
    }
    assert {name: identify(shared_models / name) for name in expected} == expected


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b'name: "LeNet"\nlayer {\n  name: "data"\n', "Caffe"),
        (b'# a comment\nname: "net"\ninput: "data"\n', "Caffe"),
        (b'{\n  "nodes": [\n    {\n      "op": "null",\n', "MXNet"),
        (b"\x12\x01\0\0\0\0\0\0" + bytes(32), "MXNet"),
        (b"RKNN" + bytes(32), "RKNN"),
        (b"ftrt" + bytes(32), "TensorRT"),
    ],
)
def test_files_of_other_frameworks_are_named(head: bytes, words: str) -> None:
    assert words in describe(head)


def test_a_tar_that_torch_wrote_once_is_named(tmp_path: Path) -> None:
    """As torch.save up to 0.1.10 wrote it: numbers of the machine, the storages, the tensors and a pickle."""
    path = tmp_path / "old.pth"
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "storages", "tensors", "pickle"):
            member = tarfile.TarInfo(name)
            member.size = 4
            archive.addfile(member, io.BytesIO(b"\x80\x02}."))
    with pytest.raises(UnknownFormat, match=r"PyTorch 0\.1") as caught:
        formats.read(path)
    assert "torch.load still reads it" in caught.value.hint
