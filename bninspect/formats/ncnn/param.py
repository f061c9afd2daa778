"""The `.param` of ncnn: a number, two counts, and a line for each layer (ncnn wiki, param-and-model-file-structure).

    Convolution  conv_0  1 1 in0 1  0=8 1=3 5=1 6=216 -23310=2,0.0,6.0

is a kind, a name, how many values it takes and gives, their names, and settings by number; a setting whose number is
-23300 or less is a list behind its length.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from bninspect.errors import DamagedFile, UnsafeFile
from bninspect.safe_text import printable

MAGIC = "7767517"
MOST_BYTES = 16 << 20
MOST_LAYERS = 100_000
MOST_NUMBER = 1 << 30
_WHOLE = re.compile(r"-?[0-9]{1,10}")
_LIST = -23300


@dataclass(frozen=True)
class NcnnLayer:
    """A line of the file."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    settings: Mapping[int, tuple[str, ...]]

    def number(self, key: int, otherwise: int = 0) -> int:
        """Return a setting that is a whole number. Raises DamagedFile."""
        (text,) = self.settings.get(key, (str(otherwise),))[:1] or ("",)
        if not _WHOLE.fullmatch(text) or abs(int(text)) > MOST_NUMBER:
            raise DamagedFile("a setting is not a size", why=printable(f"{key}={text} of {self.name}"))
        return int(text)

    def reals(self, key: int) -> tuple[float, ...]:
        """Return a setting that is one number, or a list of them; empty if it is not stated. Raises DamagedFile."""
        try:
            return tuple(float(text) for text in self.settings.get(key, ()))
        except ValueError:
            raise DamagedFile("a setting is not a number", why=printable(f"{key} of {self.name}")) from None


def parse(text: str) -> tuple[NcnnLayer, ...]:
    """Return the layers of a file, in order.

    Raises:
        DamagedFile: it contradicts itself.
        UnsafeFile: it has more layers than a model needs.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    counts = lines[1].split() if len(lines) > 1 else []
    if not lines or lines[0].strip() != MAGIC or len(counts) != 2 or not all(map(_WHOLE.fullmatch, counts)):
        raise DamagedFile("the .param does not begin as one", why=f"its first line is {MAGIC}, the second two counts")
    if len(lines) - 2 > MOST_LAYERS:
        raise UnsafeFile("the .param is too large", why=f"{len(lines) - 2:,} layers, at most {MOST_LAYERS:,} are read")
    if len(lines) - 2 != int(counts[0]):
        why = f"it says that it has {int(counts[0]):,} layers, {len(lines) - 2:,} follow"
        raise DamagedFile("the .param is cut off", why=why)
    layers: list[NcnnLayer] = []
    known: set[str] = set()
    for line in lines[2:]:
        layer = _layer(line)
        if not known.issuperset(layer.inputs) or not known.isdisjoint(layer.outputs):
            raise DamagedFile("the .param contradicts itself", why=printable(f"what {layer.name} takes or gives"))
        known.update(layer.outputs)
        layers.append(layer)
    return tuple(layers)


def _layer(line: str) -> NcnnLayer:
    kind, name, *rest = (*line.split(), "", "")
    rest = rest[:-2] if len(line.split()) >= 2 else []
    counts = rest[:2]
    if len(counts) < 2 or not all(text.isdecimal() and len(text) < 7 for text in counts):
        raise DamagedFile("the .param is damaged", why=printable(f"line {line!r}"))
    taken, given = int(counts[0]), int(counts[1])
    names, settings = rest[2 : 2 + taken + given], rest[2 + taken + given :]
    if len(names) < taken + given or len(set(names[taken:])) < given:
        raise DamagedFile("the .param is damaged", why=printable(f"line {line!r}"))
    return NcnnLayer(kind, name, tuple(names[:taken]), tuple(names[taken:]), dict(map(_setting, settings)))


def _setting(text: str) -> tuple[int, tuple[str, ...]]:
    key, equals, value = text.partition("=")
    if not equals or not _WHOLE.fullmatch(key):
        raise DamagedFile("the .param is damaged", why=printable(f"setting {text!r}"))
    if int(key) > _LIST:
        return int(key), (value,)
    count, *values = value.split(",")
    if count != str(len(values)):
        raise DamagedFile("the .param is damaged", why=printable(f"setting {text!r} gives another length"))
    return _LIST - int(key), tuple(values)
