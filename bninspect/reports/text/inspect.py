"""The table of layers. A number is never cropped: when the terminal is narrow, whole columns go and are named."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bninspect.records import PARAMETERS, Distribution, LayerReport, Severity
from bninspect.reports import Looks
from bninspect.reports.text.lines import Line, line
from bninspect.safe_text import printable

_GAP = 2
_SHORTEST_NAME = 16
_BARS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Column:
    """A column, what it shows of a layer, and how early it goes when the terminal is narrow (high goes first)."""

    title: str
    cell: Callable[[LayerReport], str]
    sacrifice: int
    shared: bool = False
    """Whether it goes to the header line when all layers agree."""


def _range(name: str) -> Callable[[LayerReport], str]:
    def cell(layer: LayerReport) -> str:
        values = layer.parameters.get(name)
        if values is None:
            return "-"
        bad = f" +{values.nonfinite} NaN/inf" if values.nonfinite else ""
        if values.minimum is None or values.maximum is None:
            return f"none finite{bad}"
        return f"{values.minimum:.3g} .. {values.maximum:.3g}{bad}"

    return cell


def _plain(name: str) -> Callable[[LayerReport], str]:
    def cell(layer: LayerReport) -> str:
        value = getattr(layer, name)
        return "unknown" if value is None else f"{value:g}" if isinstance(value, float) else str(value)

    return cell


def _worst_finding(layer: LayerReport) -> str:
    rules = [f.rule for severity in Severity for f in layer.findings if f.severity is severity and f.ignored is None]
    return " ".join(rules) or "-"


COLUMNS = (
    Column("channels", lambda layer: f"{layer.channels}", 0),
    Column("gamma", _range("gamma"), 4),
    Column("beta", _range("beta"), 5),
    Column("moving_mean", _range("moving_mean"), 3),
    Column("moving_variance", _range("moving_variance"), 2),
    Column("axis", _plain("axis"), 7, shared=True),
    Column("epsilon", _plain("epsilon"), 1, shared=True),
    Column("momentum", _plain("momentum"), 8),
    Column("dtype", _plain("dtype"), 6),
    Column("findings", _worst_finding, 0),
)


def layer_table(layers: Sequence[LayerReport], looks: Looks) -> Iterator[Line]:
    """Return the rows of the table, headings first, and the names of columns that did not fit."""
    if not layers:
        return
    columns = [column for column in COLUMNS if not (column.shared and _same(column, layers))]
    cells = {column.title: [column.cell(layer) for layer in layers] for column in columns}
    widths = {title: max(len(title), *map(len, texts)) for title, texts in cells.items()}
    names = [printable(layer.name) for layer in layers]
    longest = max(len("layer"), *map(len, names))
    kept, dropped = _fitting(columns, widths, longest, looks)
    room = longest
    if looks.width and not looks.wide:
        room = max(_SHORTEST_NAME, min(longest, looks.width - sum(_GAP + widths[one.title] for one in kept)))
    heading = "".join(f"{' ' * _GAP}{one.title:>{widths[one.title]}}" for one in kept)
    yield line((f"{'layer':<{room}}{heading}", "bold"))
    for row, name in enumerate(names):
        text = "".join(f"{' ' * _GAP}{cells[one.title][row]:>{widths[one.title]}}" for one in kept)
        yield line(f"{printable(name, room):<{room}}{text}")
    if dropped:
        yield line((f"not shown, too narrow: {', '.join(dropped)} (--wide shows them)", "dim"))


def _same(column: Column, layers: Sequence[LayerReport]) -> bool:
    return len({column.cell(layer) for layer in layers}) == 1


def _fitting(
    columns: list[Column], widths: dict[str, int], longest: int, looks: Looks
) -> tuple[list[Column], list[str]]:
    kept = list(columns)
    if looks.width is None or looks.wide:
        return kept, []
    name = min(longest, _SHORTEST_NAME)
    while name + sum(_GAP + widths[one.title] for one in kept) > looks.width:
        goes = max(kept, key=lambda one: one.sacrifice, default=None)
        if goes is None or goes.sacrifice == 0:
            break
        kept.remove(goes)
    return kept, [column.title for column in columns if column not in kept]


def parameter_details(layer: LayerReport) -> Iterator[Line]:
    """Return the quantiles and a histogram of each parameter of a layer."""
    yield line((printable(layer.name), "bold"), f"  {layer.location and printable(layer.location)}  {layer.dtype}")
    yield line(
        (
            f"  {'':<16}{'min':>12}{'5 %':>12}{'25 %':>12}{'median':>12}{'75 %':>12}{'95 %':>12}{'max':>12}",
            "dim",
        )
    )
    for name in PARAMETERS:
        values = layer.parameters.get(name)
        if values is not None:
            numbers = "".join(f"{_short(number):>12}" for number in (values.minimum, *values.quantiles, values.maximum))
            yield line(f"  {name:<16}{numbers}  ", (_histogram(values), "cyan"))


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _histogram(values: Distribution) -> str:
    most = max(values.counts, default=0)
    # A bin that holds anything at all shows at least the lowest bar, so that no outlier is lost.
    return "".join(_BARS[-(-count * (len(_BARS) - 1) // most)] for count in values.counts) if most else ""
