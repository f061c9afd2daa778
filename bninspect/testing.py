"""For people's own tests: assertions with the verdicts and the words of `bninspect verify` and `bninspect drift`.

from bninspect.testing import assert_batchnorm_close

def test_the_released_model() -> None:
    assert_batchnorm_close("release/model.h5")

def test_what_we_build() -> None:
    assert_batchnorm_close(build_model())

def test_that_we_prepare_images_as_in_training() -> None:
    assert_statistics_fit("release/model.h5", prepared_images())
"""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bninspect.safe_text import nearest
from bninspect.settings import EpsilonRule, Settings

if TYPE_CHECKING:
    from bninspect.records import Report

__all__ = ["assert_batchnorm_close", "assert_statistics_fit"]


def assert_batchnorm_close(model: Any, settings: Settings | None = None, /, **options: Any) -> Report:
    """Assert that every batch norm of a model computes the formula, within the bound that float arithmetic allows.

    What `bninspect verify` would say with exit code 0 passes; everything else fails, also what could not be checked.

    Args:
        model: the path of a model, in any format that `bninspect doctor` lists; or a live, built model of Keras 3 or
            tf_keras. A live model is saved to a temporary file and verified as that, in a process of its own. One that
            cannot be saved, or that holds classes of your own, is run in this process. It is left as it was.
        settings: what to ask for; the defaults of `bninspect verify` without it.
        **options: fields of `Settings` that go before it: `layers="head*"`, `rtol=1e-5, atol=1e-6`, `trust=True` ...
            `epsilon` may be a number, and `input` an array or a dictionary of arrays by the names of the inputs.

    Returns:
        The report, for further assertions.

    Raises:
        AssertionError: the model fails. The message is the text report.
        UsageError: the options do not fit the model.
        TypeError: there is no option of that name.
    """
    __tracebackhide__ = True  # pytest shows the line of the test instead of this one.
    from bninspect.jobs import live_model, pipeline
    from bninspect.reports import Looks
    from bninspect.reports.text import verify

    with _settings(settings or Settings(), options) as chosen:
        is_path = isinstance(model, (str, os.PathLike))
        report = pipeline.verify(Path(model), chosen) if is_path else live_model.verify(model, chosen)
    if report.summary.exit_code != 0:
        raise AssertionError("\n" + verify.render(report, Looks()).rstrip())
    return report


def assert_statistics_fit(model: Any, data: Any, settings: Settings | None = None, /, **options: Any) -> Report:
    """Assert that the statistics that a model stores are those of data: that the data is prepared as in training.

    What `bninspect drift` would say with exit code 0 passes; everything else fails, also too little data.

    Args:
        model: as for `assert_batchnorm_close`.
        data: an array, arrays by the names of the inputs, an iterable of batches such as a dataset for training, or the
            path of a file or folder of these: as for `bninspect.drift`.
        settings: what to ask for; the defaults of `bninspect drift` without it.
        **options: fields of `Settings` that go before it: `limit=512`, `trained_batch=64`, `max_effect=0.5` ...

    Returns:
        The report, for further assertions.

    Raises:
        AssertionError: the statistics differ, or that could not be told. The message is the text report, with the
            preparation that is missing where one explains it.
        UsageError: the data or the options do not fit the model.
        TypeError: there is no option of that name.
    """
    __tracebackhide__ = True
    from bninspect.jobs.data import drift
    from bninspect.reports import Looks
    from bninspect.reports.text import verify

    with _settings(settings or Settings(), options) as chosen:
        report = drift(model, data, chosen)
    if report.summary.exit_code != 0:
        raise AssertionError("\n" + verify.render(report, Looks()).rstrip())
    return report


@contextmanager
def _settings(settings: Settings, options: Mapping[str, Any]) -> Iterator[Settings]:
    """Yield the settings with the options in them; arrays become a file for as long as that lasts."""
    known = [field.name for field in fields(Settings)]
    for name in options:
        if name not in known:
            near = nearest(name, known)
            raise TypeError(f"there is no option {name!r}" + (f"; did you mean {near!r}?" if near else ""))
    if (options.get("rtol") is None) != (options.get("atol") is None):
        raise TypeError("rtol and atol go together: one alone leaves the other to a guess")
    changes = dict(options)
    for name in ("layers", "exclude_layers", "accept", "select", "ignore", "modules"):
        if isinstance(changes.get(name), str):
            changes[name] = (changes[name],)
    if isinstance(changes.get("epsilon"), (int, float)):
        changes["epsilon"] = (EpsilonRule("*", float(changes["epsilon"])),)
    with tempfile.TemporaryDirectory(prefix="bninspect-") as folder:
        if "input" in changes and not isinstance(changes["input"], (str, os.PathLike, type(None))):
            changes["input"] = _written(changes["input"], Path(folder) / "input.npz")
        yield replace(settings, **changes)


def _written(arrays: Any, path: Path) -> str:
    import numpy as np

    named = arrays if isinstance(arrays, Mapping) else {"0": arrays}
    # numpy.savez would take the name `file` for an argument of its own.
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in named.items():
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
    return str(path)
