"""The choke point for HDF5: what it reads, and that nothing leads out of the file or beyond the budgets."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bninspect.errors import BninspectError, DamagedFile, UnknownFormat, UnreadableFile, UnsafeFile
from bninspect.formats.containers.hdf5 import DEPTH, Group, open_file

Build = Callable[[h5py.File], None]
VALUES = np.array([1.5, -0.0, np.inf, 1e-40], np.float32)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "model.h5"


def build(path: Path, fill: Build, **options: object) -> None:
    with h5py.File(path, "w", **options) as made:
        fill(made)


# What is read


@pytest.mark.parametrize("kind", ["<f2", "<f4", "<f8", ">f4", ">f2", "<i4", ">u8"])
def test_arrays_keep_their_type_and_values(file: Path, kind: str) -> None:
    stored = np.array([0.0, 1.0, 2.0, 100.0], kind)
    build(file, lambda made: made.create_dataset("a/b", data=stored))
    with open_file(file, "m") as root:
        array = root.array("a/b")
        assert array is not None
        assert array.dtype == stored.dtype.newbyteorder("=")
        assert array.tolist() == stored.tolist()
        assert not array.flags.writeable
        assert root.dtype("a/b") == stored.dtype.name
        assert root.shape("a/b") == (4,)


def test_special_values_arrive_bit_for_bit(file: Path) -> None:
    bits = np.array([0x7FC00001, 0xFF800000, 0x00000001, 0x80000000], np.uint32)
    build(file, lambda made: made.create_dataset("a", data=bits.view(np.float32)))
    with open_file(file, "m") as root:
        array = root.array("a")
        assert array is not None
        assert array.view(np.uint32).tolist() == bits.tolist()


@given(st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=64))
def test_bfloat16_is_widened_exactly(tmp_path_factory: pytest.TempPathFactory, halves: list[int]) -> None:
    path = tmp_path_factory.mktemp("bf16") / "m.h5"
    with h5py.File(path, "w") as made:
        dataset = made.create_dataset("a", data=np.array(halves, np.uint16).view("V2"))
        dataset.attrs["dtype"] = "bfloat16"
    with open_file(path, "m") as root:
        array = root.array("a")
        assert array is not None
        assert root.dtype("a") == "bfloat16"
        assert array.dtype == np.float32
        # The definition of bfloat16: the upper half of a float32.
        assert array.view(np.uint32).tolist() == [half << 16 for half in halves]


def test_groups_are_found_by_path(file: Path) -> None:
    def fill(made: h5py.File) -> None:
        made.create_dataset("model_weights/block/conv 1/kernel:0", data=VALUES)
        made.create_group("model_weights/empty")

    build(file, fill)
    with open_file(file, "m") as root:
        weights = root.group("model_weights")
        assert weights is not None
        assert weights.path == "/model_weights"
        assert weights.names() == ("block", "empty")
        block = root.group("model_weights/block")
        assert block is not None
        assert block.names() == ("conv 1",)
        assert block.array("conv 1/kernel:0") is not None
        assert weights.array("./block//conv 1/kernel:0") is not None  # as libhdf5 itself understands a path


@pytest.mark.parametrize("name", ["", ".", "/", "nothing", "a/nothing", "a/b/c", "a\0", "a/b\0"])
def test_what_is_not_there_is_none(file: Path, name: str) -> None:
    build(file, lambda made: made.create_dataset("a/b", data=VALUES))
    with open_file(file, "m") as root:
        assert root.group(name) is None
        assert root.array(name) is None
        assert root.shape(name) is None
        assert root.dtype(name) == ""


def test_a_group_is_no_array_and_an_array_no_group(file: Path) -> None:
    build(file, lambda made: made.create_dataset("a/b", data=VALUES))
    with open_file(file, "m") as root:
        assert root.array("a") is None
        assert root.group("a/b") is None


def test_scalars_and_empty_arrays(file: Path) -> None:
    def fill(made: h5py.File) -> None:
        made["scalar"] = np.float32(2.5)
        made.create_dataset("empty", shape=(0,), dtype="f4")

    build(file, fill)
    with open_file(file, "m") as root:
        scalar, empty = root.array("scalar"), root.array("empty")
        assert scalar is not None
        assert (scalar.shape, float(scalar)) == ((), 2.5)
        assert empty is not None
        assert empty.shape == (0,)


@pytest.mark.parametrize(
    "options", [{"compression": "gzip"}, {"compression": "lzf"}, {"shuffle": True}, {"fletcher32": True}]
)
def test_harmless_filters_are_read(file: Path, options: dict[str, object]) -> None:
    build(file, lambda made: made.create_dataset("a", data=VALUES, chunks=(3,), **options))
    with open_file(file, "m") as root:
        array = root.array("a")
        assert array is not None
        assert array.tobytes() == VALUES.tobytes()


def test_a_stream_is_read_like_a_file(file: Path) -> None:
    build(file, lambda made: made.create_dataset("a", data=VALUES))
    stream = io.BytesIO(file.read_bytes())
    stream.seek(100)  # wherever it stands
    with open_file(stream, "m") as root:
        array = root.array("a")
        assert array is not None
        assert array.tobytes() == VALUES.tobytes()


# Attributes


@pytest.mark.parametrize(
    "stored",
    [
        ["bn/gamma:0", "größe"],
        np.array([b"bn/gamma:0", "größe".encode()]),
        np.array([["bn/gamma:0"], ["größe"]], h5py.string_dtype()),
    ],
    ids=["object", "bytes", "two axes"],
)
def test_lists_of_texts(file: Path, stored: object) -> None:
    build(file, lambda made: made.attrs.create("weight_names", stored))
    with open_file(file, "m") as root:
        assert root.texts("weight_names") == ("bn/gamma:0", "größe")
        assert root.texts("layer_names") is None


def test_an_empty_list_is_stored_as_numbers(file: Path) -> None:
    build(file, lambda made: made.attrs.create("weight_names", []))
    with open_file(file, "m") as root:
        assert root.texts("weight_names") == ()
        assert root.text("weight_names") is None


@pytest.mark.parametrize("stored", ["2.4.0", b"2.4.0", np.bytes_(b"2.4.0")])
def test_single_texts(file: Path, stored: object) -> None:
    build(file, lambda made: made.attrs.create("keras_version", stored))
    with open_file(file, "m") as root:
        assert root.text("keras_version") == "2.4.0"
        assert root.text("backend") is None


def test_a_list_over_64_kilobytes_comes_in_chunks(file: Path) -> None:
    names = [f"layer_{number}_" + "x" * 400 for number in range(600)]

    def fill(made: h5py.File) -> None:  # as Keras does it
        for number, chunk in enumerate(np.array_split(np.array(names, "S"), 5)):
            made.attrs[f"layer_names{number}"] = chunk

    build(file, fill)
    with open_file(file, "m") as root:
        assert root.texts("layer_names") == tuple(names)


def test_bytes_that_are_no_utf8_still_name_their_object(file: Path) -> None:
    def fill(made: h5py.File) -> None:
        h5py.h5g.create(made.id, b"bn\xff\xfe")
        made.attrs["layer_names"] = np.array([b"bn\xff\xfe"])

    build(file, fill)
    with open_file(file, "m") as root:
        (name,) = root.names()
        assert root.texts("layer_names") == (name,)
        assert root.group(name) is not None


def test_names_of_control_characters_are_read_as_they_are(file: Path) -> None:
    build(file, lambda made: made.create_group("\x1b[31m\n::error::x"))
    with open_file(file, "m") as root:
        (name,) = root.names()
        assert name == "\x1b[31m\n::error::x"
        assert root.group(name) is not None


def test_an_attribute_of_null_dataspace_is_empty(file: Path) -> None:
    build(file, lambda made: made.attrs.create("layer_names", h5py.Empty("f4")))
    with open_file(file, "m") as root:
        assert root.texts("layer_names") == ()


@pytest.mark.parametrize(
    "stored", [1, [1.0, 2.0], np.array([(1, 2.0)], "i4,f4")], ids=["number", "numbers", "compound"]
)
def test_an_attribute_that_is_no_text_is_damage(file: Path, stored: object) -> None:
    build(file, lambda made: made.attrs.create("model_config", stored))
    with open_file(file, "m") as root, pytest.raises(DamagedFile, match="not text"):
        root.text("model_config")


def test_a_list_where_one_text_belongs_is_damage(file: Path) -> None:
    build(file, lambda made: made.attrs.create("model_config", ["{", "}"]))
    with open_file(file, "m") as root, pytest.raises(DamagedFile, match="a list, not one text"):
        root.text("model_config")


def test_attributes_of_too_many_elements_are_refused(file: Path) -> None:
    many = np.full(200_001, b"x")
    build(file, lambda made: made.attrs.create("layer_names", many), libver="latest")
    with open_file(file, "m") as root, pytest.raises(UnsafeFile, match="attribute elements"):
        root.texts("layer_names")


def test_attributes_of_too_long_texts_are_refused(file: Path) -> None:
    long = np.array([b"x" * (65 << 20)])
    build(file, lambda made: made.attrs.create("model_config", long), libver="latest")
    with open_file(file, "m") as root, pytest.raises(UnsafeFile, match="bytes, at most 67,108,864 are read"):
        root.text("model_config")


# What leads out of the file

SECRET = b"\x00\x00\x80\x3f" * 4


def external_link(made: h5py.File) -> None:
    other = Path(made.filename).with_name("other.h5")
    build(other, lambda secret: secret.create_dataset("inner/secret", data=VALUES))
    made["in"] = h5py.ExternalLink(str(other), "/inner")
    made["model_weights/bn"] = h5py.ExternalLink(str(other), "/inner/secret")


def soft_link(made: h5py.File) -> None:
    made.create_dataset("real/secret", data=VALUES)
    made["in"] = h5py.SoftLink("/real")
    made["model_weights/bn"] = h5py.SoftLink("/real/secret")


def soft_link_to_an_external_link(made: h5py.File) -> None:
    external_link(made)
    del made["model_weights/bn"]
    made["model_weights/bn"] = h5py.SoftLink("/in/secret")


@pytest.mark.parametrize("stream", [False, True], ids=["file", "stream"])
@pytest.mark.parametrize("fill", [external_link, soft_link, soft_link_to_an_external_link])
@pytest.mark.parametrize("name", ["model_weights/bn", "in/secret", "in"], ids=["last", "middle", "group"])
def test_no_link_is_followed_wherever_it_stands(file: Path, fill: Build, name: str, stream: bool) -> None:
    build(file, fill)
    with open_file(io.BytesIO(file.read_bytes()) if stream else file, "m") as root:
        for ask in (root.array, root.group, root.shape, root.dtype):
            with pytest.raises(UnsafeFile, match="link"):
                ask(name)
        assert set(root.names()) >= {"in", "model_weights"}


def external_storage(made: h5py.File) -> None:
    secret = Path(made.filename).with_name("secret.bin")
    secret.write_bytes(SECRET)
    made.create_dataset("a", shape=(4,), dtype="f4", external=[(str(secret), 0, 16)])


def virtual_dataset(made: h5py.File) -> None:
    source = Path(made.filename).with_name("source.h5")
    build(source, lambda secret: secret.create_dataset("a", data=VALUES))
    layout = h5py.VirtualLayout(shape=(4,), dtype="f4")
    layout[:] = h5py.VirtualSource(str(source), "a", shape=(4,))
    made.create_virtual_dataset("a", layout)


@pytest.mark.parametrize("stream", [False, True], ids=["file", "stream"])
@pytest.mark.parametrize("fill", [external_storage, virtual_dataset])
def test_no_array_is_read_from_another_file(file: Path, fill: Build, stream: bool) -> None:
    build(file, fill)
    with open_file(io.BytesIO(file.read_bytes()) if stream else file, "m") as root:
        with pytest.raises(UnsafeFile, match="another file"):
            root.array("a")
        assert root.shape("a") == (4,)


def test_no_filter_plugin_is_looked_for(file: Path) -> None:
    build(file, lambda made: made.create_dataset("a", data=VALUES, scaleoffset=3))
    h5py.h5pl.append(b"/plugins")
    before = [h5py.h5pl.get(number) for number in range(h5py.h5pl.size())]
    with open_file(file, "m") as root:
        assert h5py.h5pl.size() == 0
        with pytest.raises(UnsafeFile, match="filter"):
            root.array("a")
    assert [h5py.h5pl.get(number) for number in range(h5py.h5pl.size())] == before
    h5py.h5pl.remove(len(before) - 1)


# What would exhaust the machine


def test_a_declared_terabyte_is_refused_before_it_is_allocated(file: Path) -> None:
    def fill(made: h5py.File) -> None:
        made.create_dataset("a", shape=(1 << 38,), dtype="f4", chunks=(1 << 10,), compression="gzip")[0] = 1.0

    build(file, fill)
    with open_file(file, "m") as root, pytest.raises(UnsafeFile, match="out of proportion"):
        root.array("a")


def test_bytes_that_are_stored_count_not_those_declared(file: Path) -> None:
    zeros, noise = np.zeros(1 << 20, "f4"), np.random.default_rng(0).normal(size=1 << 20).astype("f4")

    def fill(made: h5py.File) -> None:
        made.create_dataset("bomb", data=zeros, compression="gzip", compression_opts=9)
        made.create_dataset("small", data=zeros[: 1 << 18], compression="gzip", compression_opts=9)
        made.create_dataset("noise", data=noise, compression="gzip")

    build(file, fill)
    with open_file(file, "m") as root:
        with pytest.raises(UnsafeFile, match="out of proportion"):
            root.array("bomb")
        small, large = root.array("small"), root.array("noise")
        assert small is not None
        assert small.size == 1 << 18
        assert large is not None
        assert np.array_equal(large, noise)


def test_half_a_gigabyte_is_too_much_however_much_is_stored(file: Path) -> None:
    noise = np.random.default_rng(0).normal(size=1 << 20).astype("f4")

    def fill(made: h5py.File) -> None:
        made.create_dataset("a", shape=(150 << 20,), dtype="f4", chunks=(1 << 20,), compression="gzip")[: 1 << 20] = (
            noise
        )

    build(file, fill)
    assert 200 * file.stat().st_size > (150 << 22)
    with open_file(file, "m") as root, pytest.raises(UnsafeFile, match="out of proportion"):
        root.array("a")


def test_a_chunk_larger_than_its_array_counts_as_a_whole(file: Path) -> None:
    def fill(made: h5py.File) -> None:
        made.create_dataset("a", shape=(4,), maxshape=(None,), chunks=(1 << 27,), dtype="f4", compression="gzip")
        made["a"].id.write_direct_chunk((0,), b"x")  # nothing that could be unpacked: it must not get so far

    build(file, fill)
    with open_file(file, "m") as root, pytest.raises(UnsafeFile, match="out of proportion"):
        root.array("a")


def test_all_arrays_together_have_a_budget(file: Path) -> None:
    build(file, lambda made: made.create_dataset("a", data=np.ones(1 << 20, "f8")))
    with open_file(file, "m") as root:
        for _ in range(128):
            root.array("a")
        with pytest.raises(UnsafeFile, match=r"array bytes, .* are left"):
            root.array("a")


def test_all_members_together_have_a_budget(file: Path) -> None:
    def fill(made: h5py.File) -> None:
        for number in range(1000):
            made[f"{number}"] = made["/"]

    build(file, fill)
    with open_file(file, "m") as root:
        for _ in range(100):
            assert len(root.names()) == 1000
        with pytest.raises(UnsafeFile, match=r"members, .* are left"):
            root.names()


@pytest.mark.parametrize("cyclic", [False, True], ids=["nested", "cyclic"])
def test_nesting_has_an_end(file: Path, cyclic: bool) -> None:
    def fill(made: h5py.File) -> None:
        if cyclic:
            made["g"] = made["/"]
        else:
            made.create_group("g/" * (DEPTH + 1))

    build(file, fill)
    with open_file(file, "m") as root:
        assert root.group("g/" * DEPTH) is not None
        with pytest.raises(UnsafeFile, match="nested too deep"):
            root.group("g/" * (DEPTH + 1))


# What is damaged, or no numbers


@pytest.mark.parametrize(
    "fill",
    [
        lambda made: made.create_dataset("a", data=["text"]),
        lambda made: made.create_dataset("a", data=np.array([b"text"])),
        lambda made: made.create_dataset("a", data=np.array([(1, 2.0)], "i4,f4")),
        lambda made: made.create_dataset("a", data=made.ref, dtype=h5py.ref_dtype),
        lambda made: made.create_dataset("a", shape=(1,), dtype=h5py.vlen_dtype(np.float32)),
        lambda made: made.create_dataset("a", data=np.array([True])),
        lambda made: made.create_dataset("a", shape=(1,), dtype=np.dtype("(3,)f4")),
    ],
    ids=["text", "bytes", "compound", "reference", "variable length", "bool", "array type"],
)
def test_only_numbers_are_arrays(file: Path, fill: Build) -> None:
    build(file, fill)
    with open_file(file, "m") as root, pytest.raises(UnsafeFile, match="other than numbers"):
        root.array("a")


@pytest.mark.parametrize(
    "stored",
    [np.zeros(2, "V2"), np.zeros(2, "V4"), np.zeros(2, np.longdouble), np.zeros(2, "c8")],
    ids=["opaque", "opaque of four bytes", "long double", "complex"],
)
def test_numbers_of_a_type_that_is_not_ours_are_refused(
    file: Path, stored: np.ndarray[tuple[int], np.dtype[np.void]]
) -> None:
    build(file, lambda made: made.create_dataset("a", data=stored))
    with open_file(file, "m") as root, pytest.raises(UnreadableFile):
        root.array("a")


def test_an_array_without_data_is_damage(file: Path) -> None:
    def fill(made: h5py.File) -> None:
        made.create_dataset("never written", shape=(4,), dtype="f4")
        made["null"] = h5py.Empty("f4")

    build(file, fill)
    with open_file(file, "m") as root:
        with pytest.raises(DamagedFile, match="never written"):
            root.array("never written")
        with pytest.raises(DamagedFile, match="null dataspace"):
            root.array("null")


def read_all(group: Group) -> list[bytes]:
    found = []
    for name in group.names():
        child, array = group.group(name), group.array(name)
        if child:
            found += read_all(child)
        if array is not None:
            found.append(array.tobytes())
    return [*found, *(text.encode() for text in group.texts("weight_names") or ())]


def several_groups(made: h5py.File) -> None:
    for number in range(12):
        made.create_dataset(f"g{number}/gamma:0", data=np.arange(50, dtype="f4") + number)
        made[f"g{number}"].attrs["weight_names"] = np.array([f"g{number}/gamma:0"], "S")


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_a_file_cut_off_anywhere_is_said_to_be_damaged(file: Path, libver: str) -> None:
    build(file, several_groups, libver=libver)
    whole = file.read_bytes()
    with open_file(file, "m") as root:
        read_all(root)
    for percent in (*range(10, 100, 10), 99):
        file.write_bytes(whole[: len(whole) * percent // 100])
        with pytest.raises(DamagedFile) as caught, open_file(file, "m") as root:
            read_all(root)
        assert "truncated" in caught.value.what
        assert caught.value.why == f"it has {file.stat().st_size:,} bytes; its header says {len(whole):,}"
        assert caught.value.hint


def test_damage_inside_is_one_of_our_errors(file: Path) -> None:
    """Every seventh byte of the root group's records in turn: read all the same, or refused in our words.

    The texts are of fixed length: those of variable length lie in HDF5's global heap, and libhdf5 may spin on a
    damaged one. Against that only the supervision of the reading process helps.
    """
    build(file, several_groups)
    whole = bytearray(file.read_bytes())
    refused = 0
    for place in range(96, 800, 7):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        file.write_bytes(damaged)
        try:
            with open_file(file, "m") as root:
                read_all(root)
        except BninspectError:
            refused += 1
    assert refused > 10


@pytest.mark.parametrize(
    ("content", "words", "hint"),
    [
        (b"", "an empty file", "download the file again"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer", "git lfs pull"),
        (b"<!DOCTYPE html><html>", "a web page", "download the file again"),
        (b"\0" * 4096, "nothing but zero bytes", "download the file again"),
        (b"PK\x03\x04" + bytes(26) + b"config.json", "a zip archive", ""),
        (b"\x80\x04\x95", "a Python pickle", "load it, if you trust it"),
        (b"\0" * 512 + b"\x89HDF\r\n\x1a\n", "", ""),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["file", "stream"])
def test_what_is_not_hdf5_is_called_what_it_is(file: Path, content: bytes, words: str, hint: str, stream: bool) -> None:
    file.write_bytes(content)
    with (
        pytest.raises(UnknownFormat, match="m is not HDF5") as caught,
        open_file(io.BytesIO(content) if stream else file, "m"),
    ):
        pass
    assert words in caught.value.why
    assert caught.value.hint.startswith(hint)
    assert bool(caught.value.hint) == bool(hint)


def test_a_file_that_cannot_be_opened_is_one_of_our_errors(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.h5"):
        with pytest.raises(UnreadableFile, match="cannot be read"), open_file(path, "m"):
            pass
