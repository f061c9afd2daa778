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

# The same request in one job finds its environment made; another one gets another.
key=$(printf '%s|%s' "$what" "$ACTION_PYTHON" | cksum | cut -d' ' -f1)
venv="$RUNNER_TEMP/bninspect/venv-$key"
bin="$venv/bin"
if [[ ! -e "$venv/complete" ]]; then
  "$ACTION_PYTHON" -m venv "$venv"
  [[ -d "$bin" ]] || bin="$venv/Scripts" # Windows
  # The versions with which the tests of this release ran. pip's cache makes a second job quick.
  "$bin/python" -m pip install --quiet --disable-pip-version-check \
    --constraint "$GITHUB_ACTION_PATH/constraints.txt" "$what"
  touch "$venv/complete"
fi
[[ -d "$bin" ]] || bin="$venv/Scripts"
"$bin/bninspect" --version
echo "venv=$venv" >>"$GITHUB_OUTPUT"
