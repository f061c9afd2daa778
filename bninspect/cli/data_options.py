"""Options of the data that a model is run on."""

from __future__ import annotations

from typing import Any

import click

from bninspect.cli.options import group


def _image_size(value: Any) -> tuple[int, int]:
    """Return height and width of `224` or `224,320`."""
    if isinstance(value, tuple):
        return value
    try:
        height, *rest = (int(part) for part in str(value).replace("x", ",").split(","))
        (width,) = rest or (height,)
    except ValueError:
        height = width = 0
    if min(height, width) < 1:
        raise click.BadParameter(f"{value!r} is not a size: write 224 or 224,320, the height first")
    return height, width


data = group(
    click.option(
        "--data",
        type=click.Path(exists=True),
        required=True,
        metavar="PATH",
        help="A .npy file, a .npz file with the arrays by the inputs' names, TFRecord or Parquet with such fields, or "
        "a folder of them or of images.",
    ),
    click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Use N samples; all of them without it."),
    click.option("--shuffle", is_flag=True, help="Take samples in a random order, by --seed."),
    click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of --shuffle."),
    click.option(
        "--image-size",
        type=_image_size,
        metavar="H,W",
        help="Size to which images are brought; that of the model's input without it.",
    ),
    click.option(
        "--prepare",
        type=click.Choice(("unit", "tf", "torch", "caffe")),
        help="What is done to values from 0 to 255 before the model is given them; nothing without it.",
    ),
    click.option(
        "--batch-size",
        type=click.IntRange(1, 65536),
        default=32,
        show_default=True,
        help="Samples in a forward pass.",
    ),
)
"""Options of the data that a model is run on."""
