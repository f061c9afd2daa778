"""Many models from the command line: named, listed, searched, shared out, resumed, and judged by a baseline."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from helpers.marked import marked, wait_for_the_end
from helpers.running import LISTENING, after

from bninspect.cli import run
from bninspect.reports import json_document

COPIES = 6


@pytest.fixture
def models(tmp_path: Path, sample_models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder `models` with good models and a bad one, in the folder where the command runs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    for number in range(COPIES):
        shutil.copy(sample_models / "keras3_digits.h5", tmp_path / "models" / f"good{number}.h5")
    shutil.copy(sample_models / "broken_nan.h5", tmp_path / "models" / "nan.h5")
    return tmp_path / "models"


def lint(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = run(["lint", "--json", *arguments])
    said = capfd.readouterr()
    assert said.out, said.err
    return code, json.loads(said.out)


def paths(document: dict[str, Any]) -> list[str]:
    return [model["path"] for model in document["models"]]


EVERY = [f"models/good{number}.h5" for number in range(COPIES)] + ["models/nan.h5"]


@pytest.mark.parametrize("jobs", ["1", "3"])
@pytest.mark.parametrize("argument", ["models", "./models/", "models/*.h5", "."])
def test_folders_and_patterns_give_every_model_in_order(
    argument: str, jobs: str, models: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code, document = lint(capfd, argument, "-j", jobs)
    assert code == 1
    assert paths(document) == EVERY
    assert document["summary"]["models"] == COPIES + 1


def test_nothing_found_is_nothing_to_check(models: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (models.parent / "empty").mkdir()
    for argument in ("empty", "*.onnx"):
        code, document = lint(capfd, argument)
        assert (code, document["models"][0]["error"]["kind"]) == (5, "NothingToCheck")
        assert lint(capfd, argument, "--allow-empty")[0] == 0
    assert lint(capfd, "models/good1.h5", "empty")[0] == 5


def test_lists_of_names(models: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    Path("list").write_text("models/good1.h5\r\n\nmodels/gone.h5\nmodels/good0.h5")
    code, document = lint(capfd, "models/nan.h5", "--files-from", "list")
    assert paths(document) == ["models/nan.h5", "models/good1.h5", "models/gone.h5", "models/good0.h5"]
    assert (code, document["models"][2]["error"]["kind"]) == (3, "UnreadableFile")
    shutil.copy(models / "good0.h5", models / "line\nend.h5")
    Path("list0").write_bytes(b"models/line\nend.h5\0models/good0.h5\0")
    assert paths(lint(capfd, "-0", "--files-from", "list0")[1]) == ["models/line\nend.h5", "models/good0.h5"]


def test_a_list_from_standard_input(models: Path) -> None:
    command = [sys.executable, "-P", "-m", "bninspect", "lint", "--files-from", "-", "-q"]
    done = subprocess.run(command, input="models/good0.h5\n", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "Missing argument"),
        (["-0", "models"], "--files-from"),
        (["--files-from", "none"], "does not exist"),
        (["--files-from", "list0"], "add -0"),
        (["--shard", "0/2", "models"], "not part"),
        (["--shard", "3/2", "models"], "not part"),
        (["--shard", "1-2", "models"], "not part"),
        (["--jobs", "0", "models"], "--jobs"),
        (["--baseline", "list0", "models"], "not a report of bninspect"),
        (["--resume", "models/nan.h5", "models"], "resume"),
        (["--resume", "x.json", "-o", "json=x.json", "models"], "the same file"),
    ],
)
def test_wrong_usage(arguments: list[str], says: str, models: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Path("list0").write_bytes(b"a\0b\0")
    before = (models / "nan.h5").read_bytes()
    assert run(["lint", *arguments]) == 2
    said = capfd.readouterr()
    assert (said.out, says in said.err) == ("", True), said.err
    assert (models / "nan.h5").read_bytes() == before


def test_parts_and_merge_end_as_one_run(models: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, whole = lint(capfd, "models")
    files = [f"part{index}.json{'l' * (index % 2)}" for index in range(1, 4)]
    for index, file in enumerate(files, 1):
        kind = file.partition(".")[2]
        assert run(["lint", "models", "-q", "--shard", f"{index}/3", "-o", f"{kind}={file}"]) in (0, 1)
    capfd.readouterr()
    assert run(["merge", *reversed(files), "--json", "-o", "junit=all.xml"]) == code == 1
    merged = json.loads(capfd.readouterr().out)
    assert paths(merged) == paths(whole)
    assert (merged["summary"], merged["shard"], merged["command"]) == (whole["summary"], None, "lint")
    assert Path("all.xml").read_text().count("<testsuite ") == COPIES + 1
    assert run(["merge", files[0], files[2]]) == 2
    assert "1 of 3 parts missing: 2" in capfd.readouterr().err


def test_a_part_without_models_says_so_and_an_empty_list_is_nothing_to_check(
    models: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    codes = [run(["lint", "models/good0.h5", "--shard", f"{index}/2"]) for index in (1, 2)]
    assert codes == [0, 0]
    assert "of 2 has none of the 1 model\n" in capfd.readouterr().out
    Path("none").touch()
    assert run(["lint", "--files-from", "none"]) == 5
    assert capfd.readouterr().out == "EMPTY no model was named\n"


def test_a_pattern_for_layers_is_judged_over_all_parts(models: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for index in (1, 2):
        assert run(
            ["lint", "models/nan.h5", "--layer", "nothing*", "--shard", f"{index}/2", "-o", f"json=p{index}"]
        ) in (
            0,
            5,
        )
    assert run(["merge", "p1", "p2"]) == 5
    assert run(["lint", "models/nan.h5", "--layer", "nothing*"]) == 2


def test_lines_are_printed_as_models_end(models: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["lint", "models", "-f", "jsonl", "-j", "2"]) == 1
    text = capfd.readouterr().out
    assert sorted(model.path for model in json_document.models_in_lines(text)) == EVERY
    report = json_document.parse_lines(text)
    assert (report.summary.models, report.summary.exit_code) == (COPIES + 1, 1)


def test_an_interrupted_run_is_resumed(models: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = json_document.parse_lines(_linted(capfd, "models"))
    cut = (
        json_document.first_line(before)
        + "".join(json_document.model_line(model) for model in before.models[:4])
        + '{"model": {"pa'
    )
    Path("r.jsonl").write_text(cut)
    assert run(["lint", "models", "-q", "--resume", "r.jsonl"]) == 1
    after = json_document.parse_lines(Path("r.jsonl").read_text())
    assert [model.path for model in after.models] == EVERY
    assert after.summary == before.summary


def _linted(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    run(["lint", "-f", "jsonl", *arguments])
    return capfd.readouterr().out


def test_a_run_with_other_options_does_not_touch_what_is_there(models: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["lint", "models", "-q", "--resume", "r.jsonl"]) == 1
    before = Path("r.jsonl").read_bytes()
    capfd.readouterr()
    assert run(["lint", "models", "-q", "--resume", "r.jsonl", "--ignore", "BN101"]) == 2
    assert 'its option ignore is [], now it is ["BN101"]' in capfd.readouterr().err
    assert Path("r.jsonl").read_bytes() == before


def test_a_baseline_excuses_what_was_and_nothing_else(models: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["lint", "models", "--write-baseline", "b.json"]) == 0
    said = capfd.readouterr()
    assert said.err == "wrote the baseline b.json\n"
    code, document = lint(capfd, "models", "--baseline", "b.json")
    assert (code, document["options"]["baseline_sha256"]["source"]) == (0, "--baseline")
    shutil.copy(models / "nan.h5", models / "good1.h5")
    code, document = lint(capfd, "models", "--baseline", "b.json")
    assert code == 1
    assert [model["path"] for model in document["models"] if model["status"] == "fail"] == ["models/good1.h5"]


def test_a_baseline_misses_a_model_that_is_gone_where_it_was_looked_for(
    models: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["lint", "models", "--write-baseline", "b.json"]) == 0
    (models / "good3.h5").unlink()
    capfd.readouterr()
    code, document = lint(capfd, "models", "--baseline", "b.json")
    assert code == 3
    assert [model["path"] for model in document["models"] if model["error"]] == ["models/good3.h5"]
    assert lint(capfd, "models/good1.h5", "--baseline", "b.json")[0] == 0


def test_a_baseline_that_cannot_be_written_is_an_error_and_the_report_is_there_all_the_same(
    models: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = (models / "nan.h5").read_bytes()
    for place in ("no/folder.json", "models/nan.h5"):
        assert run(["lint", "models", "--write-baseline", place, "-o", "json=r.json"]) == 3
        assert f"cannot write '{place}'" in capfd.readouterr().err
        assert json.loads(Path("r.json").read_text())["summary"]["exit_code"] == 1
    assert (models / "nan.h5").read_bytes() == before


def test_a_report_of_another_command_is_no_baseline(models: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", "models", "-o", "json=i.json"]) == 1
    assert run(["lint", "models", "--baseline", "i.json"]) == 2
    assert "`bninspect inspect` wrote it" in capfd.readouterr().err


@pytest.mark.parametrize("kind", ["jsonl", "json"])
def test_no_report_replaces_a_model_that_a_folder_holds(
    kind: str, models: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = (models / "good1.h5").read_bytes()
    assert run(["lint", "models", "-o", f"{kind}=models/good1.h5"]) == 3
    assert (models / "good1.h5").read_bytes() == before
    assert "it is the file that is being read" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("output", "hint"),
    [
        (("-o", "jsonl=r.jsonl"), ""),
        (("--resume", "r.jsonl"), "\n  hint: the same command goes on where this one ended"),
    ],
)
def test_an_interrupt_with_several_jobs_leaves_no_process_and_no_traceback(
    models: Path, output: tuple[str, str], hint: str
) -> None:
    for number in range(60):
        shutil.copy(models / "good0.h5", models / f"more{number}.h5")
    environment = marked()
    command = after(LISTENING, "lint", "models", "-j", "3", *output)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as running:
        while not Path("r.jsonl").exists() or Path("r.jsonl").read_text().count("\n") < 3:
            assert running.poll() is None
            time.sleep(0.02)
        running.send_signal(signal.SIGINT)
        _, said = running.communicate()
    assert (running.returncode, said.strip()) == (130, f"67 models were found\n\nerror: interrupted{hint}")
    wait_for_the_end(environment)
    assert json_document.models_in_lines(Path("r.jsonl").read_text())


def test_a_pattern_that_fits_no_layer_is_wrong_usage_though_another_fits(
    sample_models: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    two = [str(sample_models / name) for name in ("keras2_digits.h5", "keras3_digits.h5")]
    for command in ("lint", "inspect"):
        assert run([command, *two, "--layer", "batch_normalization", "--layer", "typo*"]) == 2
        assert "no layer fits --layer typo*" in capfd.readouterr().err
    assert run(["lint", *two, "--layer", "batch_normalization", "--layer", "batch_normalization_1"]) == 0
    assert run(["diff", *two, "--layer", "batch_normalization", "--layer", "typo*"]) == 2
    capfd.readouterr()


@pytest.mark.parametrize("command", ["lint", "inspect"])
def test_layers_that_were_left_out_are_said_and_by_what(
    command: str, sample_models: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = str(sample_models / "keras2_digits.h5")
    path = tmp_path / "gate.toml"
    path.write_text('exclude-layer = ["*_1", "*_3"]\n')
    assert run([command, model, "--config", str(path)]) == 0
    assert "2 left out by" in (said := capfd.readouterr().out)
    assert "gate.toml" in said
    assert run([command, model, "--layer", "*_1", "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert document["models"][0]["left_out"] == {"count": 3, "by": "--layer", "nearest": ""}
    assert run([command, model, "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["models"][0]["left_out"] is None
