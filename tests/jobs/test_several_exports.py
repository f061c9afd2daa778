"""One model against several exports: it is run once, each has a verdict of its own, and one table has all of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from helpers.exports import randomise, save

from bninspect import formats
from bninspect.equivalence import source, task
from bninspect.errors import UsageError
from bninspect.jobs import baseline, pipeline, shards
from bninspect.records import Report, Status, outcome
from bninspect.reports import exports_table, html, json_document, junit, markdown, sarif
from bninspect.settings import Settings

keras = pytest.importorskip("keras", reason="keras is not installed: pip install 'bninspect[tensorflow]'")


def built() -> Any:
    layers = keras.layers
    inputs = layers.Input((6, 6, 3))
    x = layers.BatchNormalization(name="bn1")(layers.Conv2D(4, 3, name="conv1")(inputs))
    x = layers.BatchNormalization(name="bn2")(layers.Conv2D(4, 3, name="conv2")(layers.ReLU()(x)))
    return randomise(keras.Model(inputs, layers.GlobalAveragePooling2D()(x)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model, and one in it with a right export, a wrong one and a damaged one."""
    place = tmp_path_factory.mktemp("several")
    (place / "exports").mkdir()
    model = built()
    save(model, place / "m.keras")
    save(model, place / "exports" / "right.h5")
    norm = model.get_layer("bn2")
    gamma, *others = norm.get_weights()
    norm.set_weights([gamma * 1.5, *others])
    save(model, place / "exports" / "wrong.keras")
    (place / "exports" / "damaged.tflite").write_bytes(b"\x20\0\0\0TFL3" + bytes(8))
    return place


@pytest.fixture(scope="module")
def report(folder: Path) -> Report:
    return pipeline.verify(str(folder / "m.keras"), Settings(against=(str(folder / "exports"),)))


def test_each_export_of_a_folder_has_a_verdict_of_its_own(folder: Path, report: Report) -> None:
    found = {Path(one.against.path).name: one.status for one in report.models if one.against is not None}
    assert found == {"right.h5": Status.PASS, "wrong.keras": Status.FAIL, "damaged.tflite": Status.ERROR}
    assert {one.path for one in report.models} == {str(folder / "m.keras")}
    assert report.summary.exit_code == 3  # the worst of them: one could not be read


def test_one_table_has_the_exports_by_layers(report: Report) -> None:
    (table,) = exports_table.tables(report)
    marks = dict(table.rows)
    wrong = [Path(path).name for path in table.exports].index("wrong.keras")
    right = [Path(path).name for path in table.exports].index("right.h5")
    assert (marks["bn1"][right], marks["bn2"][right]) == ("ok", "ok")
    assert (marks["bn1"][wrong], marks["bn2"][wrong]) == ("ok", "FAIL")
    for text in (markdown.render(report), html.render(report)):
        assert all(Path(path).name in text for path in table.exports)
    assert "m.keras against " in junit.render(report)


def test_the_model_is_run_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[str] = []
    once = source.observed

    def counted(checkpoint: Any, *others: Any) -> Any:
        runs.append(checkpoint.path)
        return once(checkpoint, *others)

    monkeypatch.setattr(source, "observed", counted)
    exports = [formats.read(folder / "exports" / name) for name in ("right.h5", "wrong.keras")]
    found = task.compare_each(formats.read(folder / "m.keras"), exports, Settings())
    assert [one.status for one in (found.model, *found.others)] == [Status.PASS, Status.FAIL]
    assert len(runs) == 1


def test_a_baseline_tells_exports_apart(report: Report) -> None:
    """The wrong export is no worse than it was; the right one must not be excused by the report on the wrong one."""
    for model in report.models:
        if model.against is not None and not model.error:
            earlier = baseline.counterpart(model, report.models)
            assert earlier is not None
            assert earlier.place == model.place


def places(report: Report) -> list[tuple[str, str]]:
    """Return model and export of each row, by their names."""
    return sorted((Path(one.path).name, Path(one.place[1]).name) for one in report.models)


ROWS = [("m.keras", name) for name in ("damaged.tflite", "right.h5", "wrong.keras")]


def test_every_report_has_one_row_for_each_export(report: Report) -> None:
    assert places(json_document.parse(json_document.render(report))) == ROWS
    assert places(json_document.parse_lines(json_document.render_lines(report))) == ROWS
    suites = [suite.get("name", "") for suite in ET.fromstring(junit.render(report)).iter("testsuite")]
    assert all(sum(name in suite for suite in suites) == 1 for _, name in ROWS)
    results = json.loads(sarif.render(report))["runs"][0]["results"]
    wrong = [one["message"]["text"] for one in results if one["level"] == "error"]
    told = {name: [one for one in wrong if name in one] for _, name in ROWS}
    assert (bool(told["wrong.keras"]), bool(told["damaged.tflite"]), told["right.h5"]) == (True, True, [])
    # Code scanning makes one alert of results of one fingerprint.
    prints = [one["partialFingerprints"]["modelLayerRule/v1"] for one in results]
    assert len(set(prints)) == len(results)


def test_reports_on_one_export_each_are_merged_to_one_table(report: Report) -> None:
    alone = [
        (one.place[1], outcome.report("verify", [one], options={}, allow_empty=False, running={}))
        for one in report.models
    ]
    merged = shards.merge(alone)
    assert places(merged) == ROWS
    assert merged.summary == report.summary
    with pytest.raises(UsageError, match=r"m\.keras"):
        shards.merge([*alone, alone[0]])
