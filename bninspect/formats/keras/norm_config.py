"""The settings of one batch norm, as a Keras configuration of any version states them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from bninspect.errors import DamagedFile
from bninspect.records import Statistics

Calls = frozenset[bool | None]
"""Values of `training` that the calls of a layer hard-wire; None where a call leaves it to the caller."""


@dataclass(frozen=True)
class TrainingCall:
    """A call of a layer in a model of Keras 3 that is itself called without `training`."""

    training: bool | None
    by: str = ""
    """The layer called before it that handed `training` on; empty if the call says it, or one around it."""


_CLASS = re.compile(r"BatchNorm(alization)?(V[12])?\Z")
_KEYS = {"epsilon", "momentum", "axis"}


@dataclass(frozen=True)
class NormConfig:
    """What the configuration says of one batch norm. None = it does not say."""

    path: tuple[str, ...]
    """Names of the nested models and wrappers around it, outermost model left out, and its own."""
    class_name: str
    epsilon: float | None
    momentum: float | None
    axis: tuple[int, ...] | None
    scale: bool | None
    center: bool | None
    policy: str = ""
    """Name of the dtype policy, for instance `mixed_float16`; empty where it does not say."""
    mode: int = 0
    """Keras 1: 0 is normal, 1 normalises each sample, 2 uses the batch at inference too."""
    renorm: bool = False
    trainable: bool = True
    training: Calls = frozenset({None})
    handed: frozenset[TrainingCall] = frozenset()
    """Its calls in Keras 3 (`training_context`)."""
    repeats: tuple[str, ...] | None = None
    """Path of the same layer object where it came first, if the configuration says that it is the same."""

    def with_calls(self, others: Iterable[NormConfig]) -> NormConfig:
        """Return this layer with its own calls and those of others, which are the same layer at other places."""
        every = (self, *others)
        return replace(
            self,
            training=frozenset().union(*(config.training for config in every)),
            handed=frozenset().union(*(config.handed for config in every)),
        )

    def settings(self, major: int | None) -> dict[str, Any]:
        """Return all of a `BatchNorm` but its arrays and where they are, for a file of Keras `major`."""
        statistics, notes = _statistics(self, major)
        wired = statistics is Statistics.MOVING and bool(notes) and not self.mode
        if not _CLASS.search(self.class_name):
            notes.append(f"{self.class_name} is taken for a batch norm because of its settings")
        if self.renorm:
            notes.append("batch renormalisation: inference uses the plain formula")
        return {
            "name": "/".join(self.path),
            "epsilon": self.epsilon,
            "momentum": self.momentum,
            "axis": self.axis,
            "scale": self.scale,
            "center": self.center,
            "class_name": self.class_name,
            "statistics": statistics,
            "wired": wired,
            "epsilon_source": None if self.epsilon is None else "file",
            "notes": tuple(notes),
        }


def norm_config(
    class_name: str, config: Mapping[str, Any], path: tuple[str, ...], calls: Calls, label: str
) -> NormConfig | None:
    """Return the batch norm that a layer's `config` describes, or None.

    It is known by its class or, as a subclass of any name, by its settings (layer normalisation has no momentum).
    `BatchNorm` without a momentum is the operation keras.ops.batch_normalization, which has no weights.

    Raises:
        DamagedFile: a setting is not what it has to be, for instance an epsilon that is not a finite number.
    """
    if not config.keys() >= _KEYS and (class_name == "BatchNorm" or not _CLASS.search(class_name)):
        return None
    mode = config.get("mode", 0)
    always = True if "mode" in config else None  # Keras 1 always has gamma and beta, and no settings for them.
    try:
        return NormConfig(
            path=path,
            class_name=class_name,
            epsilon=_number(config.get("epsilon")),
            momentum=_number(config.get("momentum")),
            axis=_axes(config.get("axis")),
            scale=_flag(config.get("scale"), otherwise=always),
            center=_flag(config.get("center"), otherwise=always),
            policy=_policy(config.get("dtype")),
            mode=mode if isinstance(mode, int) else 0,
            renorm=bool(config.get("renorm")),
            trainable=bool(config.get("trainable", True)),
            training=calls,
        )
    except (TypeError, ValueError, OverflowError) as error:
        where = "/".join(path)
        raise DamagedFile(f"{label} has a batch norm with senseless settings: {where}", why=str(error)) from error


def _statistics(config: NormConfig, major: int | None) -> tuple[Statistics, list[str]]:
    """Return which mean and variance the layer uses at inference, and what is to be said about it."""
    if config.mode:
        kind = {1: Statistics.SAMPLE, 2: Statistics.BATCH}.get(config.mode, Statistics.MOVING)
        return kind, [f"mode {config.mode} of Keras 1: its moving statistics are not used at inference"]
    if not config.trainable:  # a frozen layer heeds no training (TensorFlow 2, Keras 3)
        return Statistics.MOVING, []
    if major is not None and major >= 3:
        # Measured with 3.15: the argument of the outermost call wins over those inside the model.
        return Statistics.MOVING, [_in_keras_3(call.by) for call in sorted(config.handed, key=str) if call.training][:1]
    if True not in config.training:
        return Statistics.MOVING, []
    if config.training == {True}:
        return Statistics.BATCH, ["called with training=True: it normalises with the batch at inference too"]
    return Statistics.MOVING, ["some of its calls are with training=True and normalise with the batch"]


def _in_keras_3(by: str) -> str:
    who = f"{by} before it hands training=True on" if by else "called with training=True"
    return f"{who}: predict() uses the moving statistics, model(x) and exports those of the batch"


def hard_wired(call: object, *, second: bool = True) -> bool | None:
    """Return `training` of one call: Keras 3 has {args, kwargs}, earlier [[layer, node, tensor, kwargs], ...].

    Args:
        call: of a layer.
        second: whether `training` is the second argument, behind the inputs, as it is of batch norms and of all that
            holds them: models and wrappers. Of an addition it is a number.
    """
    if isinstance(call, dict):
        keywords, positional = call.get("kwargs"), call.get("args")
        value = keywords.get("training") if isinstance(keywords, dict) else None
        if value is None and second and isinstance(positional, list) and len(positional) > 1:
            value = positional[1]
        value = plain(value)
        return bool(value) if isinstance(value, int) else None
    if not isinstance(call, list):
        return None
    if len(call) >= 4 and isinstance(call[3], dict):
        return hard_wired({"kwargs": call[3]})
    return next((found for part in call if (found := hard_wired(part)) is not None), None)


def plain(value: object) -> object:
    """Unwrap what JSON cannot hold: a NumPy scalar (`__numpy__`, Keras 3) or a tuple (`__tuple__`)."""
    if not isinstance(value, dict):
        return value
    if value.get("class_name") == "__tuple__":
        return value.get("items")
    config = value.get("config")
    return config.get("value") if isinstance(config, dict) else value


def _number(stored: object) -> float | None:
    value = plain(stored)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not a finite number")
    return float(value)


def _axes(stored: object) -> tuple[int, ...] | None:
    value = plain(stored)
    if value is None:
        return None
    axes = [plain(item) for item in value] if isinstance(value, list) else [value]
    if not axes:
        raise ValueError("its list of axes is empty")
    for axis in axes:
        if isinstance(axis, bool) or not isinstance(axis, int) or not -64 <= axis < 64:
            raise ValueError(f"{axis!r} is not an axis")
    return tuple(axis for axis in axes if isinstance(axis, int))


def _flag(stored: object, *, otherwise: bool | None) -> bool | None:
    """Return `true`, `false`, 1 or 0 as a bool: real files hold all four."""
    value = plain(stored)
    if value is None:
        return otherwise
    if not isinstance(value, int) or value not in {0, 1}:
        raise ValueError(f"{value!r} is neither true nor false")
    return bool(value)


def _policy(stored: object) -> str:
    if isinstance(stored, dict) and isinstance(stored.get("config"), dict):
        stored = stored["config"].get("name")
    return stored if isinstance(stored, str) else ""
