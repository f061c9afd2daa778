"""What people read: verdict first, numbers whole, names inert."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
from helpers.layers import frozen, layer, observation

from bninspect.errors import DamagedFile
from bninspect.inspection.description import describe
from bninspect.inspection.rules import check
from bninspect.records import BatchNorm, Evidence, ModelReport, Observation, Report, Run, verdict
from bninspect.reports import Looks
from bninspect.reports.text.verify import render
from bninspect.settings import Settings
from bninspect.verdicts.layers import Judge

RUN = Run("tf-keras 2.21.0", Evidence.MODEL)


def verified(*pairs: tuple[BatchNorm, Observation], path: str = "m.h5", run: Run = RUN, **settings: Any) -> Report:
    judge = Judge([stored for stored, _ in pairs], Settings(**settings))
    for _, seen in pairs:
        judge.see(seen)
        judge.see(replace(seen, observed="probed"))
    layers = judge.reports(run)
    status = verdict.model_status(layers, (), "error")
    model = ModelReport(path, None, 9, "keras-h5", "Keras 2.4.0", status, run.runtime, run.evidence, layers=layers)
    return verdict.report("verify", [model], options={}, allow_empty=False, running={})


def inspected(*stored: BatchNorm) -> Report:
    layers = tuple(describe(one, check(one)) for one in stored)
    model = ModelReport(
        "m.h5", None, 9, "keras-h5", "Keras 2.4.0", verdict.model_status(layers, (), "error"), layers=layers
    )
    return verdict.report("inspect", [model], options={}, allow_empty=False, running={})


def outside_the_root(stored: BatchNorm) -> Observation:
    """Return what a kernel computes that adds epsilon to the deviation."""
    right = observation(stored)
    assert stored.gamma is not None
    assert stored.beta is not None
    assert stored.moving_mean is not None
    assert stored.moving_variance is not None
    assert stored.epsilon is not None
    deviation = np.sqrt(stored.moving_variance) + np.float32(stored.epsilon)
    y = stored.gamma * (right.x - stored.moving_mean) / deviation + stored.beta
    return replace(right, y=y.astype(np.float32))


def test_a_pass_says_what_was_proved_and_by_what_margin() -> None:
    lines = render(verified((layer(), observation(layer()))), Looks()).splitlines()
    assert lines[0] == "m.h5  Keras 2.4.0, keras-h5, 1 batch-norm layer, 3 channels; axis -1, epsilon 0.001"
    assert lines[1].startswith(
        "PASS  1 of 1 layers equal gamma*(x-mean)/sqrt(variance+epsilon)+beta in tf-keras 2.21.0"
    )
    assert re.fullmatch(r"      worst 0\.\d\d of the rounding bound at bn, channel \d; 120 values compared", lines[2])
    assert lines[3].startswith("      notes: BN113 in 1 layer (variance below epsilon in 1 channel")


def test_a_mismatch_shows_the_arithmetic_of_the_worst_element() -> None:
    good = layer("fine")
    text = render(verified((layer(), outside_the_root(layer())), (good, observation(good))), Looks())
    lines = text.splitlines()
    assert lines[1].startswith("FAIL  1 of 2 layers equal")
    failed = next(line for line in lines if line.startswith("FAIL  bn"))
    assert re.search(r"\d+ of 60 values (in-model|probed) beyond the bound, worst [\d.e+]+ x bound, channel 0", failed)
    by_hand = next(line for line in lines if "by hand" in line)
    found = re.search(r"1\.5 \* \((\S+) - 0\.5\) / sqrt\(0\.0004 \+ 0\.001\) \+ 0\.25 = (\S+)", by_hand)
    assert found
    assert np.isclose(1.5 * (float(found[1]) - 0.5) / np.sqrt(0.0014) + 0.25, float(found[2]), rtol=1e-4)
    assert any(line.startswith("ok    1 other layer (-v lists them)") for line in lines)


def test_the_worst_channels_are_named_and_drawn_when_asked_for() -> None:
    report = verified((layer(), outside_the_root(layer())))
    ratios = next(one for one in report.models[0].layers[0].comparisons if not one.agrees).channel_ratios
    found = re.search(r"channels   0 \((\S+) x bound\), 1 \((\S+) x bound\)", render(report, Looks()))
    assert found
    assert float(found[1]) > float(found[2]) > 1
    assert not re.search(r"[▁▂▃▄▅▆▇█]", render(report, Looks()))
    drawn = re.search(r"^ +([▁▂▃▄▅▆▇█]+)$", render(report, Looks(verbosity=1)), re.MULTILINE)
    assert drawn
    assert len(drawn[1]) == len(ratios) == 3
    assert drawn[1][0] == max(drawn[1])


def test_every_layer_is_listed_when_asked_for() -> None:
    text = render(
        verified((layer("a"), observation(layer("a"))), (layer("b"), observation(layer("b")))), Looks(verbosity=1)
    )
    assert (
        len(re.findall(r"^ok    [ab]  in-model 0\.\d\d of the bound over 60 values, probed ", text, re.MULTILINE)) == 2
    )


def test_quiet_says_the_verdict_alone() -> None:
    text = render(verified((layer(), observation(layer()))), Looks(verbosity=-1))
    assert re.fullmatch(r"PASS  m\.h5: 1 of 1 layers equal .*\n", text)


def test_layers_unverified_for_one_reason_share_a_line() -> None:
    run = Run("keras 3.15.1", Evidence.LAYER, reason="the file holds only weights")
    stored = [layer(name) for name in ("a", "b", "c")]
    text = render(verified(*((one, observation(one)) for one in stored), run=run), Looks())
    assert "ERROR 0 of 3 layers verified in keras 3.15.1" in text
    assert text.count("the file holds only weights") == 1
    assert "a and 2 other layers   unverified: the file holds only weights" in text


def test_an_error_has_three_lines() -> None:
    broken = verdict.broken("m.h5", DamagedFile("truncated", why="12 of 400 bytes", hint="copy it again"))
    text = render(verdict.report("verify", [broken], options={}, allow_empty=False, running={}), Looks())
    assert text == "ERROR m.h5: truncated\n      why: 12 of 400 bytes\n      hint: copy it again\n"


def test_names_from_files_are_inert() -> None:
    evil = "bn\n::error::[bold]x[/x]\x1b[31m"
    for report in (inspected(layer(evil)), verified((layer(evil), observation(layer(evil))), path="p\x1b[31m\n.h5")):
        for looks in (Looks(), Looks(verbosity=1), Looks(width=80), Looks(detailed=True)):
            text = render(report, looks)
            assert "\x1b" not in text
            assert not re.search(r"^::", text, re.MULTILINE)
            assert "[bold]x" in text or looks.width or "\\x1b" in text


def test_a_narrow_terminal_loses_columns_and_names_them_but_crops_no_number() -> None:
    stored = layer(
        "a_rather_long_name_of_a_layer_in_a_deep_model/block7/bn", moving_variance=frozen([1.234567e-5, 1, 2])
    )
    wide = render(inspected(stored), Looks())
    assert "1.23e-05 .. 2" in wide
    for width in (60, 80, 100, 120):
        text = render(inspected(stored), Looks(width=width))
        assert all(len(line) <= width for line in text.splitlines()[1:3])
        row = text.splitlines()[2]
        assert "…" not in re.sub(r"^\S+", "", row)
        if width == 60:
            assert re.search(r"not shown, too narrow: .*beta.* \(--wide", text.replace("\n", " "))
    assert "moving_mean" in render(inspected(stored), Looks(width=60, wide=True)).splitlines()[1]


def test_values_that_all_layers_share_are_in_the_header_and_others_in_columns() -> None:
    same = render(inspected(layer("a"), layer("b")), Looks()).splitlines()
    assert same[0].endswith("axis -1, epsilon 0.001")
    assert "epsilon" not in same[1]
    other = render(inspected(layer("a"), layer("b", epsilon=None)), Looks()).splitlines()
    assert "epsilon" not in other[0]
    assert "epsilon" in other[1]
    assert "unknown" in other[3]


def test_details_show_quantiles_and_a_histogram() -> None:
    text = render(inspected(layer()), Looks(detailed=True))
    row = next(line for line in text.splitlines() if line.startswith("  moving_variance"))
    assert row.split()[1:8] == ["0.0004", "0.1004", "0.5002", "1", "2.5", "3.7", "4"]
    assert "█" in row


def test_colour_only_where_it_is_wanted() -> None:
    report = verified((layer(), observation(layer())))
    assert "\x1b[1;32mPASS" in render(report, Looks(colour=True))
    assert "\x1b" not in render(report, Looks(colour=False))
