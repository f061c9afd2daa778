"""Which runtime a file gets, and when none does."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from importlib.machinery import ModuleSpec
from typing import Any

import pytest

from bninspect import runtimes
from bninspect.errors import MissingPackage, RuntimeFailure, UsageError
from bninspect.records import Checkpoint, Evidence, Run
from bninspect.runtimes.runtime import RunSettings


def _checkpoint(writer: str, **changes: Any) -> Checkpoint:
    return Checkpoint("m.h5", "keras-h5", writer, (), architecture="{}", **changes)


def _install(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    def find_spec(name: str, _package: str | None = None) -> ModuleSpec | None:
        return ModuleSpec(name, None) if name in packages else None

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    monkeypatch.setattr(runtimes, "find_spec", find_spec)


@pytest.mark.parametrize(
    ("writer", "names"),
    [
        ("Keras 1.2.2", ["tf-keras", "keras"]),
        ("Keras 2.0.5", ["tf-keras", "keras"]),
        ("Keras 2.2.4-tf", ["tf-keras", "keras"]),
        ("Keras 2.21.0", ["tf-keras", "keras"]),
        ("Keras 3.0.5", ["keras"]),
        ("Keras 10.0.0", ["keras"]),
        ("", ["keras", "tf-keras"]),
    ],
)
def test_the_version_of_the_writer_decides(monkeypatch: pytest.MonkeyPatch, writer: str, names: list[str]) -> None:
    _install(monkeypatch, "tensorflow", "keras", "tf_keras")
    assert [runtime.name for runtime in runtimes.choose(_checkpoint(writer))] == names


def test_the_user_decides_first(monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch, "tensorflow", "keras", "tf_keras")
    assert [runtime.name for runtime in runtimes.choose(_checkpoint("Keras 3.1.0"), "tf-keras")] == ["tf-keras"]
    with pytest.raises(UsageError) as raised:
        runtimes.choose(_checkpoint("Keras 3.1.0"), "tfkeras")
    assert raised.value.why.startswith("known are keras, tf-keras")


def test_what_is_not_installed_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch, "tensorflow", "keras")
    assert [runtime.name for runtime in runtimes.choose(_checkpoint("Keras 2.4.0"))] == ["keras"]


@pytest.mark.parametrize("packages", [(), ("keras", "tf_keras"), ("tensorflow",)])
def test_nothing_installed_says_what_to_install(monkeypatch: pytest.MonkeyPatch, packages: tuple[str, ...]) -> None:
    _install(monkeypatch, *packages)
    with pytest.raises(MissingPackage) as raised:
        runtimes.choose(_checkpoint("Keras 2.4.0"))
    assert raised.value.hint == "pip install 'bninspect[tensorflow]'"


class _Script:
    """A runtime that does what it is told and writes down what it was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, fails: str = "") -> None:
        self.fails = fails
        self.asked: list[str] = []
        self.runtime = runtimes.Runtime(
            name, name, name, (), "pip install", ("keras-h5",), self._observe, self._observe_layers
        )

    def _observe(self, _checkpoint: Checkpoint, _settings: RunSettings, begin: runtimes.Begin) -> Run:
        self.asked.append("model")
        begin()
        if self.fails:
            raise RuntimeFailure(f"{self.runtime.name} cannot", why=self.fails)
        return Run(self.runtime.name, Evidence.MODEL, notes=("a note",))

    def _observe_layers(self, _checkpoint: Checkpoint, _settings: RunSettings, begin: runtimes.Begin) -> Run:
        self.asked.append("layers")
        begin()
        return Run(self.runtime.name, Evidence.LAYER)


def _run(monkeypatch: pytest.MonkeyPatch, *scripts: _Script, trust: bool = False, **changes: Any) -> tuple[Run, int]:
    monkeypatch.setattr(runtimes, "choose", lambda *_: tuple(script.runtime for script in scripts))
    attempts = []

    def begin() -> runtimes.Sink:
        attempts.append(0)
        return lambda _: None

    checkpoint = _checkpoint("Keras 2.4.0")
    changed = replace(checkpoint, **changes)
    return runtimes.run(changed, RunSettings(trust=trust), begin), len(attempts)


def test_the_next_runtime_starts_a_new_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = _Script(monkeypatch, "first", fails="no such layer"), _Script(monkeypatch, "second")
    run, attempts = _run(monkeypatch, first, second)
    assert (run.runtime, run.evidence, attempts) == ("second", Evidence.MODEL, 2)
    assert run.notes == ("first cannot: no such layer", "a note")
    assert run.reason == ""


def test_layers_alone_are_the_last_resort_and_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = _Script(monkeypatch, "first", fails="one"), _Script(monkeypatch, "second", fails="two")
    run, attempts = _run(monkeypatch, first, second)
    assert (run.runtime, run.evidence, attempts) == ("first", Evidence.LAYER, 3)
    assert run.reason == "first cannot: one"
    assert "second cannot: two" in run.notes


def test_weights_without_a_model_go_to_no_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    only = _Script(monkeypatch, "only")
    run, _ = _run(monkeypatch, only, architecture=None, trust=True)
    assert only.asked == ["layers"]
    assert (run.evidence, run.reason) == (Evidence.LAYER, "the file holds only weights")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (("Lambda 'scale'",), "Lambda 'scale' holds code (run it with --trust)"),
        (("Lambda 'a'", "Mine 'b'", "Mine 'c'"), "Lambda 'a' and 2 more hold code (run it with --trust)"),
        (("Lambda '\x1b[2J'",), "Lambda '\\x1b[2J' holds code (run it with --trust)"),
    ],
)
def test_code_goes_to_no_loader_without_trust(
    monkeypatch: pytest.MonkeyPatch, code: tuple[str, ...], reason: str
) -> None:
    only = _Script(monkeypatch, "only")
    run, _ = _run(monkeypatch, only, code=code)
    assert only.asked == ["layers"]
    assert (run.evidence, run.reason) == (Evidence.LAYER, reason)
    _run(monkeypatch, only, code=code, trust=True)
    assert only.asked == ["layers", "model"]


def test_a_failed_file_names_the_runtime_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch, "tensorflow", "keras")
    run, _ = _run(monkeypatch, _Script(monkeypatch, "keras", fails="nested"))
    assert run.notes == ("tf-keras (Keras 2) may load it and is not installed: pip install 'bninspect[tensorflow]'",)


def test_importing_the_package_imports_no_framework() -> None:
    import subprocess
    import sys

    program = (
        "import sys, bninspect.runtimes; print(sorted({'tensorflow', 'keras', 'tf_keras', 'h5py'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_format_that_no_runtime_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    only = _Script(monkeypatch, "only")
    run, _ = _run(monkeypatch, only, format="other")
    assert only.asked == ["layers"]
    assert run.reason == "no runtime loads models of the format other"
