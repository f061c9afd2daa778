#!/usr/bin/env bash
# Step of action.yml: runs bninspect; shows its report in the log, as annotations and in the summary of the job.
set -euo pipefail

case "$ACTION_COMMAND" in
  verify | lint | inspect | drift | diff | merge) ;;
  *)
    echo "error: command is verify, lint, inspect, drift, diff or merge" >&2
    exit 2
    ;;
esac

bin="$ACTION_VENV/bin"
[[ -d "$bin" ]] || bin="$ACTION_VENV/Scripts" # Windows

# A folder for each step: nothing of an earlier one is shown again, and none replaces the reports of another.
mkdir -p "$RUNNER_TEMP/bninspect"
home=$(mktemp -d "$RUNNER_TEMP/bninspect/report-XXXXXX")

# One argument on each line: nothing in a line is split, expanded or evaluated.
models=() options=()
while IFS= read -r line; do [[ -z "$line" ]] || models+=("${line%$'\r'}"); done <<<"$ACTION_MODELS"
while IFS= read -r line; do [[ -z "$line" ]] || options+=("${line%$'\r'}"); done <<<"$ACTION_OPTIONS"

# `diff` prints one answer, and has no reports.
outputs=()
[[ "$ACTION_COMMAND" == diff ]] || outputs=(
  --output "github=$home/annotations.txt" --output "markdown=$home/summary.md" --output "json=$home/report.json"
  --output "html=$home/report.html" --output "junit=$home/report.xml" --output "sarif=$home/report.sarif"
  --output "intoto=$home/report.intoto.json"
)

# The annotations go to a file first: what else is said must not be taken for commands of the workflow, and a name of
# a file can look like one. A word that nobody can guess ends the silence.
word="bninspect-$RANDOM$RANDOM$RANDOM$RANDOM"
echo "::stop-commands::$word"
code=0
"$bin/bninspect" "$ACTION_COMMAND" ${options[@]+"${options[@]}"} --format text \
  ${outputs[@]+"${outputs[@]}"} -- ${models[@]+"${models[@]}"} || code=$?
echo "::$word::"

# There are no reports where the options were wrong.
[[ ! -f "$home/annotations.txt" ]] || cat "$home/annotations.txt"
[[ ! -f "$home/summary.md" ]] || cat "$home/summary.md" >>"$GITHUB_STEP_SUMMARY"
{
  echo "exit-code=$code"
  echo "folder=$home"
} >>"$GITHUB_OUTPUT"
# An output names a report only if it is there.
for pair in json=report.json html=report.html junit=report.xml sarif=report.sarif intoto=report.intoto.json; do
  path="$home/${pair#*=}"
  [[ ! -f "$path" ]] || echo "${pair%%=*}=$path" >>"$GITHUB_OUTPUT"
done
exit "$code"
