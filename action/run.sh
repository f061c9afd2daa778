#!/usr/bin/env bash
# Step of action.yml: runs bninspect; shows its report in the log, as annotations and in the summary of the job.
set -euo pipefail

case "$ACTION_COMMAND" in
  verify | lint | inspect) ;;
  *)
    echo "error: command is verify, lint or inspect" >&2
    exit 2
    ;;
esac

home="$RUNNER_TEMP/bninspect"
bin="$home/venv/bin"
[[ -d "$bin" ]] || bin="$home/venv/Scripts" # Windows

# What an earlier step has left here is not the result of this one.
rm -f "$home"/annotations.txt "$home"/summary.md "$home"/report.*

# One argument on each line: nothing in a line is split, expanded or evaluated.
models=() options=()
while IFS= read -r line; do [[ -z "$line" ]] || models+=("${line%$'\r'}"); done <<<"$ACTION_MODELS"
while IFS= read -r line; do [[ -z "$line" ]] || options+=("${line%$'\r'}"); done <<<"$ACTION_OPTIONS"

# The annotations go to a file first: what else is said must not be taken for commands of the workflow, and a name of
# a file can look like one. A word that nobody can guess ends the silence.
word="bninspect-$RANDOM$RANDOM$RANDOM$RANDOM"
echo "::stop-commands::$word"
code=0
"$bin/bninspect" "$ACTION_COMMAND" ${options[@]+"${options[@]}"} --format text \
  --output "github=$home/annotations.txt" --output "markdown=$home/summary.md" --output "json=$home/report.json" \
  --output "html=$home/report.html" --output "junit=$home/report.xml" -- ${models[@]+"${models[@]}"} || code=$?
echo "::$word::"

# There are no reports where the options were wrong.
[[ ! -f "$home/annotations.txt" ]] || cat "$home/annotations.txt"
[[ ! -f "$home/summary.md" ]] || cat "$home/summary.md" >>"$GITHUB_STEP_SUMMARY"
{
  echo "exit-code=$code"
  echo "json=$home/report.json"
  echo "html=$home/report.html"
  echo "junit=$home/report.xml"
} >>"$GITHUB_OUTPUT"
exit "$code"
