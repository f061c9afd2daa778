"""The hooks of other tools: the GitHub action, run as a runner runs its scripts, and the hook for pre-commit."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
ACTION: dict[str, Any] = yaml.safe_load((REPOSITORY / "action.yml").read_text())
(HOOK,) = yaml.safe_load((REPOSITORY / ".pre-commit-hooks.yaml").read_text())


def test_no_script_holds_an_expression() -> None:
    for step in ACTION["runs"]["steps"]:
        assert "${{" not in step["run"]
        assert step["shell"] == "bash"
    for script in (REPOSITORY / "action").glob("*.sh"):
        assert "${{" not in script.read_text()
        assert os.access(script, os.X_OK)


def test_every_input_reaches_the_scripts_and_nothing_else_does() -> None:
    given = [value for step in ACTION["runs"]["steps"] for value in step["env"].values()]
    made = "${{ steps.install.outputs.venv }}"
    assert sorted(given) == sorted([made, *(f"${{{{ inputs.{name} }}}}" for name in ACTION["inputs"])])
    scripts = "".join(script.read_text() for script in (REPOSITORY / "action").glob("*.sh"))
    for step in ACTION["runs"]["steps"]:
        assert all(re.search(rf"\$\{{?{name}\b", scripts) for name in step["env"])


def test_outputs_are_those_that_the_script_writes() -> None:
    script = (REPOSITORY / "action" / "run.sh").read_text()
    for name, output in ACTION["outputs"].items():
        assert output["value"] == f"${{{{ steps.run.outputs.{name} }}}}"
        assert f'echo "{name}=' in script or re.search(rf"\b{name}=report\.", script)


@pytest.fixture
def runner(tmp_path: Path) -> dict[str, str]:
    """The environment of a runner, with bninspect installed."""
    bin_folder = tmp_path / "temp" / "venv" / "bin"
    bin_folder.mkdir(parents=True)
    command = bin_folder / "bninspect"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P -m bninspect "$@"\n')
    command.chmod(0o755)
    return {
        **os.environ,
        "RUNNER_TEMP": str(tmp_path / "temp"),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "ACTION_VENV": str(bin_folder.parent),
        "ACTION_COMMAND": "lint",
        "ACTION_MODELS": "",
        "ACTION_OPTIONS": "",
    }


def _run(environment: dict[str, str], folder: Path, script: str = "run.sh") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [REPOSITORY / "action" / script], env=environment, cwd=folder, capture_output=True, text=True, check=False
    )


def test_a_failing_model_fails_the_job_with_annotation_summary_and_reports(
    runner: dict[str, str], sample_models: Path, tmp_path: Path
) -> None:
    runner["ACTION_MODELS"] = "keras2_digits.h5\nbroken_*variance.h5\n"
    done = _run(runner, sample_models)
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    silenced = re.fullmatch(r"::stop-commands::(\S+)", lines[0])
    assert silenced is not None
    end = lines.index(f"::{silenced[1]}::")
    assert any(line.startswith("error   BN102 batch_normalization_1: ") for line in lines[1:end])
    annotated = [line for line in lines[end + 1 :] if line.startswith("::error ")]
    assert {re.search(r"file=([^,:]*)", line)[1] for line in annotated} == {  # type: ignore[index]
        "broken_negative_variance.h5",
        "broken_slightly_negative_variance.h5",
    }
    assert "broken_negative_variance.h5" in (tmp_path / "summary.md").read_text()
    outputs = dict(line.split("=", 1) for line in (tmp_path / "output").read_text().splitlines())
    assert outputs.keys() == set(ACTION["outputs"])
    assert outputs.pop("exit-code") == "1"
    assert Path(outputs.pop("folder")).is_dir()
    assert all(Path(path).stat().st_size > 1000 for path in outputs.values())


def test_two_steps_of_a_job_keep_their_reports_apart(
    runner: dict[str, str], sample_models: Path, tmp_path: Path
) -> None:
    for name in ("broken_nan.h5", "keras2_digits.h5"):
        _run({**runner, "ACTION_MODELS": name}, sample_models)
    found = [line.partition("=")[2] for line in (tmp_path / "output").read_text().splitlines() if "json=" in line[:5]]
    assert [json.loads(Path(path).read_text())["models"][0]["path"] for path in found] == [
        "broken_nan.h5",
        "keras2_digits.h5",
    ]


def test_reports_of_steps_can_be_merged_and_models_compared(
    runner: dict[str, str], sample_models: Path, tmp_path: Path
) -> None:
    for name in ("broken_nan.h5", "keras2_digits.h5"):
        _run({**runner, "ACTION_MODELS": name}, sample_models)
    lines = (tmp_path / "output").read_text().splitlines()
    reports = "\n".join(line.removeprefix("json=") for line in lines if line.startswith("json="))
    merged = _run({**runner, "ACTION_COMMAND": "merge", "ACTION_MODELS": reports}, sample_models)
    assert merged.returncode == 1, merged.stderr
    both = "keras2_digits.h5\nkeras2_digits.keras"
    compared = _run({**runner, "ACTION_COMMAND": "diff", "ACTION_MODELS": both}, sample_models)
    assert compared.returncode == 0, compared.stderr


def test_reports_of_an_earlier_step_are_not_shown_again(
    runner: dict[str, str], sample_models: Path, tmp_path: Path
) -> None:
    _run({**runner, "ACTION_MODELS": "broken_nan.h5"}, sample_models)
    before = (tmp_path / "summary.md").read_text()
    assert "FAIL" in before
    done = _run({**runner, "ACTION_MODELS": "broken_nan.h5", "ACTION_OPTIONS": "--no-such-option"}, sample_models)
    assert done.returncode == 2
    assert "::error" not in done.stdout
    assert (tmp_path / "summary.md").read_text() == before


def test_values_are_never_split_expanded_or_run(runner: dict[str, str], sample_models: Path, tmp_path: Path) -> None:
    named = tmp_path / "a b $(touch hacked); `touch hacked`"
    named.write_bytes((sample_models / "keras2_digits.h5").read_bytes())
    runner["ACTION_MODELS"] = f"\n{named.name}\r\n"
    runner["ACTION_OPTIONS"] = "--layer\nno such*\n--exclude-layer\n*_1 $(touch hacked)"
    done = _run(runner, tmp_path)
    assert done.returncode == 2
    assert "why: --layer no such* --exclude-layer *_1 $(touch hacked)" in done.stderr
    runner["ACTION_OPTIONS"] = ""
    assert _run(runner, tmp_path).returncode == 0
    assert not (tmp_path / "hacked").exists()


def test_a_name_that_looks_like_a_command_of_the_workflow_stays_a_name(
    runner: dict[str, str], sample_models: Path, tmp_path: Path
) -> None:
    name = "::add-mask::x.h5"
    (tmp_path / name).write_bytes((sample_models / "broken_nan.h5").read_bytes())
    runner["ACTION_MODELS"] = name
    lines = _run(runner, tmp_path).stdout.splitlines()
    end = lines.index(lines[0].replace("::stop-commands::", "::") + "::")
    assert not any(line.lstrip().startswith("::add-mask") for line in lines[end:])


def test_models_are_no_options(runner: dict[str, str], sample_models: Path) -> None:
    runner["ACTION_MODELS"] = "--allow-empty"
    done = _run(runner, sample_models)
    assert done.returncode in (2, 3)
    assert "--allow-empty" in done.stderr + done.stdout


@pytest.mark.parametrize("command", ["export", "verify; touch hacked", ""])
def test_only_commands_that_report_are_run(command: str, runner: dict[str, str], tmp_path: Path) -> None:
    done = _run({**runner, "ACTION_COMMAND": command}, tmp_path)
    assert (done.returncode, done.stderr) == (2, "error: command is verify, lint, inspect, drift, diff or merge\n")


@pytest.mark.parametrize(
    ("version", "extras", "what"),
    [
        ("", "tensorflow", "{action}[tensorflow]"),
        ("", "", "{action}"),
        ("0.1.0", "onnx,torch", "bninspect[onnx,torch]==0.1.0"),
    ],
)
def test_it_is_installed_from_the_checkout_or_by_its_version(
    version: str, extras: str, what: str, runner: dict[str, str], tmp_path: Path
) -> None:
    # A Python that makes an environment in which every program notes how it was called.
    python = tmp_path / "python"
    python.write_text(
        "#!/bin/sh\n"
        'mkdir -p "$3/bin" && for one in python bninspect; do\n'
        f"""  printf '#!/bin/sh\\necho "$@" >> {tmp_path}/called\\n' > "$3/bin/$one"; chmod +x "$3/bin/$one"\n"""
        "done\n"
    )
    python.chmod(0o755)
    given = {"ACTION_VERSION": version, "ACTION_EXTRAS": extras, "ACTION_PYTHON": str(python)}
    for _ in range(2):
        done = _run({**runner, **given, "GITHUB_ACTION_PATH": "/the action"}, tmp_path, "install.sh")
        assert done.returncode == 0, done.stderr
    installed, *shown = (tmp_path / "called").read_text().splitlines()
    pinned = "--constraint /the action/constraints.txt"
    wanted = f"install --quiet --disable-pip-version-check {pinned} {what.format(action='/the action')}"
    assert installed.endswith(wanted)
    assert shown == ["--version", "--version"]  # the second step of a job finds the environment made
    made = {line for line in (tmp_path / "output").read_text().splitlines() if line.startswith("venv=")}
    assert len(made) == 1


@pytest.mark.parametrize(("name", "value"), [("ACTION_VERSION", "1 --index-url=x"), ("ACTION_EXTRAS", "a] @ x")])
def test_what_is_no_version_and_no_extra_is_refused(
    name: str, value: str, runner: dict[str, str], tmp_path: Path
) -> None:
    given = {"ACTION_VERSION": "", "ACTION_EXTRAS": "", "ACTION_PYTHON": "false", name: value}
    done = _run({**runner, **given}, tmp_path, "install.sh")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")


def test_the_extras_that_the_action_installs_exist() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert set(ACTION["inputs"]["extras"]["default"].split(",")) <= set(project["optional-dependencies"])


def test_the_hook_judges_the_files_that_it_is_given(sample_models: Path) -> None:
    names = sorted(path.name for path in sample_models.iterdir() if re.search(HOOK["files"], path.name))
    assert "broken_nan.h5" in names
    assert not any(name.endswith((".py", ".md", ".json")) for name in names)
    program, *arguments = shlex.split(HOOK["entry"])
    assert program == "bninspect"

    def judge(*files: str) -> int:
        call = [sys.executable, "-P", "-m", program, *arguments, *HOOK["args"], *files]
        return subprocess.run(call, cwd=sample_models, capture_output=True, check=False).returncode

    assert judge("broken_nan.h5") == 1
    assert judge("broken_truncated.h5") == 3
    assert judge(*(name for name in names if not name.startswith("broken"))) == 0
    assert judge("keras3_without_batch_norm.keras") == 0
