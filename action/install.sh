#!/usr/bin/env bash
# Step of action.yml: installs bninspect into a virtual environment of its own, so that the job's Python stays as it is.
set -euo pipefail

fail() {
  echo "error: $1" >&2
  exit 2
}

[[ "$ACTION_EXTRAS" =~ ^[a-z0-9,-]*$ ]] || fail "extras are names joined by commas"
[[ "$ACTION_VERSION" =~ ^[0-9A-Za-z.+!]*$ ]] || fail "version is a version number, such as 0.1.0"

extras=${ACTION_EXTRAS:+"[$ACTION_EXTRAS]"}
if [[ -n "$ACTION_VERSION" ]]; then
  what="bninspect$extras==$ACTION_VERSION"
else
  what="$GITHUB_ACTION_PATH$extras"
fi

home="$RUNNER_TEMP/bninspect"
"$ACTION_PYTHON" -m venv "$home/venv"
bin="$home/venv/bin"
[[ -d "$bin" ]] || bin="$home/venv/Scripts" # Windows
"$bin/python" -m pip install --quiet --disable-pip-version-check "$what"
"$bin/bninspect" --version
