from __future__ import annotations

from dataclasses import replace

from helpers.layers import frozen, layer

from bninspect.inspection import description, rules
from bninspect.records import LayerReport, ModelReport, Status, Unread
from bninspect.reports import Looks
from bninspect.reports.text.lines import shown
from bninspect.reports.text.lint import linted

NEGATIVE = frozen([1, -0.25, 1])


def report(*layers: LayerReport) -> ModelReport:
    return ModelReport("m\x1b.h5", None, 0, "keras-h5", "Keras 3", Status.PASS, layers=layers, notes=("weights only",))


def described(name: str, **changes: object) -> LayerReport:
    one = layer(name, **changes)
    return description.describe(one, rules.check(one))


def text(model: ModelReport, verbosity: int = 0) -> list[str]:
    looks = Looks(verbosity=verbosity)
    return shown(linted(model, looks), looks).splitlines()


def test_every_finding_has_its_hint() -> None:
    assert text(report(described("a"), described("b\n", moving_variance=NEGATIVE))) == [
        "m\\x1b.h5  2 batch-norm layers: 1 error, 1 note",
        "note    BN113 a: variance below epsilon in 1 channel: any other epsilon changes this model",
        "        hint: hand epsilon on with the parameters",
        "error   BN102 b\\x0a: moving_variance is negative in 1 channel: channel 1 holds -0.25",
        "        hint: recompute the statistics in two passes, or check the order in which the arrays were written",
        "note    weights only",
    ]


def test_what_many_layers_share_is_said_once_unless_all_is_asked_for() -> None:
    model = report(*(described(f"n{number}") for number in range(4)))
    assert text(model)[1].startswith("note    BN113 n0 and 3 other layers: ")
    assert len(text(model)) == 4
    assert sum("BN113 n" in one for one in text(model, 1)) == 4


def test_quiet_leaves_notes_out() -> None:
    assert text(report(described("a")), -1) == ["m\\x1b.h5  1 batch-norm layer: 1 note"]


def test_no_findings_are_said_to_be_none() -> None:
    sound = described("a", moving_variance=frozen([1, 2, 3]))
    ignored = replace(sound, findings=tuple(replace(one, ignored="--ignore") for one in described("a").findings))
    assert text(report(sound))[0] == "m\\x1b.h5  1 batch-norm layer: no findings"
    assert text(report(ignored))[0] == "m\\x1b.h5  1 batch-norm layer: no findings, 1 ignored"


def test_what_was_not_read_is_said() -> None:
    unread = (Unread("function f\x1b", 2, "its parameters are arguments"), Unread("loop", 1, "", known="as before"))
    assert text(replace(report(described("a", moving_variance=frozen([1, 1, 1]))), unread=unread))[1] == (
        "ERROR 2 more calls of batch norm in function f\\x1b, not read: its parameters are arguments"
    )
