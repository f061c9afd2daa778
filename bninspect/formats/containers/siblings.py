"""Files that belong together: the members of a model folder, the shards beside their index. No name leads elsewhere."""

from __future__ import annotations

from pathlib import Path

from bninspect.errors import MissingSibling, UnsafeFile


def sibling(folder: Path, name: str, label: str) -> Path:
    """Return the file called `name` in `folder`, where `name` may come from a file and `folder` from the user.

    A symbolic link may lead to another file of the folder, or to the store of the Hugging Face cache: its snapshots
    are folders of links into `../../blobs`.

    Raises:
        MissingSibling: there is no such file.
        UnsafeFile: `name` is not a plain name, or leads out of the folder.
    """
    if not name or name in {".", ".."} or set(name) & set("/\\:\0"):
        raise UnsafeFile(f"{label} names a file elsewhere", why=f"{name!r} is not the name of a file beside it")
    path = folder / name
    if not path.exists():
        raise MissingSibling(f"{label} is incomplete", why=f"there is no file {name}", hint=f"put {name} back")
    home = folder.resolve()
    if path.resolve().parent not in {home, home.parent.parent / "blobs"} or not path.is_file():
        raise UnsafeFile(f"{label} leads to something else", why=f"{name} is not a file in the same folder")
    return path
