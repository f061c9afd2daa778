"""What `bninspect verify MODEL --against EXPORT` says of what converters wrote, with one pair of processes for all.

    python converter_verdicts.py CACHE keras|torch [CONVERTER...]

Started by converters.py in the environment of bninspect.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from converter_cells import Cell, cells, shortened
from converter_results import CUT_OFF

from bninspect.errors import UsageError
from bninspect.jobs import pipeline
from bninspect.jobs.context import Surroundings
from bninspect.jobs.process_pairs import ProcessPair
from bninspect.records import LayerStatus, ModelReport, outcome
from bninspect.settings import Settings


def source(cell: Cell) -> Path:
    """Return the file of a cell's model."""
    found = (cell.source / name for name in ("model.keras", "model.h5", "model.pt2"))
    return next(path for path in found if path.exists())


def said(model: ModelReport) -> Iterator[str]:
    """Yield why a model did not pass, the gravest first, without the names of its layers."""
    if model.error is not None:
        yield f"{model.error.what}: {model.error.why}"
    yield from (finding.message for finding in model.findings)
    for status in (LayerStatus.MISMATCH, LayerStatus.UNVERIFIED):
        for layer in model.layers:
            if layer.status is status and layer.counterpart is not None:
                explanation = layer.counterpart.explanation
                causes = explanation.causes if explanation is not None else ()
                yield causes[0].sentence if causes else layer.counterpart.sentence
            elif layer.status is status:
                yield layer.reason
    if model.against is not None:
        yield from model.against.open


def verdict(pair: ProcessPair, cell: Cell, name: str) -> None:
    """Hold a cell's export against its model, and keep the exit code and the reasons."""
    if cell.told("verdict"):
        return
    start = time.monotonic()
    pair.settings = replace(pair.settings, against=(str(cell.folder / name),))
    try:
        (model,) = pair.run(str(source(cell)))
    except UsageError as error:  # of a format that nothing can be held against
        cell.tell("verdict", code=2, said=[shortened(f"{type(error).__name__}: {error.why}", 300)], seconds=0.0)
        return
    report = outcome.report("verify", [model], options={}, allow_empty=False, running={})
    code = report.summary.exit_code
    told = model.against.notes if code == 0 and model.against is not None else ()
    words = [each for each in told if CUT_OFF in each] if code == 0 else [each for each in said(model) if each]
    words = [shortened(each, 300) for each in words]
    cell.tell("verdict", code=code, said=list(dict.fromkeys(words)), seconds=time.monotonic() - start)


def main() -> None:
    """Judge every export of a family that has not been judged yet."""
    cache, family, names = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    work = pipeline._verify_model  # noqa: SLF001 - what `verify` does with each model; it starts processes for each call
    with ProcessPair(work, Settings(), Surroundings()) as pair:
        for cell in cells(cache, names or None):
            file = cell.told("conversion").get("file")
            if cell.family == family and file:
                verdict(pair, cell, file)


if __name__ == "__main__":
    main()
