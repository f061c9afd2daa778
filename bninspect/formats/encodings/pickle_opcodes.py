"""A pickle as data: nothing in it is imported, looked up, called or constructed.

pickletools.genops cuts a pickle into opcodes and their arguments, and does no more: it reads what is there, checks
every length against it, and turns bytes into numbers and texts. What the opcodes do is done here. A name in the file
(GLOBAL) is a record of that name. A caller's table may say what value of ours stands for calling it; every other call
is a record of what was to be called with what. Denylists of dangerous names lose (picklescan CVE-2025-1716, fickling
CVE-2026-22608): here there is nothing to deny.
"""

from __future__ import annotations

import io
import pickletools
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, Protocol, TypeAlias, cast

from bninspect.errors import DamagedFile, UnsafeFile
from bninspect.safe_text import printable

MOST_OPCODES = 4_000_000
"""Python makes some 100 bytes of each at most, and reads about 400,000 in a second."""
HIGHEST_PROTOCOL = 5
LONGEST_NUMBER = 256
"""Bytes; a counter, a seed and the state of a generator of random numbers have fewer."""


@dataclass(frozen=True)
class Global:
    """A name in a pickle."""

    name: str
    make: Callable[..., Any] | None = None
    """What stands for calling it; None for one of which nothing is known."""


@dataclass(frozen=True, eq=False)
class Instance:
    """What a pickle would have had made: of what, from what, with what in it. Never made."""

    class_name: str
    """The dotted name that was to be called; empty where what was called has no name."""
    arguments: tuple[Any, ...] = ()
    state: dict[Any, Any] = field(default_factory=dict)
    """Attributes that it was to be given."""
    items: list[Any] = field(default_factory=list)
    """What was to be appended or added to it."""
    entries: dict[Any, Any] = field(default_factory=dict)
    """What was to be set under keys."""


Lookup: TypeAlias = Callable[[str], Global]
"""Returns what a dotted name stands for; itself, as `Global(name)`, if for nothing of ours."""
Persistent: TypeAlias = Callable[[Any], Any]
"""Returns what a persistent id stands for: in PyTorch's files, a storage."""


class Source(Protocol):
    """What a pickle is read from, and no further than to its end: io.BytesIO or mmap.

    Both give fewer bytes where more are asked for than are left, and make room for no more; a file would make room.
    """

    def read(self, size: int, /) -> bytes:
        """Return the next bytes."""

    def readline(self) -> bytes:
        """Return the bytes to the end of the line, that included."""


def interpret(data: bytes, label: str, lookup: Lookup, persistent: Persistent) -> Any:
    """Return the value of a pickle: plain containers and numbers, and whatever `lookup` makes of names.

    Raises:
        UnsafeFile: it is larger than what a model needs.
        DamagedFile: it is cut off or not well-formed.
    """
    return interpret_next(io.BytesIO(data), label, lookup, persistent)


def interpret_next(source: Source, label: str, lookup: Lookup, persistent: Persistent) -> Any:
    """Return the value of the pickle that begins here, and leave `source` behind its end. Raises as `interpret`."""
    machine = _PickleMachine(label, lookup, persistent)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a text of protocol 0 may hold an escape that Python deprecates
            return machine.run(source)
    except (IndexError, KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise DamagedFile(f"{label} is damaged", why=f"its pickle is not well-formed: {_shown(error)}") from error


class _PickleMachine:
    """The stack, the marks and the memo of a pickle."""

    def __init__(self, label: str, lookup: Lookup, persistent: Persistent) -> None:
        self._label = label
        self._lookup = lookup
        self._persistent = persistent
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def run(self, source: Source) -> Any:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(cast(IO[bytes], source))):
            if count == MOST_OPCODES:
                raise UnsafeFile(f"{self._label} is too large", why=f"a pickle of over {count:,} opcodes")
            if opcode.name == "STOP":
                break
            step = _STEPS.get(opcode.name)
            if step is None:
                raise ValueError(f"opcode {opcode.name}")
            step(self, argument)
        return self._stack.pop()

    def version(self, number: int) -> None:
        if number > HIGHEST_PROTOCOL:
            raise ValueError(f"protocol {number}")

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def duplicate(self, _: Any) -> None:
        self.push(self._stack[-1])

    def mark(self, _: Any = None) -> None:
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

    def pop(self, _: Any) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self.marked()

    def pop_mark(self, _: Any) -> None:
        self.marked()

    def remember(self, place: int) -> None:
        self._memo[place] = self._stack[-1]

    def memoize(self, _: Any) -> None:
        self.remember(len(self._memo))

    def recall(self, place: int) -> None:
        self.push(self._memo[place])

    def number(self, value: int) -> None:
        if value.bit_length() > 8 * LONGEST_NUMBER:
            raise ValueError(f"a number of {value.bit_length()} bits")
        self.push(value)

    def extend(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, set):
            target.update(plain_key(item) for item in items)
        else:
            (target.items if isinstance(target, Instance) else _expect(list, target)).extend(items)

    def update(self, items: list[Any]) -> None:
        target = self._stack[-1]
        entries = target.entries if isinstance(target, Instance) else _expect(dict, target)
        entries.update(_mapping(items))

    def name(self, module: Any, qualified: Any) -> None:
        self.push(self._lookup(f"{_expect(str, module)}.{_expect(str, qualified)}"))

    def call(self, called: Any, arguments: Any) -> None:
        """Stand in for a call, of a function or a class."""
        arguments = _expect(tuple, arguments)
        if not isinstance(called, Global):
            self.push(Instance("", (called, *arguments)))
        elif called.make is None:
            self.push(Instance(called.name, arguments))
        else:
            self.push(called.make(*arguments))

    def call_with_names(self, _: Any) -> None:
        called, arguments, named = self.popped(3)
        self.call(called, (*_expect(tuple, arguments), *_expect(dict, named).values()))

    def call_marked(self, _: Any) -> None:
        called, *arguments = self.marked()
        self.call(called, tuple(arguments))

    def call_named(self, name: str) -> None:
        arguments = tuple(self.marked())
        self.name(*name.split(" ", 1))
        self.call(self._stack.pop(), arguments)

    def build(self, _: Any) -> None:
        """Take the state of an object; of one that is none here, such as a state_dict, nobody needs it."""
        (state,) = self.popped(1)
        target = self._stack[-1]
        if isinstance(target, Instance):
            # A tuple of two is what an object with slots has: attributes in general, and those in slots.
            parts = state if isinstance(state, tuple) and len(state) == 2 else (state,)
            for part in parts:
                if isinstance(part, dict):
                    target.state.update(part)
                elif part is not None:
                    target.items.append(part)

    def persist(self, reference: Any) -> None:
        self.push(self._persistent(reference))


def _expect(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{type(value).__name__} instead of {kind.__name__}")
    return value


def _mapping(items: list[Any]) -> dict[Any, Any]:
    """Return what pairs of keys and values make; of equal keys the last counts, as in Python."""
    return {plain_key(key): value for key, value in zip(items[::2], items[1::2], strict=True)}


def plain_key(value: Any) -> Any:
    """Return what stands for a key of a mapping.

    Python hashes what is nested in C, without looking at the depth, until the process ends. So a key of keys is
    a record, which is equal to itself alone. Raises TypeError for what cannot be a key.
    """
    if isinstance(value, (list, dict, set)):
        raise TypeError(f"a key of type {type(value).__name__}")
    if isinstance(value, (tuple, frozenset)) and not all(isinstance(part, _ATOMS) for part in value):
        return Instance("", (value,))
    return value


_ATOMS = (str, bytes, int, float, complex, type(None))


def _shown(value: object) -> str:
    """Return a name or a message; of anything else only the type, since it may be nested without end."""
    return printable(str(value), 80) if isinstance(value, (str, Exception)) else type(value).__name__


Step: TypeAlias = Callable[[_PickleMachine, Any], None]


def _constant(make: Callable[[], Any]) -> Step:
    return lambda machine, _: machine.push(make())


_PUSHED = """
BININT BININT1 BININT2 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 UNICODE
SHORT_BINUNICODE BINUNICODE BINUNICODE8
"""
_STEPS: Mapping[str, Step] = {
    "PROTO": _PickleMachine.version,
    "FRAME": lambda *_: None,  # a hint for reading ahead
    "MARK": _PickleMachine.mark,
    "POP": _PickleMachine.pop,
    "POP_MARK": _PickleMachine.pop_mark,
    "DUP": _PickleMachine.duplicate,
    **dict.fromkeys(_PUSHED.split(), _PickleMachine.push),
    **dict.fromkeys(("INT", "LONG", "LONG1", "LONG4"), _PickleMachine.number),
    "BYTEARRAY8": lambda m, data: m.push(bytes(data)),
    "NONE": _constant(lambda: None),
    "NEWTRUE": _constant(lambda: True),
    "NEWFALSE": _constant(lambda: False),
    "EMPTY_DICT": _constant(dict),
    "EMPTY_LIST": _constant(list),
    "EMPTY_TUPLE": _constant(tuple),
    "EMPTY_SET": _constant(set),
    "DICT": lambda m, _: m.push(_mapping(m.marked())),
    "LIST": lambda m, _: m.push(m.marked()),
    "TUPLE": lambda m, _: m.push(tuple(m.marked())),
    "FROZENSET": lambda m, _: m.push(frozenset(plain_key(item) for item in m.marked())),
    "TUPLE1": lambda m, _: m.push(m.popped(1)),
    "TUPLE2": lambda m, _: m.push(m.popped(2)),
    "TUPLE3": lambda m, _: m.push(m.popped(3)),
    "APPEND": lambda m, _: m.extend(list(m.popped(1))),
    "APPENDS": lambda m, _: m.extend(m.marked()),
    "ADDITEMS": lambda m, _: m.extend(m.marked()),
    "SETITEM": lambda m, _: m.update(list(m.popped(2))),
    "SETITEMS": lambda m, _: m.update(m.marked()),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _PickleMachine.remember),
    "MEMOIZE": _PickleMachine.memoize,
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _PickleMachine.recall),
    "GLOBAL": lambda m, name: m.name(*name.split(" ", 1)),
    "STACK_GLOBAL": lambda m, _: m.name(*m.popped(2)),
    # An extension code stands for a name in a registry of the process that wrote it, which is not looked into.
    **dict.fromkeys(("EXT1", "EXT2", "EXT4"), lambda m, code: m.push(Global(f"extension {code}"))),
    "REDUCE": lambda m, _: m.call(*m.popped(2)),
    "NEWOBJ": lambda m, _: m.call(*m.popped(2)),
    "NEWOBJ_EX": _PickleMachine.call_with_names,
    "OBJ": _PickleMachine.call_marked,
    "INST": _PickleMachine.call_named,
    "BUILD": _PickleMachine.build,
    "PERSID": _PickleMachine.persist,
    "BINPERSID": lambda m, _: m.persist(*m.popped(1)),
}
"""What each opcode does. NEXT_BUFFER and READONLY_BUFFER need bytes from beside the pickle, which files have not."""
