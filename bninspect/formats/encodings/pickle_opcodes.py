"""A pickle as data: an interpreter of the opcodes that PyTorch writes. Nothing is imported, called or constructed.

The opcodes are documented in Python's pickletools.py. A name in the file (GLOBAL) is looked up in a table that the
caller gives and nowhere else. Denylists of dangerous names lose (picklescan CVE-2025-1716, fickling CVE-2026-22608).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from bninspect.errors import DamagedFile, UnsafeFile
from bninspect.safe_text import printable

MOST_OPCODES = 20_000_000


@dataclass(frozen=True)
class Global:
    """A name in a pickle."""

    name: str
    make: Callable[..., Any] | None = None
    """What stands for calling it; None for a name that is only mentioned, such as a type of storage."""


@dataclass(frozen=True, eq=False)
class Instance:
    """An object of a class that the file itself describes."""

    class_name: str
    state: dict[str, Any]


Lookup: TypeAlias = Callable[[str], Global | None]
"""Returns what a dotted name stands for; None refuses it."""
Persistent: TypeAlias = Callable[[Any], Any]
"""Returns what a persistent id stands for: in PyTorch's files, a storage."""


def interpret(data: bytes, label: str, lookup: Lookup, persistent: Persistent) -> Any:
    """Return the value of a pickle: plain containers and numbers, and whatever `lookup` makes of names.

    Raises:
        UnsafeFile: it names something that `lookup` refuses, calls what is not to be called, or is without end.
        DamagedFile: it is cut off or not well-formed.
    """
    machine = _Machine(data, label, lookup, persistent)
    try:
        return machine.run()
    except (IndexError, KeyError, TypeError, ValueError, struct.error, OverflowError) as error:
        raise DamagedFile(f"{label} is damaged", why=f"its pickle is not well-formed: {_shown(error)}") from error


class _Machine:
    """The stack, the marks and the memo of a pickle."""

    def __init__(self, data: bytes, label: str, lookup: Lookup, persistent: Persistent) -> None:
        self._data = data
        self._label = label
        self._lookup = lookup
        self._persistent = persistent
        self._position = 0
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        for _ in range(MOST_OPCODES):
            opcode = self.take(1)
            if opcode == b".":
                return self._stack.pop()
            step = _STEPS.get(opcode)
            if step is None:
                raise UnsafeFile(
                    f"{self._label} holds a pickle of another kind",
                    why=f"opcode {printable(repr(opcode))}, which PyTorch does not write for parameters",
                )
            step(self)
        raise UnsafeFile(f"{self._label} is beyond what a model needs", why=f"over {MOST_OPCODES} opcodes in a pickle")

    def take(self, size: int) -> bytes:
        piece = self._data[self._position : self._position + size]
        if len(piece) != size or size < 0:
            raise ValueError("it is cut off")
        self._position += size
        return piece

    def number(self, form: str) -> Any:
        return struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))[0]

    def bytes(self, form: str) -> bytes:
        return self.take(self.number(form))

    def line(self) -> str:
        end = self._data.index(b"\n", self._position)
        text = self._data[self._position : end].decode()
        self._position = end + 1
        return text

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def mark(self) -> None:
        self._marks.append(self._stack)
        self._stack = []

    def marked(self) -> list[Any]:
        """Return what was pushed since the last mark."""
        items, self._stack = self._stack, self._marks.pop()
        return items

    def popped(self, count: int) -> tuple[Any, ...]:
        if len(self._stack) < count:
            raise IndexError("its stack is empty")
        items = tuple(self._stack[len(self._stack) - count :])
        del self._stack[len(self._stack) - count :]
        return items

    def remember(self, place: int) -> None:
        self._memo[place] = self._stack[-1]

    def memoize(self) -> None:
        self.remember(len(self._memo))

    def recall(self, place: int) -> None:
        self.push(self._memo[place])

    def extend(self, items: list[Any]) -> None:
        self._expect(list, self._stack[-1]).extend(items)

    def update(self, items: list[Any]) -> None:
        target = self._expect(dict, self._stack[-1])
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[plain_key(key)] = value

    def name(self, module: str, qualified: str) -> None:
        name = f"{module}.{qualified}"
        found = self._lookup(name)
        if found is None:
            raise UnsafeFile(
                f"{self._label} holds more than parameters",
                why=f"its pickle names {printable(name)}, which loading it would import or call",
                hint="save the parameters alone: torch.save(model.state_dict(), 'model.pt')",
            )
        self.push(found)

    def reduce(self) -> None:
        """Stand in for a call: NEWOBJ and REDUCE are the same here."""
        called, arguments = self.popped(2)
        if not isinstance(called, Global) or called.make is None:
            raise UnsafeFile(
                f"{self._label} holds more than parameters",
                why=f"its pickle calls {_shown(getattr(called, 'name', called))}",
            )
        self.push(called.make(*self._expect(tuple, arguments)))

    def build(self) -> None:
        """Take the state of an object; a state_dict carries versions this way, which nothing here needs."""
        (state,) = self.popped(1)
        target = self._stack[-1]
        if isinstance(target, Instance):
            target.state.update(self._expect(dict, state))
        else:
            self._expect(dict, target)

    def version(self, number: int) -> None:
        if number > 5:
            raise ValueError(f"protocol {number}")

    def persistent(self) -> None:
        (reference,) = self.popped(1)
        self.push(self._persistent(reference))

    def integer(self, size: int) -> None:
        if size > 16:
            raise ValueError(f"a number of {size} bytes")
        self.push(int.from_bytes(self.take(size), "little", signed=True))

    @staticmethod
    def _expect(kind: type, value: Any) -> Any:
        if not isinstance(value, kind):
            raise TypeError(f"{type(value).__name__} instead of {kind.__name__}")
        return value


def plain_key(value: Any) -> Any:
    """Return the key of a mapping. What is nested could be so deep that hashing it ends the process: ValueError."""
    for part in value if isinstance(value, tuple) else (value,):
        if part is not None and not isinstance(part, (str, bytes, int, float)):
            raise ValueError(f"a key of type {type(part).__name__}")
    return value


def _shown(value: object) -> str:
    """Return a name or a message; of anything else only the type, since it may be nested without end."""
    return printable(str(value), 80) if isinstance(value, (str, Exception)) else type(value).__name__


def _constant(make: Callable[[], Any]) -> Callable[[_Machine], None]:
    return lambda machine: machine.push(make())


def _tuple(count: int) -> Callable[[_Machine], None]:
    return lambda machine: machine.push(machine.popped(count))


_STEPS: Mapping[bytes, Callable[[_Machine], None]] = {
    b"\x80": lambda m: m.version(m.number("B")),
    b"\x95": lambda m: m.number("Q") and None,  # FRAME: a hint for reading ahead
    b"(": _Machine.mark,
    b"N": _constant(lambda: None),
    b"\x88": _constant(lambda: True),
    b"\x89": _constant(lambda: False),
    b"}": _constant(dict),
    b"]": _constant(list),
    b")": _constant(tuple),
    b"K": lambda m: m.push(m.number("B")),
    b"M": lambda m: m.push(m.number("H")),
    b"J": lambda m: m.push(m.number("i")),
    b"\x8a": lambda m: m.integer(m.number("B")),
    b"G": lambda m: m.push(struct.unpack(">d", m.take(8))[0]),
    b"X": lambda m: m.push(m.bytes("I").decode("utf-8", "surrogatepass")),
    b"\x8c": lambda m: m.push(m.bytes("B").decode("utf-8", "surrogatepass")),
    b"B": lambda m: m.push(m.bytes("I")),
    b"C": lambda m: m.push(m.bytes("B")),
    b"t": lambda m: m.push(tuple(m.marked())),
    b"\x85": _tuple(1),
    b"\x86": _tuple(2),
    b"\x87": _tuple(3),
    b"a": lambda m: m.extend(list(m.popped(1))),
    b"e": lambda m: m.extend(m.marked()),
    b"s": lambda m: m.update(list(m.popped(2))),
    b"u": lambda m: m.update(m.marked()),
    b"q": lambda m: m.remember(m.number("B")),
    b"r": lambda m: m.remember(m.number("I")),
    b"\x94": _Machine.memoize,
    b"h": lambda m: m.recall(m.number("B")),
    b"j": lambda m: m.recall(m.number("I")),
    b"c": lambda m: m.name(m.line(), m.line()),
    b"\x93": lambda m: m.name(*m.popped(2)),
    b"R": _Machine.reduce,
    b"\x81": _Machine.reduce,
    b"b": _Machine.build,
    b"Q": _Machine.persistent,
}
