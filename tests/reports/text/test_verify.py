"""What people read: failures first, the verdict on the whole last, numbers whole, names inert."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
from helpers.layers import frozen, layer, observation

from bninspect.errors import DamagedFile
from bninspect.inspection.description import describe
from bninspect.inspection.rules import check
from bninspect.records import (
    BatchNorm,
    Cause,
    Evidence,
    Explanation,
    LeftOut,
    ModelReport,
    Observation,
    Report,
    Run,
    outcome,
)
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
    status = outcome.model_status(layers, (), "error")
    model = ModelReport(path, None, 9, "keras-h5", "Keras 2.4.0", status, run.runtime, run.evidence, layers=layers)
    return outcome.report("verify", [model], options={}, allow_empty=False, running={})


def inspected(*stored: BatchNorm) -> Report:
    layers = tuple(describe(one, check(one)) for one in stored)
    model = ModelReport(
        "m.h5", None, 9, "keras-h5", "Keras 2.4.0", outcome.model_status(layers, (), "error"), layers=layers
    )
    return outcome.report("inspect", [model], options={}, allow_empty=False, running={})


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
    assert re.fullmatch(
        r"      largest error \d\d % of the rounding limit, at bn, channel \d; 120 values compared", lines[1]
    )
    assert lines[2].startswith("      notes: BN113 in 1 layer (variance below epsilon in 1 channel")
    assert lines[3] == "PASS  1 of 1 layer equals gamma*(x-mean)/sqrt(variance+epsilon)+beta in tf-keras 2.21.0"
    assert lines[4] == "PASS  1 model; 1 of 1 layer verified; exit 0: checked, and nothing fails"


def test_a_mismatch_shows_the_arithmetic_of_the_worst_element() -> None:
    good = layer("fine")
    text = render(verified((layer(), outside_the_root(layer())), (good, observation(good))), Looks())
    lines = text.splitlines()
    assert lines[-2].startswith("FAIL  1 of 2 layers equal")
    assert lines[-1] == "FAIL  1 model; 1 of 2 layers verified; exit 1: checked, and something is wrong"
    assert lines[1].startswith("FAIL  bn ")
    failed = next(line for line in lines if line.startswith("FAIL  bn"))
    assert re.search(
        r"60 of 60 values (in the model|of the layer run alone) are wrong, the worst by \S+ times the limit, channel 0",
        failed,
    )
    by_hand = next(line for line in lines if "by hand" in line)
    found = re.search(r"1\.5 \* \((\S+) - 0\.5\) / sqrt\(0\.0004 \+ 0\.001\) \+ 0\.25 = (\S+)", by_hand)
    assert found
    assert np.isclose(1.5 * (float(found[1]) - 0.5) / np.sqrt(0.0014) + 0.25, float(found[2]), rtol=1e-4)
    assert any(line.startswith("ok    1 other layer (-v lists them)") for line in lines)


def test_the_worst_channels_are_named_and_drawn_when_asked_for() -> None:
    report = verified((layer(), outside_the_root(layer())))
    ratios = next(one for one in report.models[0].layers[0].comparisons if not one.agrees).channel_ratios
    found = re.search(r"channels   0 \((\S+) times the limit\), 1 \((\S+) times the limit\)", render(report, Looks()))
    assert found
    assert float(found[1].replace(",", "")) > float(found[2].replace(",", "")) > 1
    assert not re.search(r"[▁▂▃▄▅▆▇█]", render(report, Looks()))
    drawn = re.search(r"^ +([▁▂▃▄▅▆▇█]+)$", render(report, Looks(verbosity=1)), re.MULTILINE)
    assert drawn
    assert len(drawn[1]) == len(ratios) == 3
    assert drawn[1][0] == max(drawn[1])


def test_every_layer_is_listed_when_asked_for() -> None:
    text = render(
        verified((layer("a"), observation(layer("a"))), (layer("b"), observation(layer("b")))), Looks(verbosity=1)
    )
    shown = r"^ok    [ab]  in the model \d\d % of the limit over 60 values, of the layer run alone "
    assert len(re.findall(shown, text, re.MULTILINE)) == 2


def test_quiet_is_failures_and_one_total() -> None:
    good, bad = (layer(), observation(layer())), (layer(), outside_the_root(layer()))
    assert render(verified(good), Looks(verbosity=-1)) == (
        "PASS  1 model; 1 of 1 layer verified; exit 0: checked, and nothing fails\n"
    )
    lines = render(verified(bad), Looks(verbosity=-1)).splitlines()
    assert lines[0].startswith("FAIL  m.h5: 0 of 1 layer verified in ")
    assert lines[1].startswith("FAIL  bn ")
    assert lines[-1].startswith("FAIL  1 model; 0 of 1 layer verified; exit 1: ")


def test_quiet_too_says_what_was_not_compared() -> None:
    report = verified((layer(), observation(layer())))
    model = replace(report.models[0], left_out=LeftOut(3, "--exclude-layer x*"))
    text = render(replace(report, models=(model,)), Looks(verbosity=-1))
    assert text.startswith("PASS  1 model; 1 of 4 layers verified; 3 left out as asked; exit 0: ")


def test_layers_with_one_cause_share_it_and_the_worst_is_shown() -> None:
    cause = Cause("epsilon", "epsilon 1e-05 instead of 0.001", 1.0, 0.5, {})
    report = verified(*((layer(name), outside_the_root(layer(name))) for name in ("a", "b", "c")))
    explained = Explanation(matches=False, causes=(cause,), tried=9, elements=60)
    layers = tuple(replace(each, explanation=explained) for each in report.models[0].layers)
    report = replace(report, models=(replace(report.models[0], layers=layers),))
    text = render(report, Looks())
    assert text.count("epsilon 1e-05 instead of 0.001 in 3 layers") == text.count("by hand") == 1
    assert "and 1 other layer (-v shows each)" in text
    assert render(report, Looks(verbosity=1)).count("epsilon 1e-05 instead of 0.001") == 3


def test_what_failed_comes_before_what_passed_and_the_total_last() -> None:
    good = verified((layer(), observation(layer())), path="good.h5").models[0]
    bad = verified((layer(), outside_the_root(layer())), path="bad.h5").models[0]
    report = outcome.report("verify", [good, bad], options={}, allow_empty=False, running={})
    lines = render(report, Looks()).splitlines()
    assert lines[0].startswith("bad.h5")
    assert lines[-1].startswith("FAIL  2 models: 1 pass, 1 fail; 1 of 2 layers verified; exit 1: ")


def test_layers_unverified_for_one_reason_share_a_line() -> None:
    run = Run("keras 3.15.1", Evidence.LAYER, reason="the file holds only weights")
    stored = [layer(name) for name in ("a", "b", "c")]
    text = render(verified(*((one, observation(one)) for one in stored), run=run), Looks())
    assert "ERROR 0 of 3 layers verified in keras 3.15.1" in text
    assert text.count("the file holds only weights") == 1
    assert "a and 2 other layers   unverified: the file holds only weights" in text


def test_an_error_has_three_lines() -> None:
    broken = outcome.broken("m.h5", DamagedFile("truncated", why="12 of 400 bytes", hint="copy it again"))
    text = render(outcome.report("verify", [broken], options={}, allow_empty=False, running={}), Looks())
    assert text == "ERROR m.h5: truncated\n      why: 12 of 400 bytes\n      hint: copy it again\n" + (
        "ERROR 1 model; exit 3: something could not be checked\n"
    )


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
