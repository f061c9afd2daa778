"""Writes docs/explanation/converters.md from the results in the cache."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from converter_list import CONVERTERS, Converter, Family
from converter_patterns import BY_NAME, PATTERNS
from converter_reports import reports
from converter_results import BROKEN, REFUSED, RIGHT, UNRUN, WRONG, Result

HEADER = """\
# Which converters get batch norm right

{patterns} ways to use batch norm, as models of Keras and as modules of PyTorch, put to {converters} converters: {cells}
cells. Every gamma is random, of both signs, one of each layer is zero; bias, beta, mean and variance are random too.
`python benchmarks/converters.py table` wrote this page from the results of `python benchmarks/converters.py run` on
{date}; conversions and verdicts took {minutes:.0f} minutes together, on two cores that many others shared.

A cell is *right* or *wrong* by measurement, without bninspect: four inputs run through the model in its own framework
and through the file in the runtime that is meant for it, and the largest difference is held against eight times what
the largest of four random roundings of every stored number changes, plus four units of the largest output. Of the right
ones, half were below {median:.2g} and all but one in a hundred below {most:.2g} of that; what is wrong was above 1.
Beside it stands what `bninspect verify MODEL --against FILE` says.

| mark | the outputs | bninspect |
|---|---|---|
| `.` | right | proved |
| `?` | right | unverified, exit code 3 |
| `o` | right | not asked yet |
| `X` | wrong | failed |
| `x` | wrong | unverified, or not asked yet |
| `c` | wrong, as its range cuts off what goes in; right for the inputs halved | proved, and says what is cut off |
| `B` | none: its own runtime does not load or run the file | failed, unverified or unread |
| `R` | none: the converter refused | |
| `-` | none: nothing on this machine runs the file | unverified or unread |
| `p`, `f` | none | proved, failed |
| `!` | bninspect passes what is wrong, or fails what is right | |

"""
LEGEND_END = """
`tflite-dynamic` leaves arrays of fewer than 1024 numbers as they are, so on networks as small as these it is
`tflite-float32` under another name. OpenVINO runs with `INFERENCE_PRECISION_HINT=f32` and ncnn with float16 off: the
files are measured, not the processor. `onnx2tf` would fetch pictures for its own check; it was given random ones. It
returns images with the channels last: an output counts as right in either order. Files of float16 store halves and
compute in float32, so that only what is stored was rounded for their measure. Where a model rounds to steps itself
(fake-quant), half of its outputs have to be as near as the median change of such a rounding says.

GGUF is not here: there is no general converter to it, each kind of model has a script of its own that folds by hand.
"""


@dataclass(frozen=True)
class Page:
    """What the page is made of."""

    results: Sequence[Result]
    versions: Mapping[str, str]
    """By the package of a converter."""
    failures: Mapping[str, str]
    """What pip said, by environment that could not be installed."""
    date: str
    minutes: float
    note: str = ""
    """On how the results came about; nothing where they are those of one run."""


def mark(result: Result | None) -> str:
    """Return the mark of a cell."""
    if result is None:
        return " "
    if result.disagrees:
        return "!"
    unrun = {"proved": "p", "failed": "f"}.get(result.verdict, "-")
    wrong = "c" if result.is_cut else "X" if result.verdict == "failed" else "x"
    marks = {REFUSED: "R", BROKEN: "B", UNRUN: unrun, WRONG: wrong}
    return marks.get(result.measured, {"proved": ".", "": "o"}.get(result.verdict, "?"))


def render(page: Page) -> str:
    """Return the page."""
    ratios = sorted(result.ratio for result in page.results if result.measured == RIGHT and result.ratio is not None)
    head = HEADER.format(
        patterns=len(PATTERNS),
        converters=len({result.cell.converter.name for result in page.results}),
        cells=len(page.results),
        date=page.date,
        minutes=page.minutes,
        median=ratios[len(ratios) // 2] if ratios else 0.0,
        most=ratios[int(0.99 * (len(ratios) - 1))] if ratios else 0.0,
    )
    parts = [
        head,
        f"{page.note}\n" if page.note else "",
        *short(page),
        "## Counts\n",
        *counts(page),
        LEGEND_END,
        "\n",
        *failures(page),
    ]
    parts += [
        *grid(page, "keras", "Models of Keras"),
        *grid(page, "torch", "Modules of PyTorch"),
        *reports(page.results),
    ]
    parts += list(faults(page))
    parts += list(patterns())
    return "\n".join(parts).replace("\n\n\n", "\n\n").rstrip() + "\n"


def short(page: Page) -> Iterator[str]:
    """Yield which converters are right wherever they convert, and where the others are not."""
    always, mostly, wrong, broken = list[str](), list[str](), list[str](), list[str]()
    for converter in CONVERTERS:
        found = [each for each in page.results if each.cell.converter == converter and each.measured != UNRUN]
        kinds = {each.measured for each in found}
        if RIGHT in kinds and kinds <= {RIGHT, REFUSED}:
            (mostly if REFUSED in kinds else always).append(converter.name)
        if WRONG in kinds:
            wrong.append(f"{converter.name} ({_named(found, WRONG)})")
        if BROKEN in kinds:
            broken.append(f"{converter.name} ({_named(found, BROKEN)})")
    yield "## In short\n"
    yield f"- Right on every pattern: {', '.join(always)}."
    yield f"- Right on every pattern that they do not refuse: {', '.join(mostly)}."
    yield f"- Wrong without a word: {', '.join(wrong)}."
    yield f"- Written, and not loaded by the runtime it is for: {', '.join(broken)}.\n"


def _named(found: Sequence[Result], measured: str) -> str:
    kept = [each for each in found if each.measured == measured]
    names = list(dict.fromkeys(each.cell.pattern for each in kept))
    inside = all(each.halved is not None and each.halved <= 1 for each in kept)
    said = ", ".join(names) if len(names) <= _FEW else f"{len(names)} patterns"
    return said + (", right for the inputs halved" if inside else "")


_FEW = 6
"""Patterns that are named; of more the number is said."""


def counts(page: Page) -> Iterator[str]:
    """Yield a row for each converter and family, with its version."""
    yield "| converter | of | version | right | wrong | broken | refused | proved | failed | unverified | disagree |"
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    for converter in CONVERTERS:
        for family in converter.families:
            found = [each for each in page.results if each.cell.converter == converter and each.cell.family == family]
            if not found:
                continue
            measured = Counter(each.measured for each in found)
            verdicts = Counter(each.verdict for each in found)
            figures = [
                *(measured[key] if measured[UNRUN] == 0 or key in {BROKEN, REFUSED} else "-" for key in (RIGHT, WRONG)),
                measured[BROKEN],
                measured[REFUSED],
                *(verdicts[key] for key in ("proved", "failed", "unverified")),
                sum(each.disagrees for each in found),
            ]
            version = f"{converter.package} {page.versions.get(converter.package, '')}".strip()
            yield f"| {converter.name} | {family} | {version} | " + " | ".join(map(str, figures)) + " |"


def failures(page: Page) -> Iterator[str]:
    """Yield what could not be installed, in pip's words."""
    for name, message in page.failures.items():
        yield f"The environment `{name}` could not be installed: `{message}`\n"


def grid(page: Page, family: Family, title: str) -> Iterator[str]:
    """Yield the table of patterns by converters of a family; converters stand as numbers."""
    known = {(each.cell.converter.name, each.cell.pattern): each for each in page.results if each.cell.family == family}
    columns = [each for each in CONVERTERS if any(name == each.name for name, _ in known)]
    yield f"\n## {title}\n"
    yield ", ".join(f"{number} {column.name}" for number, column in enumerate(columns, 1)) + "\n"
    width = max((len(pattern.name) for pattern in PATTERNS), default=0)
    yield "```text"
    yield " " * width + "".join(f"{number:3}" for number in range(1, len(columns) + 1))
    for pattern in PATTERNS:
        marks = [mark(known.get((column.name, pattern.name))) for column in columns]
        if any(each != " " for each in marks):
            yield f"{pattern.name:{width}}" + "".join(f"{each:>3}" for each in marks)
    yield "```"


def faults(page: Page) -> Iterator[str]:
    """Yield each kind of fault with the smallest pattern that shows it, and the command that makes that."""
    titles = {
        WRONG: "Wrong",
        BROKEN: "Written, but its own runtime does not take it",
        REFUSED: "Refused",
        "unverified": "Right, and bninspect cannot tell",
        "disagrees": "Where bninspect and the measurement disagree",
    }
    for key, title in titles.items():
        groups = grouped(each for each in page.results if _belongs(each, key))
        if not groups:
            continue
        yield f"\n## {title}\n"
        yield "| converter | patterns | what is said | the smallest |"
        yield "|---|---|---|---|"
        for (converter, family, said), found in groups.items():
            names = ", ".join(each.cell.pattern for each in found[:4]) + (" ..." if len(found) > 4 else "")
            worst = max((each.ratio for each in found if each.ratio is not None), default=None)
            figure = f"; up to {worst:.3g} of what is allowed" if worst is not None and key != "unverified" else ""
            inside = key == WRONG and all(each.halved is not None and each.halved <= 1 for each in found)
            figure += "; right for the inputs halved" if inside else ""
            smallest = min((each.cell.pattern for each in found), key=_size)
            make = f"`converters.py make {family} {converter.name} {smallest}`"
            yield f"| {converter.name} ({family}) | {len(found)}: {names} | {_cell(said)}{figure} | {make} |"


def _belongs(result: Result, key: str) -> bool:
    if key == "disagrees":
        return result.disagrees
    if key == "unverified":
        return result.measured == RIGHT and result.verdict == "unverified"
    return result.measured == key


def grouped(results: Iterable[Result]) -> dict[tuple[Converter, Family, str], list[Result]]:
    """Return results by converter, family and what is said of them."""
    groups: dict[tuple[Converter, Family, str], list[Result]] = {}
    for result in results:
        said = result.why or result.said or ("bninspect passes it" if result.verdict == "proved" else "")
        key = (result.cell.converter, result.cell.family, "".join(c for c in said if not c.isdigit())[:60])
        groups.setdefault(key, []).append(result)
    return {
        (converter, family, found[0].why or found[0].said or said): found
        for (converter, family, said), found in groups.items()
    }


def _size(name: str) -> int:
    """Return how much there is to a pattern: the length of its description."""
    return len(BY_NAME[name].title)


def _cell(text: str) -> str:
    return text.replace("|", "/").replace("`", "'").replace("<", "(").replace(">", ")")


def patterns() -> Iterator[str]:
    """Yield what each pattern is."""
    yield "\n## The patterns\n"
    yield "| pattern | what it is |"
    yield "|---|---|"
    yield from (f"| {pattern.name} | {pattern.title} |" for pattern in PATTERNS)
