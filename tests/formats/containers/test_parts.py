"""Files elsewhere: the bytes of the file whatever is asked for, none of them twice, and few requests for a plan."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bninspect import formats
from bninspect.formats.containers import hdf5_ahead, parts

SIZE = 200_000
DATA = random.Random(0).randbytes(SIZE)
places = st.tuples(st.integers(0, SIZE + 10), st.integers(0, 30_000))


class Supplied:
    """A file that counts what is asked of it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.calls: list[list[tuple[int, int]]] = []

    def __call__(self, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        self.calls.append([(start, length) for start, length in spans])
        assert all(start >= 0 and 0 < length <= len(self.data) - start for start, length in spans)
        return [self.data[start : start + length] for start, length in spans]

    def parts(self, _: str, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        return self(spans)

    def find(self, _: str) -> None:
        """There is nothing beside it."""

    @property
    def requests(self) -> int:
        return sum(map(len, self.calls))

    @property
    def read(self) -> int:
        return sum(length for spans in self.calls for _, length in spans)


@given(st.lists(st.one_of(places, st.tuples(st.lists(places, max_size=5), st.booleans())), max_size=12))
def test_the_bytes_are_those_of_the_file_and_come_once(acts: list[object]) -> None:
    supplied = Supplied(DATA)
    pieces = parts.FetchedParts(SIZE, supplied)
    wanted = 0
    for act in acts:
        match act:
            case (list(spans), bool(wide)):
                pieces.need(spans, wide=wide)
                before = supplied.requests
                for start, length in spans:
                    assert pieces.read(start, length) == DATA[start : start + length]
                assert supplied.requests == before  # all of it was there
                wanted += len(spans)
            case (int(start), int(length)):
                assert pieces.read(start, length) == DATA[start : start + length]
                wanted += 1
    assert supplied.requests <= 2 * wanted + 12 * wanted * (wanted > 1)
    assert supplied.read <= SIZE + supplied.requests * pieces.worth  # only what lies between two parts comes again


def test_what_is_kept_has_a_limit_and_all_can_still_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "ROOM", 40_000)
    supplied = Supplied(DATA)
    pieces = parts.FetchedParts(SIZE, supplied)
    assert pieces.read(0, SIZE) == DATA
    assert pieces.read(5, 10) == DATA[5:15]
    assert pieces._held <= 40_000 + max(length for spans in supplied.calls for _, length in spans)


def test_a_request_is_worth_a_share_of_the_file() -> None:
    """Neighbours come by one request, what is far by two: how far that is grows with the file."""
    for size, apart, requests in ((10_000_000, 20_000, 2), (100_000_000, 20_000, 1), (100_000_000, 40_000, 2)):
        supplied = Supplied(bytes(size))
        parts.FetchedParts(size, supplied).need([(0, 100), (100 + apart, 100)])
        assert supplied.requests == requests


def nested(layers: int, path: Path, kernel: int) -> None:
    """Write HDF5 as Keras does, with so many batch norms, each behind a kernel of so many numbers."""
    import h5py

    with h5py.File(path, "w") as file:
        weights = file.create_group("model_weights")
        names = [f"{kind}{number}" for number in range(layers) for kind in ("conv", "bn")]
        weights.attrs["layer_names"] = [name.encode() for name in names]
        for name in names:
            fields = ("kernel",) if name.startswith("conv") else ("gamma", "beta", "moving_mean", "moving_variance")
            group = weights.create_group(name)
            group.attrs["weight_names"] = [f"{name}/{field}:0".encode() for field in fields]
            for number, field in enumerate(fields):
                length = kernel if field == "kernel" else 64
                group.create_group(name) if name not in group else None
                group[name][f"{field}:0"] = np.full(length, number + 1, np.float32)


def saved(layers: int, path: Path, kernel: int) -> None:
    """Write the same as Keras 3 saves weights, each array when its layer is saved."""
    import h5py

    with h5py.File(path, "w") as file:
        for number in range(layers):
            for name, arrays, length in (("conv2d", 1, kernel), ("batch_normalization", 4, 64)):
                group = file.create_group(f"layers/{name}_{number}/vars")
                group.attrs["name"] = f"{name}_{number}"
                for place in range(arrays):
                    group[str(place)] = np.full(length, place + 1, np.float32)


@pytest.mark.parametrize("write", [nested, saved])
def test_hdf5_comes_in_few_rounds_however_many_layers_there_are(
    tmp_path: Path, write: Callable[[int, Path, int], None]
) -> None:
    """Each round waits for the one before: their number must not grow with the layers."""
    rounds = []
    for layers in (10, 150):
        path = tmp_path / f"{layers}.h5"
        write(layers, path, 20_000)
        supplied = Supplied(path.read_bytes())
        parts.supply_by(supplied)
        with parts.path("http/x/m.h5", path.stat().st_size) as there:
            read = formats.read(there)
        here = formats.read(path)
        assert [layer.name for layer in read.layers] == [layer.name for layer in here.layers]
        gammas = [(a.gamma, b.gamma) for a, b in zip(read.layers, here.layers, strict=True)]
        assert all(a is not None and b is not None and np.array_equal(a, b) for a, b in gammas)
        assert len(read.layers) == layers
        rounds.append(len(supplied.calls))
    assert rounds[1] < 150 / 6, rounds


@given(st.binary(max_size=300), st.lists(st.integers(0, 2**64 - 1), max_size=4), st.integers(0, 7))
def test_tables_that_lie_cost_requests_and_nothing_else(noise: bytes, addresses: list[int], count: int) -> None:
    node = struct.pack("<4sBBHQQ", b"TREE", 0, count, count, 0, 0) + struct.pack(
        f"<{2 * len(addresses)}Q", *(number for address in addresses for number in (0, address))
    )
    pointers = struct.pack("<BxHIIxxxxHHBxxxQQ", 1, 1, 1, 24, 0x11, 16, 0, 64, 400)
    supplied = Supplied(pointers.ljust(64, b"\0") + node.ljust(336, b"\0") + b"HEAP" + noise)
    parts.supply_by(supplied)
    with parts.path("http/x/m.h5", len(supplied.data)) as there, there.open("rb") as file:
        hdf5_ahead._prepare_tables(file, [0, *addresses])
    assert supplied.read <= 2 * len(supplied.data)
