"""Pickles that somebody made to do harm, as a torch.save file may hold them: several hundred, by what they try.

Each is a program of opcodes without the final STOP, to be put into a zip or into the layout from before torch 1.6.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Iterator

import numpy as np
from helpers.torch_files import integers, mapping, pickle_of, text

MARKER = "bninspect-hostile-marker"
"""File that each piece of code would make in the working directory."""
COMMAND = f"touch {MARKER}"
STATISTICS = {
    "bn.weight": np.array([1.0, 2.0], np.float32),
    "bn.bias": np.array([0.5, 0.25], np.float32),
    "bn.running_mean": np.array([0.1, 0.2], np.float32),
    "bn.running_var": np.array([1.0, 4.0], np.float32),
}
GOOD = pickle_of(STATISTICS)
"""A right state_dict, of which many of the others are variations."""


def every() -> dict[str, bytes]:
    """Return all programs by a name that says what they try."""
    found: dict[str, bytes] = {}
    for kind, programs in (
        ("opcode", opcodes()),
        ("code", code()),
        ("bomb", bombs()),
        ("tensor", tensors()),
        ("module", modules()),
    ):
        for name, program in programs:
            assert f"{kind} {name}" not in found
            found[f"{kind} {name}"] = program
    return found


def opcodes() -> Iterator[tuple[str, bytes]]:
    """Yield each opcode on an empty stack, on one of nothing, behind a mark, and with an argument that is cut off."""
    for opcode in pickletools.opcodes:
        if opcode.name != "STOP":
            sign = opcode.code.encode("latin-1")
            yield f"{opcode.name} alone", sign
            yield f"{opcode.name} on nothing", b"NNN" + sign + b"\x00" * 16
            yield f"{opcode.name} behind a mark", b"(NNN" + sign + b"\xff" * 16
            yield f"{opcode.name} with names", b"(cposix\nsystem\n" + sign + b"a\nb\n"


def code() -> Iterator[tuple[str, bytes]]:
    """Yield every way to have something called."""
    names = """
    posix.system nt.system os.popen subprocess.Popen builtins.exec builtins.eval builtins.compile builtins.open
    builtins.__import__ builtins.getattr builtins.breakpoint importlib.import_module runpy.run_path
    webbrowser.open pty.spawn shutil.rmtree socket.create_connection urllib.request.urlopen timeit.timeit
    code.interact torch.load torch.hub.load torch.jit.load torch.ops.load_library torch.storage._load_from_bytes
    numpy.load numpy.testing._private.utils.runstring pandas.read_pickle functools.partial operator.attrgetter
    types.CodeType asyncio.unix_events._UnixSubprocessTransport._start pip.main cProfile.run
    site.execsitecustomize marshal.loads ctypes.CDLL multiprocessing.util.spawnv_passfds logging.config.dictConfig
    pickle.loads copyreg.add_extension __main__.Net antigravity.geohash this.s
    """
    argument = text(COMMAND)
    for name in names.split():
        module, _, attribute = name.rpartition(".")
        given = f"c{module}\n{attribute}\n".encode()
        yield f"REDUCE {name}", given + argument + b"\x85R"
    system = b"cposix\nsystem\n"
    yield "NEWOBJ", system + argument + b"\x85\x81"
    yield "NEWOBJ_EX", system + argument + b"\x85}\x92"
    yield "OBJ", b"(" + system + argument + b"o"
    yield "INST", b"(" + argument + b"iposix\nsystem\n"
    yield "STACK_GLOBAL", text("posix") + text("system") + b"\x93" + argument + b"\x85R"
    yield "a dotted name", text("os") + text("path.os.system") + b"\x93" + argument + b"\x85R"
    yield "BUILD of a call", system + argument + b"\x85R}" + text("__setstate__") + system + b"sb"
    yield "BUILD with slots", system + b")\x81}" + text("__dict__") + argument + b"s}\x86b"
    yield "called twice", system + argument + b"\x85R" + argument + b"\x85R"
    yield (
        "named by what was called",
        b"cbuiltins\ngetattr\n" + b"cos\npath\n" + argument + b"\x86R" + argument + b"\x85R",
    )
    for number, size in (
        (1, b"\x82\x01"),
        (2, b"\x83\x01\x00"),
        (4, b"\x84\x01\x00\x00\x00"),
        (-1, b"\x84\xff\xff\xff\xff"),
    ):
        yield f"an extension code of {number}", size + argument + b"\x85R"
    yield "a type of tensor", b"ctorch._tensor\n_rebuild_from_type_v2\n(" + system + b"N" + argument + b"\x85NtR"
    yield "a default of a mapping", b"ccollections\ndefaultdict\n" + system + b"\x85R"
    yield "hooks of a tensor", GOOD.replace(b"ccollections\nOrderedDict\n)R", system + argument + b"\x85R", 1)
    yield "a device of a storage", GOOD.replace(text("cpu"), system + argument + b"\x85R", 1)
    yield "a type of storage", GOOD.replace(b"ctorch\nFloatStorage\n", system + argument + b"\x85R", 1)
    yield "beside the parameters", mapping({"optimizer": system + argument + b"\x85R", "state_dict": GOOD})
    yield "as a key", b"}" + system + argument + b"\x85RNs"
    yield "a persistent id", b"(" + text("storage") + system + argument + text("cpu") + b"K\x02tQ"
    yield "a persistent text", b"Pposix.system\n"
    yield (
        "a class with its source",
        b"(" + text("module") + b"c__main__\nNet\n" + text("/etc/passwd") + argument + b"tQ)\x81",
    )


def bombs() -> Iterator[tuple[str, bytes]]:
    """Yield what is small and becomes large: nested, shared, hashed, counted, announced."""
    double = b"q\x00h\x00h\x00\x86q\x00"
    yield "tuples that double", b")" + double * 80
    yield "lists that double", b"]" + b"q\x00]h\x00ah\x00aq\x00" * 80
    yield "a key that doubles", b"})" + double * 80 + b"Ns"
    yield "an element that doubles", b"\x8f()" + double * 80 + b"\x90"
    yield "duplicates", b"]" + b"2" * 200_000 + b"a" * 200_000
    yield "tuples 100,000 deep", b")" + b"\x85" * 100_000
    yield "lists 100,000 deep", b"]" * 100_001 + b"a" * 100_000
    yield "mappings 100,000 deep", b"}" + (text("a") + b"}") * 100_000 + b"s" * 100_000
    yield "calls 100,000 deep", b"cbuiltins\nid\nq\x00" + b")R" * 100_000
    yield "marks 100,000 deep", b"(" * 100_000
    yield "a key 100,000 deep", b"})" + b"\x85" * 100_000 + b"Ns"
    yield "200,000 empty lists", b"(" + b"]" * 200_000 + b"l"
    yield "100,000 keys", b"}(" + b"".join(b"J" + struct.pack("<i", n) + b"N" for n in range(100_000)) + b"u"
    yield "keys that collide", b"}(" + b"".join(_long(n * (2**61 - 1)) + b"N" for n in range(3_000)) + b"u"
    yield "a memo at its largest place", b"Nr\xff\xff\xff\xff"
    yield "a memo beyond it", b"Np99999999999999999999\n"
    yield "a number of 2,000,000 bits", b"\x8b" + struct.pack("<i", 250_000) + b"\x7f" * 250_000
    yield "a number of a negative length", b"\x8b" + struct.pack("<i", -5)
    yield "a number of 5,000 digits", b"L" + b"9" * 5_000 + b"L\n"
    yield "a float of many digits", b"F" + b"9" * 100_000 + b"\n"
    yield "4 GB announced", b"B\xff\xff\xff\xffabc"
    yield "16 EB announced", b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc"
    yield "16 EB of text announced", b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffabc"
    yield "a frame of 16 EB", b"\x95\xff\xff\xff\xff\xff\xff\xff\xff" + GOOD
    yield "frames that overlap", b"\x95\x01\x00\x00\x00\x00\x00\x00\x00" * 3 + GOOD
    yield "a text that is not text", b"X\x02\x00\x00\x00\xff\xfe"
    yield "half a surrogate", mapping({"\ud800".encode("utf-8", "surrogatepass").decode("latin-1"): b"N"})
    yield "a line without end", b"V" + b"a" * 500_000
    yield "protocol 200", b"\x80\xc8" + GOOD
    yield "a name of 1 MB", mapping({"a" * (1 << 20) + ".running_mean": b"N", "b": GOOD})
    yield "a key of 1 MB", mapping({"a" * (1 << 20): mapping({"b" * (1 << 20): GOOD})})


def tensors() -> Iterator[tuple[str, bytes]]:
    """Yield state_dicts whose tensors do not fit what is stored."""
    shape, strides = integers((2,)), integers((1,))
    changes = {
        "a negative length": (integers((-2,)), strides),
        "a negative stride": (shape, integers((-1,))),
        "a length of 2^31": (integers((2**31 - 1,)), integers((0,))),
        "lengths that overflow": (integers((2**31 - 1,) * 4), integers((0,) * 4)),
        "a length of 2^63": (b"(" + _long(2**63) + b"t", strides),
        "a stride of 2^70": (shape, b"(" + _long(2**70) + b"t"),
        "a stride of 2^62": (integers((1,)), b"(" + _long(2**62) + b"t"),
        "a stride beyond the storage": (shape, integers((10**6,))),
        "an empty axis beside a large one": (integers((0, 2**31 - 1)), integers((1, 1))),
        "70 axes": (integers((1,) * 70), integers((1,) * 70)),
        "more lengths than strides": (integers((2, 1)), strides),
        "a length that is a text": (b"(" + text("2") + b"t", strides),
        "a length that is a truth": (b"(\x88t", strides),
        "a length that is a float": (b"(G" + struct.pack(">d", 2.0) + b"t", strides),
        "empty axes beside large ones": (integers((0, 2**31 - 1, 2**31 - 1)), integers((1, 1, 1))),
        "a shape that is a list": (b"](K\x02e", strides),
        "a million repeats": (integers((2**20,)), integers((0,))),
    }
    for name, (lengths, steps) in changes.items():
        yield name, _changed(shape + strides, lengths + steps)
    yield "an offset beyond the storage", _changed(b"Q" + b"K\x00" + shape, b"Q" + b"K\x09" + shape)
    yield "a negative offset", _changed(b"Q" + b"K\x00" + shape, b"QJ\xff\xff\xff\xff" + shape)
    yield "an offset of 2^64", _changed(b"Q" + b"K\x00" + shape, b"Q" + _long(2**64) + shape)
    count = b"J" + struct.pack("<i", 2) + b"tQ"
    yield "a storage of fewer numbers", _changed(count, b"K\x01tQ")
    yield "a storage of more numbers", _changed(count, b"J" + struct.pack("<i", 10**9) + b"tQ")
    yield "a storage of -1 numbers", _changed(count, b"J\xff\xff\xff\xfftQ")
    yield "a storage of 2^80 numbers", _changed(count, _long(2**80) + b"tQ")
    yield "a view of a storage", _changed(count, b"K\x02(" + text("v") + b"K\x01K\x02ttQ")
    yield "a view beyond the storage", _changed(count, b"K\x02(" + text("v") + b"K\x09K\x02ttQ")
    yield "a view that is not a view", _changed(count, b"K\x02N\x85tQ")
    yield "a storage that is missing", _changed(text("0"), text("99"))
    yield "a storage that leads elsewhere", _changed(text("0"), text("../../../etc/passwd"))
    yield "a storage of another type", _changed(b"ctorch\nFloatStorage\n", b"ctorch\nDoubleStorage\n")
    yield "a storage of an unknown type", _changed(b"ctorch\nFloatStorage\n", b"cevil\nStorage\n")
    yield "a storage of complex numbers", _changed(b"ctorch\nFloatStorage\n", b"ctorch\nComplexFloatStorage\n")
    yield "a storage that is not a reference", _changed(count, b"tQ")
    yield "keys twice", GOOD + GOOD[1:]
    yield "the state_dict within itself", b"}q\x00" + text("a") + b"h\x00s"
    many = {f"l{place}.{name}": array for place in range(300) for name, array in STATISTICS.items()}
    yield (
        "300 layers of one storage",
        _changed_everywhere(pickle_of(many), shape + strides, integers((250_000,)) + integers((0,))),
    )
    yield "statistics of different lengths", _changed(shape + strides, integers((1,)) + strides)


def modules() -> Iterator[tuple[str, bytes]]:
    """Yield pickled modules whose attributes are not what a module has."""
    norm = {
        "training": b"\x89",
        "_parameters": mapping(dict.fromkeys(("weight", "bias"), b"N")),
        "_buffers": mapping({"running_mean": b"N", "running_var": b"N"}),
        "_modules": b"}",
        "num_features": b"K\x02",
        "eps": b"G" + struct.pack(">d", 1e-5),
        "momentum": b"G" + struct.pack(">d", 0.1),
        "affine": b"\x88",
        "track_running_stats": b"\x88",
    }

    def module(**changes: bytes) -> bytes:
        return b"ctorch.nn.modules.batchnorm\nBatchNorm2d\n)\x81" + mapping({**norm, **changes}) + b"b"

    yield "as it should be", module()
    values = {"a text": text("1e-5"), "nothing": b"N", "a list": b"]", "true": b"\x88", "a name": b"cposix\nsystem\n"}
    values |= {"NaN": b"G\x7f\xf8" + b"\0" * 6, "infinity": b"G\x7f\xf0" + b"\0" * 6, "2^2000": _long(2**2000)}
    for attribute in ("eps", "momentum", "training", "affine", "_modules", "_buffers", "_parameters"):
        for name, value in values.items():
            yield f"{attribute} is {name}", module(**{attribute: value})
    yield (
        "in itself",
        module(_modules=b"}")
        .replace(b"\x81}", b"\x81q\x00}", 1)
        .replace(text("_modules") + b"}", text("_modules") + mapping({"a": b"h\x00"}), 1),
    )
    yield "5,000 deep", (b"cm\nM\n)\x81}" + text("_modules") + b"}" + text("a")) * 5_000 + module() + b"ssb" * 5_000
    yield "a name that is a command", mapping({"model": module(_modules=mapping({"\x1b[2J::error::x": module()}))})
    yield "a class of TorchScript", b"c__torch__.torch.classes.evil\nThing\n)\x81}b"


def _long(value: int) -> bytes:
    size = value.bit_length() // 8 + 1
    if size < 256:
        return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)
    return b"\x8b" + struct.pack("<i", size) + value.to_bytes(size, "little", signed=True)


def _changed(before: bytes, behind: bytes) -> bytes:
    """Return the right state_dict with the first place that says one thing saying another."""
    assert before in GOOD
    return GOOD.replace(before, behind, 1)


def _changed_everywhere(program: bytes, before: bytes, behind: bytes) -> bytes:
    assert before in program
    return program.replace(before, behind)
