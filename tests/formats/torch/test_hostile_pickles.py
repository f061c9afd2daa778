"""Several hundred pickles that try to run code, to take memory or time, or to be read as what they are not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import hostile_pickles, torch_files

from bninspect import formats
from bninspect.errors import DamagedFile, UnreadableFile, UnsafeFile

WATCH = """
import json, resource, sys
from pathlib import Path
from bninspect import errors, formats

def outcome(path):
    try:
        return [layer.name for layer in formats.read(path).layers]
    except errors.BninspectError as error:
        return type(error).__name__
    except Exception as error:
        return f"DEFECT {type(error).__name__}: {error}"[:200]

files = [Path(name) for name in Path(sys.argv[1]).read_text().split("\\n")]
outcome(files[0]), outcome(files[1])  # what is imported when it is first needed
seen = []
resource.setrlimit(resource.RLIMIT_AS, (1536 << 20, 1536 << 20))  # what a reading process may have
sys.addaudithook(lambda event, values: seen.append((event, str(values[0]) if values else "")))
found = {file.name: outcome(file) for file in files}
print(json.dumps([found, sorted(set(seen))]))
"""
HARMLESS = {"open", "mmap.__new__", "builtins.id"}
PROGRAMS = hostile_pickles.every()


def _written(folder: Path) -> dict[str, str]:
    """Write every program into a zip and into the layout from before 1.6; return what each file is."""
    names = {}
    for place, (name, program) in enumerate(PROGRAMS.items()):
        for make in (torch_files.zipped, torch_files.legacy):
            path = folder / f"{place}.{make.__name__}"
            path.write_bytes(make(program, hostile_pickles.STATISTICS))
            names[path.name] = name
    return names


def test_none_runs_code_opens_a_file_takes_more_than_its_limits_or_is_a_defect(tmp_path: Path) -> None:
    names = _written(tmp_path)
    assert len(PROGRAMS) > 100
    good = tmp_path / "good"
    text_of_protocol_0 = b"Vtext\n0"  # has a codec of Python imported
    good.write_bytes(torch_files.legacy(text_of_protocol_0 + hostile_pickles.GOOD, hostile_pickles.STATISTICS))
    listed = tmp_path / "listed"
    listed.write_text("\n".join(str(path) for path in (good, *(tmp_path / name for name in names))))
    done = subprocess.run(
        [sys.executable, "-P", "-c", WATCH, str(listed)], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stderr == ""
    found, seen = json.loads(done.stdout)
    assert found.pop("good") == ["bn"]
    assert found.keys() == names.keys()
    assert not [(names[name], one) for name, one in found.items() if str(one).startswith("DEFECT")]
    assert {event for event, _ in seen} <= HARMLESS
    assert {Path(value).parent for event, value in seen if event == "open"} <= {tmp_path}
    assert not (tmp_path / hostile_pickles.MARKER).exists()
    # What lies about its tensors, or is cut off, is not a model. A call beside them is a record that nobody asks for.
    assert {names[name] for name, one in found.items() if one == ["bn"]} == HONEST


HONEST = {
    "bomb a frame of 16 EB",
    "bomb a name of 1 MB",
    "bomb frames that overlap",
    "code a device of a storage",
    "code beside the parameters",
    "code hooks of a tensor",
    "tensor a stride of 2^62",
    "tensor keys twice",
    "tensor statistics of different lengths",
}
"""What is read: the code in it is a record that nobody asks for, or what it says fits what is stored."""


def test_the_watch_would_see_it(tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(b"cposix\nsystem\nX\x04\x00\x00\x00true\x85R.")
    script = "import pickle, sys; seen = []; sys.addaudithook(lambda event, _: seen.append(event))\n"
    script += "pickle.load(open('p', 'rb')); print(seen)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert {"pickle.find_class", "os.system"} <= set(eval(done.stdout))


GOOD = torch_files.legacy(hostile_pickles.GOOD, hostile_pickles.STATISTICS)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (torch_files.legacy(hostile_pickles.GOOD, hostile_pickles.STATISTICS, ["0", "1", "2"]), DamagedFile),
        (torch_files.legacy(hostile_pickles.GOOD, hostile_pickles.STATISTICS, ["0", "0", "1", "2", "3"]), DamagedFile),
        (torch_files.legacy(hostile_pickles.GOOD, hostile_pickles.STATISTICS, ["9"]), UnreadableFile),
        (torch_files.legacy(b"K\x05", {}, ["0"]), UnreadableFile),
        (GOOD.replace(b"M\xe9\x03.", b"M\xe8\x03.", 1), UnreadableFile),
        (GOOD + torch_files.state_dict(hostile_pickles.STATISTICS), UnsafeFile),
        (GOOD.replace(b"\x02\x00\x00\x00\x00\x00\x00\x00", b"\xff" * 8, 1), DamagedFile),
        (GOOD.replace(b"\x02\x00\x00\x00\x00\x00\x00\x00", b"\xff" * 7 + b"\x7f", 1), DamagedFile),
        (GOOD[:-1], DamagedFile),
    ],
    ids=["missing", "twice", "unknown", "none", "version", "zip behind", "negative", "huge", "cut"],
)
def test_a_layout_that_lies(tmp_path: Path, data: bytes, kind: type[Exception]) -> None:
    (tmp_path / "m.pth").write_bytes(data)
    with pytest.raises(kind):
        formats.read(tmp_path / "m.pth")


def test_every_cut_of_a_file_is_an_error(tmp_path: Path) -> None:
    for length in range(len(GOOD)):
        (tmp_path / "m.pth").write_bytes(GOOD[:length])
        with pytest.raises(UnreadableFile):
            formats.read(tmp_path / "m.pth")


def test_byte_order_is_what_the_zip_says_and_no_third_one(tmp_path: Path) -> None:
    for written, order in ((b"little", "<"), (b"big", ">")):
        arrays = {name: array.astype(f"{order}f4") for name, array in hostile_pickles.STATISTICS.items()}
        (tmp_path / "m.pt").write_bytes(torch_files.zipped(hostile_pickles.GOOD, arrays, byteorder=written))
        (layer,) = formats.read(tmp_path / "m.pt").layers
        np.testing.assert_array_equal(layer.arrays["gamma"], [1, 2])
    (tmp_path / "m.pt").write_bytes(torch_files.zipped(hostile_pickles.GOOD, arrays, byteorder=b"middle"))
    with pytest.raises(DamagedFile, match="byte order"):
        formats.read(tmp_path / "m.pt")


def test_tensors_that_are_together_more_than_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bninspect.formats.torch.storage.LARGEST", 4_000_000)
    program = PROGRAMS["tensor 300 layers of one storage"]
    many = dict.fromkeys(map(str, range(1200)), np.ones(2_000, np.float32))
    (tmp_path / "m.pt").write_bytes(torch_files.zipped(program.replace(b"J\x02\x00\x00\x00tQ", b"M\xd0\x07tQ"), many))
    with pytest.raises(UnsafeFile, match="stored in"):
        formats.read(tmp_path / "m.pt")
