"""What in a Keras configuration is code, or may make Keras run, import or open something.

By allowlist: an object of a class that is not known to compute and nothing else is named. Lists of forbidden
classes are always one class behind (CVE-2024-3660, CVE-2025-1550, CVE-2025-8747, CVE-2026-1462).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from bninspect.formats.keras import allowed_names as allowed

_PACKAGES = {"keras", "tf_keras", "tensorflow", "builtins"}
_TF_SYMBOL = re.compile(r"(?:compat\.v[12]\.)?(?:(\w+)\.)?([a-z]\w*)")


def code_in(content: Mapping[str, Any]) -> tuple[str, ...]:
    """Name everything in a model's configuration that is, or may run, code, as `Lambda 'lambda_1'`.

    The outermost `compile_config` is left out: it concerns training, and nothing here loads a model for that.
    """
    kept = {key: value for key, value in content.items() if key != "compile_config"}
    return tuple(dict.fromkeys(_within(kept, "")))


def _within(value: list[Any] | dict[str, Any], owner: str) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            if isinstance(item, (list, dict)):
                yield from _within(item, owner)
    else:
        if "class_name" in value:
            owner = _name(value) or owner
            found = _judged(value, owner)
            if found:
                yield found
            if value["class_name"] == "Lambda":
                return
        for key, item in value.items():
            if isinstance(item, str):
                if key.endswith("activation") and item not in allowed.ACTIVATIONS:
                    yield f"function {item!r} in {owner!r}"
            elif isinstance(item, (list, dict)):
                yield from _within(item, owner)


def _judged(entry: Mapping[str, Any], owner: str) -> str:
    """Return what `entry` is if it is more than computation; empty if not."""
    kind, stored = entry["class_name"], entry.get("config")
    config = stored if isinstance(stored, dict) else {}
    if kind == "__lambda__":
        return f"lambda in {owner!r}"
    if kind == "function":
        known = isinstance(stored, str) and stored in allowed.ACTIVATIONS and not _foreign(entry)
        return "" if known else f"function {stored!r} in {owner!r}"
    if not isinstance(kind, str) or kind not in allowed.CLASSES or _foreign(entry):
        return f"{kind} {owner!r}"
    if kind in {"TFOpLambda", "SlicingOpLambda"}:
        symbol = config.get("function")
        return "" if _is_pure(symbol) else f"tf.{symbol} in {owner!r}"
    if kind == "TensorFlowOpLayer":
        node = config.get("node_def")
        op = node.get("op") if isinstance(node, dict) else None
        return "" if op in allowed.TF_OPS else f"TensorFlow op {op} in {owner!r}"
    if kind in allowed.LOOKUPS and isinstance(config.get("vocabulary"), str):
        return f"{kind} {owner!r} with the file {config['vocabulary']!r}"
    # Keras 1: a Merge whose mode, shape or mask is marshalled bytecode, or a function by name.
    types = (config.get(f"{part}_type", "raw") for part in ("mode", "output_shape", "output_mask"))
    if kind == "Merge" and any(part not in {"raw", None} for part in types):
        return f"Merge {owner!r} with a function"
    return ""


def _foreign(entry: Mapping[str, Any]) -> bool:
    """Whether `entry` is registered by, or of a module of, another package than Keras."""
    module, registered = entry.get("module"), entry.get("registered_name")
    package = str(registered).partition(">")[0] if ">" in str(registered) else "keras"
    return (module is not None and str(module).partition(".")[0] not in _PACKAGES) or package.lower() not in _PACKAGES


def _is_pure(symbol: object) -> bool:
    """Whether a name of the TensorFlow API, such as `math.add` or `compat.v1.shape`, is known only to compute."""
    match = _TF_SYMBOL.fullmatch(symbol) if isinstance(symbol, str) else None
    if match is None:
        return False
    module, function = match.groups()
    return module in allowed.TF_MODULES if module else function in allowed.TF_FUNCTIONS


def _name(entry: Mapping[str, Any]) -> str:
    config = entry.get("config")
    name = entry.get("name") or (config.get("name") if isinstance(config, dict) else None)
    return name if isinstance(name, str) else ""
