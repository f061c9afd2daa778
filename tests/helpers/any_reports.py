"""Any report, for hypothesis: whatever its fields may hold, and such as the program makes."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from bninspect.errors import DamagedFile, LimitExceeded, NothingToCheck
from bninspect.records import (
    Cause,
    Channel,
    Comparison,
    Distribution,
    Estimator,
    Evidence,
    Explanation,
    Finding,
    LayerReport,
    LayerStatus,
    ModelReport,
    Option,
    Problem,
    Report,
    Severity,
    Statistics,
    Status,
    Strip,
    Tolerance,
    Unread,
    Worst,
    outcome,
)

NASTY = (
    "::error::x",
    "\n::add-mask::x",
    "##[add-mask]x",
    "##vso[task.complete result=Succeeded]x",
    "<script>alert(1)</script>",
    "]]></system-out><testcase name='x'/>",
    "</code></details></table><img src=x onerror=alert(1)>",
    '" onload="alert(1)" x="',
    "--><b>",
    "&lt;&amp;",
    "`a`|``b``|\\|c",
    "**bold** _it_ [link](https://example.org) ![i](http://example.org/i.png)",
    "# head",
    "1. item",
    "- item",
    "@someone #1 www.example.org http://example.org",
    "\x00\x1b[31m\r\n\x85\u2028\u202e\ud800\ufffe",
    "%0A::error::x,y=z",
    "100%",
    " ",
    "$x$ ~~x~~",
    "</style></title>",
)
TEXT = st.text(max_size=10) | st.sampled_from(NASTY)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
NUMBERS = st.none() | FINITE
COUNTS = st.integers(0, 10**12)
RATIOS = st.none() | st.floats(0, 1) | st.floats(0, allow_infinity=False)


def some(of: st.SearchStrategy[object], most: int = 2) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(of, max_size=most).map(tuple)


WORST = st.builds(Worst, some(COUNTS, 4), COUNTS, *[NUMBERS] * 9)
COMPARISONS = st.builds(
    Comparison,
    observed=st.sampled_from(["in-model", "probed"]) | TEXT,
    reference=st.sampled_from(["formula", "output", "moving_mean"]) | TEXT,
    elements=COUNTS,
    violations=st.just(0) | COUNTS,
    ratio=RATIOS,
    max_abs=NUMBERS,
    max_ulp=NUMBERS,
    nonfinite=COUNTS,
    worst=st.none() | WORST,
    channels=some(COUNTS),
    calls=COUNTS,
    channel_ratios=some(RATIOS, 6),
    worst_channels=some(st.builds(Channel, COUNTS, *[NUMBERS] * 5)),
)
FINDINGS = st.builds(
    Finding, TEXT, st.sampled_from(Severity), TEXT, st.dictionaries(TEXT, COUNTS, max_size=2), TEXT, st.none() | TEXT
)
STRIPS = st.none() | st.builds(Strip, st.integers(1, 9), some(NUMBERS, 5), st.just(()), some(st.integers(0, 4)))
DISTRIBUTIONS = st.builds(
    Distribution,
    NUMBERS,
    st.just((None, 1.0)),
    NUMBERS,
    COUNTS,
    some(COUNTS, 4),
    STRIPS,
    st.floats(min_value=0, exclude_min=True, allow_infinity=False),
    some(COUNTS, 4),
)
CAUSES = st.builds(Cause, TEXT, TEXT, st.floats(0, 1), st.floats(0, 1), st.just({}), some(TEXT), TEXT)
LAYERS = st.builds(
    LayerReport,
    name=TEXT,
    location=TEXT,
    channels=st.integers(0, 10**6),
    axis=st.none() | st.integers(-4, 4) | st.just((1, 3)),
    epsilon=st.none() | st.floats(0, 1e300),
    epsilon_source=st.none() | TEXT,
    momentum=NUMBERS,
    dtype=TEXT,
    scale=st.booleans(),
    center=st.booleans(),
    class_name=TEXT,
    statistics=st.sampled_from(Statistics),
    status=st.none() | st.sampled_from(LayerStatus),
    reason=TEXT,
    known=st.just("") | TEXT,
    tolerance=st.none() | st.builds(Tolerance, FINITE, FINITE, TEXT),
    estimator=st.none() | st.sampled_from(Estimator),
    comparisons=some(COMPARISONS),
    findings=some(FINDINGS),
    explanation=st.none() | st.builds(Explanation, st.booleans(), some(CAUSES), COUNTS, COUNTS, some(TEXT)),
    parameters=st.dictionaries(
        st.sampled_from(["gamma", "beta", "moving_mean", "moving_variance"]) | TEXT, DISTRIBUTIONS, max_size=2
    ),
    notes=some(TEXT),
)
UNREAD = st.builds(Unread, TEXT, st.integers(1, 10**6), TEXT, st.just("") | TEXT)
MODELS = st.builds(
    ModelReport,
    path=TEXT,
    sha256=st.none() | TEXT,
    bytes=COUNTS,
    format=TEXT,
    writer=TEXT,
    status=st.sampled_from(Status),
    runtime=st.none() | TEXT,
    evidence=st.none() | st.sampled_from(Evidence),
    error=st.none() | st.builds(Problem, TEXT, TEXT, TEXT, TEXT, st.just(3)),
    seconds=st.floats(0, 1e6),
    notes=some(TEXT),
    layers=some(LAYERS),
    findings=some(FINDINGS),
    unread=some(UNREAD),
)
FAIL_ON = st.sampled_from(["error", "warning", "note", "never"])


@st.composite
def reports(draw: st.DrawFn) -> Report:
    """Return a report such as the program makes: what it says of models follows from what it says of layers."""
    command = draw(st.sampled_from(["inspect", "lint", "verify"]))
    fail_on = draw(FAIL_ON)
    models = []
    for number, model in enumerate(draw(st.lists(MODELS, max_size=4))):
        path = f"{number}{model.path}"
        error = draw(st.sampled_from([None, None, DamagedFile, LimitExceeded, NothingToCheck]))
        if error is not None:
            models.append(outcome.broken(path, error(draw(TEXT), why=draw(TEXT), hint=draw(TEXT))))
            continue
        layers = tuple(_settled(layer, command, draw(st.booleans())) for layer in model.layers)
        status = outcome.model_status(layers, model.findings, fail_on, model.unread)
        models.append(replace(model, path=path, error=None, layers=layers, status=status))
    # A report that a program made, not the command line, does not say what was asked for.
    told = {"fail_on": Option(fail_on, "command line"), "layer": Option([draw(TEXT)], "default")}
    options = draw(st.sampled_from([told, {}]))
    return outcome.report(
        command, models, options=options, allow_empty=draw(st.booleans()), running={"device": draw(TEXT)}
    )


def _settled(layer: LayerReport, command: str, verifiable: bool) -> LayerReport:
    """Return a layer whose status is what its comparisons and findings make it."""
    if command != "verify":
        return replace(layer, status=None, comparisons=(), explanation=None, reason="", known="")
    wrong = any(not one.agrees for one in layer.comparisons) or any(one.rule == "BN304" for one in layer.findings)
    if not verifiable or not layer.comparisons:
        return replace(layer, status=LayerStatus.UNVERIFIED)
    if wrong:
        return replace(layer, status=LayerStatus.MISMATCH, reason="")
    return replace(layer, status=LayerStatus.VERIFIED, reason="", known="")
