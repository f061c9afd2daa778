"""Many models on a cluster, and models behind a network: throughput, what a death costs, memory, and bytes read.

    python benchmarks/fleet.py speed 1000        # seconds of lint by --jobs 1 and by 1, 2 and 4 Dask workers
    python benchmarks/fleet.py verified 200      # the same of verify
    python benchmarks/fleet.py deaths 1000       # a worker killed, a model hanging, one that takes all memory; resumed
    python benchmarks/fleet.py simulated 10000   # the scheduler's own cost, with work that does nothing
    python benchmarks/fleet.py memory 100000     # of this process, when reports are only streamed
    python benchmarks/fleet.py bytes FILE...     # read of a file over HTTP with 30 ms delay, beside a whole download

Each prints one JSON object. Machines differ: compare the figures of one run.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

from fleet_models import write_models, write_runnable

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY / "tests"))

COMMAND = [sys.executable, "-P", "-m", "bninspect"]
DELAY = 0.03


def timed(*arguments: str, cwd: Path, **environment: str) -> tuple[float, subprocess.CompletedProcess[str]]:
    """Run a command. Return its seconds and what it printed."""
    start = time.monotonic()
    done = subprocess.run(
        [*COMMAND, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )
    return time.monotonic() - start, done


def speed(folder: Path, count: int, command: str = "lint") -> dict[str, Any]:
    """Return seconds of a command on different models, and the throughput as a ratio to --jobs 1, first and last."""
    write = write_models if command == "lint" else write_runnable
    endings = write(folder / "models", count)
    write(folder / "few", 3)  # one of each kind: every framework is imported
    ways = {"--jobs 1": ["--jobs", "1"]} | {f"local:{n}": ["--dask", f"local:{n}"] for n in (1, 2, 4)}
    ways["--jobs 1 again"] = ways["--jobs 1"]
    seconds, codes, start_up = {}, {}, {}
    for name, options in ways.items():
        start_up[name] = round(timed(command, "few", "-f", "jsonl", *options, cwd=folder)[0], 2)
        taken, done = timed(command, "models", "-f", "jsonl", *options, cwd=folder)
        seconds[name] = round(taken, 2)
        codes[name] = [done.returncode, done.stdout.count('{"model":')]
    net = {name: seconds[name] - start_up[name] for name in ways}
    alone = (net["--jobs 1"] + net["--jobs 1 again"]) / 2
    return {
        "command": command,
        "models": count,
        "of": endings,
        "processors": os.cpu_count(),
        "load": os.getloadavg(),
        "seconds": seconds,
        "seconds for three models": start_up,
        "throughput against --jobs 1": {name: round(alone / net[name], 2) for name in ways},
        "overhead of local:1 in ms per model": round(1000 * (net["local:1"] - alone) / count, 2),
        "exit code and reports": codes,
    }


def deaths(folder: Path, count: int) -> dict[str, Any]:
    """Return what a run ends with in which a worker is killed, a model hangs, and another takes all memory."""
    from helpers.dask_cluster import cluster

    (folder / "dask").mkdir()
    endings = write_runnable(folder / "models", count, {count // 3: "bn_hang", count // 2: "bn_devour"})
    environment = {"TAMPERED": "one_way", "TAMPER": "by-name", "PYTHONPATH": str(REPOSITORY / "tests/helpers/tampered")}
    options = ["--resume", "r.jsonl", "--timeout", "60", "--max-memory", "3GB", "--json"]
    result: dict[str, Any] = {"models": count, "of": endings}
    lines = folder / "r.jsonl"
    with cluster(folder / "dask", 2, **environment) as running:
        place = ["verify", "models", "--dask", str(running.file), *options]

        def kill() -> None:
            while not lines.exists() or lines.read_text().count("\n") < count // 4:
                time.sleep(0.1)
            os.kill(running.worker_pids()[0], signal.SIGKILL)
            result["killed after"] = lines.read_text().count("\n")

        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        for name in ("first", "resumed"):
            taken, done = timed(*place, cwd=folder, **environment)
            models = json.loads(done.stdout)["models"]
            result[name] = {
                "seconds": round(taken, 1),
                "exit code": done.returncode,
                "statuses": Counter(model["status"] for model in models),
                "each once": len({model["path"] for model in models}) == len(models) == count,
                "different": len({model["sha256"] for model in models}),
                "errors": {model["path"]: model["error"]["what"] for model in models if model["error"]},
                "said": done.stderr.splitlines(),
            }
    return result


def nothing(_: Any, path: str) -> Any:
    """Work that does nothing."""
    from bninspect.records import ModelReport, Status

    return (ModelReport(path, None, 0, "stub", "", Status.PASS),)


def resident() -> int:
    """Return the resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _stream(count: int, dask: str | None) -> dict[str, Any]:
    from bninspect.jobs import pipeline
    from bninspect.jobs.context import Surroundings
    from bninspect.reports import json_document
    from bninspect.settings import Settings

    held: dict[int, int] = {}
    number = 0
    with tempfile.TemporaryFile("w") as lines:

        def ended(model: Any) -> None:
            nonlocal number
            number += 1
            lines.write(json_document.model_line(model))
            if number in {count // 10, count // 2, count}:
                held[number] = resident() >> 20

        start = time.monotonic()
        paths = [f"m{place}.h5" for place in range(count)]
        around = Surroundings(ended=ended, kept=False)
        report = pipeline._report("inspect", nothing, paths, Settings(dask=dask), around)  # noqa: SLF001
    taken = time.monotonic() - start
    return {
        "models": report.summary.models,
        "seconds": round(taken, 1),
        "ms per model": round(1000 * taken / count, 2),
        "MB held after so many": held,
    }


def over_http(folder: Path, name: str) -> dict[str, Any]:
    """Return how much of a file is read by `inspect` over HTTP with a delay, and how long that takes."""
    from helpers.web_server import serve

    size = (folder / name).stat().st_size
    with serve(folder, delay=DELAY) as server:
        start = time.monotonic()
        with urllib.request.urlopen(f"{server.url}/{name}") as whole:
            while whole.read(1 << 20):
                pass
        download = time.monotonic() - start
    with serve(folder, delay=DELAY) as server:
        taken, done = timed("inspect", "--json", f"{server.url}/{name}", cwd=folder)
        counts = len(server.requests), server.sent, server.most_at_once
    here, same = timed("inspect", "--json", name, cwd=folder)
    layers = [json.loads(text.stdout)["models"][0]["layers"] for text in (done, same)]
    return {
        "file": name,
        "MB": round(size / 1e6, 1),
        "requests": counts[0],
        "percent of the bytes": round(100 * counts[1] / size, 2),
        "most at once": counts[2],
        "seconds": round(taken, 2),
        "seconds of a whole download": round(download, 2),
        "seconds of a local file": round(here, 2),
        "layers as of the local file": layers[0] == layers[1] and len(layers[0]),
    }


def main() -> int:
    """Measure what is named."""
    what, arguments = sys.argv[1], sys.argv[2:]
    with tempfile.TemporaryDirectory() as place:
        if what == "bytes":
            results = [over_http(Path(name).parent.resolve(), Path(name).name) for name in arguments]
        elif what in {"simulated", "memory"}:
            results = [_stream(int(arguments[0]), "local:2" if what == "simulated" else None)]
        else:
            count = int(arguments[0])
            results = [
                deaths(Path(place), count)
                if what == "deaths"
                else speed(Path(place), count, "lint" if what == "speed" else "verify")
            ]
    for result in results:
        print(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
