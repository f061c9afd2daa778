"""The tree that a Keras configuration is: models, layers, wrappers and cells within each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bninspect.formats.keras.norm_config import NormConfig


@dataclass(frozen=True, eq=False)
class ConfigNode:
    """One named object of the configuration: a model, a layer, a wrapper, or a cell."""

    name: str
    class_name: str
    config: Mapping[str, Any]
    path: tuple[str, ...]
    children: tuple[ConfigNode, ...]
    """The named objects within it, in the order of the text."""
    attribute: str = ""
    """Key of the parent's configuration under which it stands: `layers`, `layer`, `backward_layer` ..."""
    shared_id: int | None = None
    """`shared_object_id`: Keras gives it to every place but the first where a shared object stands."""
    norm: NormConfig | None = None

    def walk(self) -> Iterator[ConfigNode]:
        """Yield this node and all within it, parents first, in the model's order."""
        yield self
        for child in self.children:
            yield from child.walk()
