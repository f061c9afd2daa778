"""`recalibrate` writes the statistics that NumPy finds, in the file alone, whatever the order of the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.trained_nets import Trained, digits_net

import bninspect
from bninspect.errors import BninspectError
from bninspect.records import Array, Checkpoint
from bninspect.settings import Settings

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return digits_net(tmp_path_factory.mktemp("net"))


def first_input(net: Trained, x: Array) -> Array:
    """Return what arrives at the first batch norm, computed by hand."""
    import keras

    kernel = keras.models.load_model(net.path, compile=False).layers[0].get_weights()[0].astype(np.float64)
    windows = np.lib.stride_tricks.sliding_window_view(x[..., 0].astype(np.float64), (3, 3), axis=(1, 2))
    return np.asarray(np.einsum("nijkl,klc->nijc", windows, kernel[:, :, 0]))


def changed_bytes(before: Path, after: Path) -> int:
    old, new = (np.frombuffer(path.read_bytes(), np.uint8) for path in (before, after))
    assert old.size == new.size
    return int((old != new).sum())


def test_the_statistics_are_those_of_the_data_and_nothing_else_changes(net: Trained, tmp_path: Path) -> None:
    target = tmp_path / "out.keras"
    done = bninspect.recalibrate(net.path, net.seen, target)
    before, after = bninspect.load(net.path), bninspect.load(target)
    x = first_input(net, net.seen)
    np.testing.assert_allclose(np.asarray(after.layers[0].moving_mean), x.mean(axis=(0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(np.asarray(after.layers[0].moving_variance), x.var(axis=(0, 1, 2)), rtol=1e-5)
    assert all(max(layer.mean_off, layer.variance_off) <= 1e-6 for layer in done.layers)
    for old, new in zip(before.layers, after.layers, strict=True):
        assert old.gamma is not None
        assert new.gamma is not None
        assert old.gamma.tobytes() == new.gamma.tobytes()
        assert not np.array_equal(np.asarray(old.moving_mean), np.asarray(new.moving_mean))
    # 60 channels of two statistics, and the checksum of the one member of the zip in its two places.
    assert changed_bytes(net.path, target) <= 60 * 2 * 4 + 2 * 4
    assert bninspect.drift(target, net.seen).summary.exit_code == 0
    assert bninspect.verify(target).summary.exit_code == 0


def test_no_order_of_the_data_changes_a_byte(net: Trained, tmp_path: Path) -> None:
    order = np.random.default_rng(1).permutation(len(net.unseen))
    outputs = []
    for number, data in enumerate((net.unseen, net.unseen[order])):
        outputs.append(tmp_path / f"{number}.keras")
        bninspect.recalibrate(net.path, data, outputs[-1], Settings(batch_size=7 + number))
    assert outputs[0].read_bytes() == outputs[1].read_bytes()


def test_layers_that_are_left_out_stay_as_they_are(net: Trained, tmp_path: Path) -> None:
    target = tmp_path / "out.keras"
    done = bninspect.recalibrate(net.path, net.unseen, target, Settings(exclude_layers=("third",)))
    assert [layer.name for layer in done.layers] == ["first", "second"]
    assert np.array_equal(_of(target, "third"), _of(net.path, "third"))


def _of(path: Path, name: str) -> Any:
    return next(layer.moving_mean for layer in bninspect.load(path).layers if layer.name == name)


def test_the_model_itself_is_never_written(net: Trained) -> None:
    before = net.path.read_bytes()
    with pytest.raises(BninspectError, match="cannot write"):
        bninspect.recalibrate(net.path, net.unseen, net.path, force=True)
    assert net.path.read_bytes() == before


def test_data_that_is_not_finite_is_refused_and_nothing_is_left(net: Trained, tmp_path: Path) -> None:
    data = net.unseen.copy()
    data[50, 0, 0, 0] = np.nan
    with pytest.raises(BninspectError, match="NaN or infinity"):
        bninspect.recalibrate(net.path, data, tmp_path / "out.keras")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_run_goes_on(net: Trained, tmp_path: Path) -> None:
    from bninspect import formats
    from bninspect.statistics.recalibrate_task import recalibrate_checkpoint

    np.save(tmp_path / "data.npy", net.unseen)
    checkpoint: Checkpoint = formats.read(net.path)
    settings = Settings(data=str(tmp_path / "data.npy"))
    whole, target = tmp_path / "whole.keras", tmp_path / "out.keras"
    recalibrate_checkpoint(checkpoint, checkpoint, whole, settings)

    def interrupting(text: str) -> None:
        if "depth 3 of 3" in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recalibrate_checkpoint(checkpoint, checkpoint, target, settings, interrupting)
    seen: list[str] = []
    done = recalibrate_checkpoint(checkpoint, checkpoint, target, settings, seen.append, resume=True)
    assert any("2 of 3 layers" in note for note in done.notes)
    assert not any("depth 1 of" in text or "depth 2 of" in text for text in seen)
    assert target.read_bytes() == whole.read_bytes()
    assert not list(tmp_path.glob("*.partial.npz"))


def test_a_file_of_weights_takes_what_the_model_computed(net: Trained, tmp_path: Path) -> None:
    import keras

    from bninspect.runtimes import loading

    weights = tmp_path / "net.weights.h5"
    with loading.quiet():
        keras.models.load_model(net.path, compile=False).save_weights(weights)
    target = tmp_path / "out.weights.h5"
    bninspect.recalibrate(net.path, net.unseen, target, into=weights)
    bninspect.recalibrate(net.path, net.unseen, tmp_path / "out.keras")
    for one, other in zip(bninspect.load(target).layers, bninspect.load(tmp_path / "out.keras").layers, strict=True):
        assert np.array_equal(np.asarray(one.moving_mean), np.asarray(other.moving_mean))
    assert changed_bytes(weights, target) <= 60 * 2 * 4
