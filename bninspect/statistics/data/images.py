"""Samples that are image files, brought to the size and the channels of the model's input by Pillow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bninspect.errors import MissingPackage, UnreadableFile, UsageError
from bninspect.records import Array
from bninspect.runtimes.runtime import Input
from bninspect.safe_text import printable

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
INSTALL = "pip install 'bninspect[images]'"
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_LARGEST = 1 << 28
"""Most pixels of an image."""


def reader(paths: Sequence[Path], taken: Input, size: tuple[int, int] | None) -> tuple[ReadImages, str]:
    """Return a function that reads images by their places as (images, ...) uint8, and what it does, in words.

    Args:
        paths: image files.
        taken: the model's input, of rank 4.
        size: height and width; those of the input without it.

    Raises:
        MissingPackage: Pillow is not installed.
        UsageError: the input does not take images, or leaves their size open and `size` is None.
    """
    try:
        import PIL  # noqa: F401
    except ImportError as error:
        raise MissingPackage("images are read by Pillow, which is not installed", hint=INSTALL) from error
    if len(taken.shape) != 4:
        raise UsageError(f"the model does not take images: its input has {len(taken.shape)} dimensions, not 4")
    first = taken.shape[1] in _MODES and taken.shape[3] not in _MODES
    channels = taken.shape[1] if first else taken.shape[3]
    mode = _MODES.get(channels or 3)
    if mode is None:
        raise UsageError(f"the model takes images of {channels} channels", why="files hold 1, 3 or 4")
    height, width = taken.shape[2:] if first else taken.shape[1:3]
    if size is None and (height is None or width is None):
        raise UsageError("the model leaves the size of its images open", hint="pass --image-size 224,224")
    height, width = size or (height or 0, width or 0)
    return ReadImages(paths, mode, (height, width), first=first), f"{mode} {height}x{width}, bilinear, 0 to 255"


class ReadImages:
    """Reads images by their places.

    Args:
        paths: of the files.
        mode: Pillow's name of the channels.
        size: height and width.
        first: whether the channels come before the places.
    """

    def __init__(self, paths: Sequence[Path], mode: str, size: tuple[int, int], *, first: bool) -> None:
        self._paths, self._mode, self._size, self._first = paths, mode, size, first

    def __call__(self, rows: Sequence[int]) -> Array:
        """Return images as (images, height, width, channels), or with the channels before; 0 to 255."""
        images = np.stack([self._image(self._paths[row]) for row in rows])
        images = images.reshape(len(rows), *self._size, -1)
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2)) if self._first else images

    def _image(self, path: Path) -> Array:
        from PIL import Image, ImageOps

        try:
            with Image.open(path) as image:
                if image.width * image.height > _LARGEST:
                    raise UnreadableFile(f"{printable(str(path))} is too large", why=f"{image.width}x{image.height}")
                turned = ImageOps.exif_transpose(image).convert(self._mode)
                height, width = self._size
                return np.asarray(turned.resize((width, height), Image.Resampling.BILINEAR))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise UnreadableFile(f"{printable(str(path))} is not an image that Pillow reads", why=str(error)) from error
