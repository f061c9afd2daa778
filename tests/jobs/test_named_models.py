"""Which models arguments stand for: nothing that looks like a model is passed over, nothing else is taken."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from helpers.keras_files import arrays, members, model, norm, weights

from bninspect.errors import NothingToCheck
from bninspect.formats import folder_models
from bninspect.jobs import named_models


def find(folder: str) -> tuple[str, ...]:
    return folder_models.search({"path": folder}, [], lambda _: None).models


def names(folder: Path) -> list[str]:
    return [os.path.relpath(path, folder) for path in find(str(folder))]


@pytest.fixture
def models(tmp_path: Path, sample_models: Path) -> Path:
    folder = tmp_path / "models"
    (folder / "old" / "older").mkdir(parents=True)
    shutil.copy(sample_models / "keras2_digits.h5", folder / "b.h5")
    shutil.copy(sample_models / "keras3_digits.keras", folder / "a.keras")
    shutil.copy(sample_models / "keras2_digits.h5", folder / "old" / "older" / "c.hdf5")
    return folder


def test_folders_are_searched_in_the_order_of_names(models: Path) -> None:
    assert names(models) == ["a.keras", "b.h5", "old/older/c.hdf5"]


def test_what_is_damaged_is_an_error_and_never_passed_over(models: Path) -> None:
    (models / "empty.h5").touch()
    (models / "zeros.pb").write_bytes(bytes(100))
    (models / "pointer.npz").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    (models / "gone.keras").symlink_to("nowhere")
    assert names(models)[:6] == ["a.keras", "b.h5", "empty.h5", "gone.keras", "pointer.npz", "zeros.pb"]


def test_other_files_are_no_models(models: Path) -> None:
    for name in ("README.md", "labels.json", "weights.bin", "m.h5.txt"):
        (models / name).write_text("text")
    (models / "data.npz").write_bytes(b"PK\x03\x04" + bytes(26) + b"x_test.npy")
    (models / "thing.pb").write_bytes(b"no graph at all")
    (models / "faiss.index").write_bytes(b"IxFI" + bytes(100))
    (models / ".git").mkdir()
    shutil.copy(models / "b.h5", models / ".git" / "object.h5")
    assert names(models) == ["a.keras", "b.h5", "old/older/c.hdf5"]


def test_endings_are_compared_without_case_and_what_is_passed_over_is_counted(models: Path) -> None:
    shutil.copy(models / "b.h5", models / "BAD.H5")
    shutil.copy(models / "b.h5", models / "old.hd5")
    for name in ("README.md", "NOTES.MD", "labels", "m.ckpt.data-00000-of-00001", "checkpoint"):
        (models / name).write_text("text")
    found = folder_models.search({"path": str(models)}, [], lambda _: None)
    assert [os.path.relpath(path, models) for path in found.models] == [
        "BAD.H5",
        "a.keras",
        "b.h5",
        "old.hd5",
        "old/older/c.hdf5",
    ]
    assert found.passed == {".md": 2, "": 1}


def test_an_export_of_ours_is_a_model(models: Path) -> None:
    (models / "ours.npz").write_bytes(b"PK\x03\x04" + bytes(26) + b"__bninspect__.npy")
    assert "ours.npz" in names(models)


def test_a_pipe_is_not_waited_for(models: Path) -> None:
    os.mkfifo(models / "pipe.h5")
    assert "pipe.h5" not in names(models)


def test_a_keras_folder_is_one_model_and_what_lies_beside_its_members_another(tmp_path: Path) -> None:
    folder = tmp_path / "all" / "m.keras"
    folder.mkdir(parents=True)
    content = members(model("m", norm("bn")), {"layers/batch_normalization": arrays(1)})
    for name, data in content.items():
        (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    assert names(tmp_path / "all") == ["m.keras"]
    (folder / "extra.weights.h5").write_bytes(weights({"layers/batch_normalization": arrays(2)}))
    assert names(tmp_path / "all") == ["m.keras", "m.keras/extra.weights.h5"]
    assert names(folder) == ["."]  # it was named itself: the folder is the model


def test_a_saved_model_is_one_model(tmp_path: Path) -> None:
    (tmp_path / "all" / "saved" / "variables").mkdir(parents=True)
    for name in ("saved_model.pb", "fingerprint.pb", "variables/variables.index"):
        (tmp_path / "all" / "saved" / name).write_bytes(b"\x08\x01\x12")
    assert names(tmp_path / "all") == ["saved"]
    assert names(tmp_path / "all" / "saved") == ["."]


def test_shards_of_weights_are_found_by_their_index_alone(tmp_path: Path) -> None:
    (tmp_path / "m.weights.json").write_text('{"weight_map": {"a": "m_00000.weights.h5"}}')
    for number in range(2):
        (tmp_path / f"m_{number:05}.weights.h5").touch()
    (tmp_path / "n_00000.weights.h5").touch()
    assert names(tmp_path) == ["m.weights.json", "n_00000.weights.h5"]


def test_checkpoints_of_one_training_are_one_model_unless_others_lie_beside_them(
    tmp_path: Path, shared_models: Path
) -> None:
    for file in (shared_models / "tf1" / "ckpt_manual").iterdir():
        shutil.copy(file, tmp_path)
    assert names(tmp_path) == ["."]
    (tmp_path / "m.h5").touch()
    assert names(tmp_path) == ["m.h5", "model.ckpt.index"]


def test_the_index_of_a_checkpoint_has_data_beside_it(models: Path) -> None:
    for name in ("model.ckpt-7.index", "model.ckpt-7.data-00000-of-00001", "model.ckpt-7.meta"):
        (models / "old" / name).write_bytes(bytes(10))
    assert names(models) == ["a.keras", "b.h5", "old/model.ckpt-7.index", "old/older/c.hdf5"]


def test_links_to_folders_are_not_entered(models: Path) -> None:
    (models / "loop").symlink_to(models)
    assert names(models) == ["a.keras", "b.h5", "old/older/c.hdf5"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_that_cannot_be_listed_is_an_error(models: Path) -> None:
    (models / "old").chmod(0)
    try:
        assert names(models) == ["a.keras", "b.h5", "old"]
    finally:
        (models / "old").chmod(0o755)


def test_arguments_keep_their_order_and_every_model_is_taken_once(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(models.parent)
    gathered = named_models.gather(["models/b.h5", "./models", "models/old/../b.h5", "nowhere.h5"], find)
    assert gathered.models == ("models/b.h5", "models/a.keras", "models/old/older/c.hdf5", "nowhere.h5")
    assert (gathered.searched, gathered.vain) == (("./models",), ())


def test_patterns_are_filled_in_where_no_file_is_called_so(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(models)
    shutil.copy("b.h5", "[b].h5")
    assert named_models.gather(["[b].h5"], find).models == ("[b].h5",)
    gathered = named_models.gather(["**/*.h*5", "*.onnx"], find)
    assert gathered.models == ("[b].h5", "b.h5", "old/older/c.hdf5")
    assert (gathered.searched, gathered.vain) == (("**/*.h*5", "*.onnx"), ("*.onnx",))


def test_a_pattern_may_fit_folders(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(models)
    assert named_models.gather(["ol?"], find).models == ("old/older/c.hdf5",)


def test_a_folder_without_models_is_told(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    assert named_models.gather([str(tmp_path)], find).vain == (str(tmp_path),)
    error = named_models.nothing(str(tmp_path))
    assert isinstance(error, NothingToCheck)
    assert "folder" in error.why
    assert "pattern" in named_models.nothing("*.onnx").why


@pytest.mark.parametrize(
    ("searched", "path", "covered"),
    [
        ("models", "models/a.h5", True),
        ("./models/", "models/old/a.h5", True),
        ("models", "models2/a.h5", False),
        (".", "a.h5", True),
        ("models/*.h5", "models/a.h5", True),
        ("models/*.h5", "models/a.keras", False),
    ],
)
def test_where_a_model_would_have_been_found(searched: str, path: str, covered: bool) -> None:
    assert named_models.covers(searched, path) is covered
