"""The client of a Dask cluster: a task for each model, so many of them at a time, and their reports as they end."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import re
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from bninspect import errors
from bninspect.jobs import baseline
from bninspect.jobs.cluster import likeness, worker_side
from bninspect.jobs.context import Surroundings
from bninspect.jobs.process_pairs import Work
from bninspect.records import ModelReport, codec, outcome
from bninspect.safe_text import printable
from bninspect.settings import Settings
from bninspect.workers import tasks

CONNECT_SECONDS = 20.0
WAIT_SECONDS = 60.0
"""How long a cluster may be without any worker."""
AHEAD = 8
"""Models that are handed out for each thread of the workers: the next one is there when one ends."""
_LOOK_SECONDS = 1.0
_HISTORY = {
    "distributed.admin.low-level-log-length": 10,
    "distributed.diagnostics.computations.max-history": 1,
    "distributed.diagnostics.erred-tasks.max-history": 1,
    "distributed.admin.system-monitor.log-length": 10,
}
"""What Dask in this process, with `local:N` also its scheduler, remembers of tasks and loads: nobody asks for it."""
_LOCAL = re.compile(r"local:([1-9]\d{0,3})")


class Cluster:
    """A connection to a Dask cluster on which models are worked on.

    Args:
        work: makes the report of one model.
        settings: what was asked for; `dask` says where the cluster is.
        around: who is told of what is going on, and what is known from before.
        ahead: a task for whose sake each worker imports a framework at once.
        runs: whether the work runs frameworks.
        environment: takes what the frameworks' processes say of theirs.
    """

    def __init__(
        self,
        work: Work,
        settings: Settings,
        around: Surroundings,
        ahead: tasks.Task[Any] | None,
        environment: dict[str, Any],
        *,
        runs: bool,
    ) -> None:
        self._around, self._settings, self._environment, self._runs = around, settings, environment, runs
        self._order = worker_side.Order(
            name=uuid.uuid4().hex,
            work=work,
            settings=settings,
            ahead=ahead,
            expected={},
            options=around.options,
            brief=around.brief,
            verbose=around.verbose,
            folder=os.getcwd(),  # noqa: PTH109
        )
        self._ended: SimpleQueue[Any] = SimpleQueue()
        self._pending: dict[Any, tuple[int, str]] = {}
        self._workers: dict[str, Any] = {}
        """By address, what the scheduler says of each worker."""
        self._looked = -math.inf

    def attend(self, paths: Sequence[str]) -> Iterator[tuple[int, ModelReport]]:
        """Yield the place of each model in `paths` and its report, as they end.

        Raises:
            MissingPackage: there is no Dask here.
            Unreachable: no scheduler or no worker answers.
            UnlikeWorker: the workers have other versions.
            UsageError: the work on a model raises it. Models that have not begun are then given up, as when this
                generator is closed.
        """
        with ExitStack() as opened:
            client = opened.enter_context(connect(str(self._settings.dask), verbose=self._around.verbose))
            self._look(client)
            self._order = replace(
                self._order,
                expected=likeness.require(_describe(client), runs=self._runs),
                settings=replace(self._settings, jobs=_most_on_a_host(self._workers.values()), dask=None),
            )
            opened.callback(self._give_up, client)
            waiting = iter(enumerate(paths))
            while self._fill(client, waiting) and (ended := self._next(client)):
                texts = _gather(client, ended)
                for future in ended:
                    number, path = self._pending.pop(future)
                    yield number, self._report(future, texts.get(future), path)
                    future.release()
            for number, path in [*self._pending.values(), *waiting]:
                yield number, outcome.broken(path, _no_worker())

    def _fill(self, client: Any, waiting: Iterator[tuple[int, str]]) -> bool:
        """Hand out models until enough are on their way; return whether any is."""
        self._look(client)
        places = max(1, sum(int(worker["nthreads"]) for worker in self._workers.values()))
        while len(self._pending) < AHEAD * places and (following := next(waiting, None)) is not None:
            number, path = following
            earlier = self._around.earlier.get(path)
            known = json.dumps(codec.encode(earlier)) if earlier else ""
            future = client.submit(
                worker_side.serve,
                self._order,
                path,
                known,
                self._around.urls.get(path),
                pure=False,
                key=f"bninspect-{uuid.uuid4().hex}",
            )
            self._pending[future] = (number, path)
            future.add_done_callback(self._ended.put)
        return bool(self._pending)

    def _next(self, client: Any) -> list[Any]:
        """Return the tasks that have ended, at least one; none if no worker is there any more."""
        alone_since: float | None = None
        while True:
            try:
                ended = [self._ended.get(timeout=_LOOK_SECONDS)]
            except Empty:
                self._look(client)
                if client.status == "running" and self._workers:
                    alone_since = None
                    continue
                alone_since = alone_since or time.monotonic()
                if time.monotonic() - alone_since < WAIT_SECONDS:
                    continue
                return []
            while not self._ended.empty():
                ended.append(self._ended.get())
            return ended

    def _look(self, client: Any) -> None:
        """Ask, once in a while, which workers there are, and say which are gone."""
        if client.status != "running" or time.monotonic() - self._looked < _LOOK_SECONDS:
            return
        here: dict[str, Any] = client.scheduler_info(n_workers=-1)["workers"]
        self._looked = time.monotonic()
        for address in self._workers.keys() - here.keys():
            self._around.complain(f"note: the Dask worker {printable(address)} is gone; its models are done again")
        self._workers = here

    def _report(self, future: Any, text: str | None, path: str) -> ModelReport:
        """Return the report of a model whose task has ended, however it did."""
        try:
            answer = json.loads(future.result(timeout=CONNECT_SECONDS) if text is None else text)
        except Exception as error:  # noqa: BLE001 - whatever becomes of a worker is an error of one model
            return outcome.broken(path, _lost(future, error))
        if "error" in answer:
            problem = answer["error"]
            raise errors.by_name(problem["kind"])(problem["what"], why=problem["why"], hint=problem["hint"])
        model = codec.decode(ModelReport, answer["model"])
        self._environment.update(answer["environment"])
        for line in answer["complaints"]:
            self._around.complain(str(line))
        known = self._around.baseline
        return baseline.judged(model, known, self._settings) if known else model

    def _give_up(self, client: Any) -> None:
        """Cancel what has not begun, and end the processes of this run on all workers."""
        with contextlib.suppress(Exception):
            client.cancel(list(self._pending), force=True)
        _everywhere(client, worker_side.release, self._order.name)


@contextlib.contextmanager
def connect(address: str, *, verbose: bool = False) -> Iterator[Any]:
    """Yield a Dask client of a scheduler, or of a cluster of our own for `local:N`, which ends with it.

    Raises as `Cluster.attend`.
    """
    try:
        import dask
        import distributed
    except ImportError as error:
        raise errors.MissingPackage(
            "--dask needs Dask, which is not installed", why=str(error), hint="pip install 'bninspect[dask]'"
        ) from error
    settings: dict[str, Any] = {"distributed.admin.tick.interval": "1s", **_HISTORY}
    if not verbose:
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        settings["logging"] = {"distributed": "critical"}
    with dask.config.set(settings), ExitStack() as opened:
        found = _LOCAL.fullmatch(address)
        try:
            where: Any = opened.enter_context(_local(int(found[1]), verbose=verbose)) if found else address
            file = {"scheduler_file": address} if os.path.isfile(address) else {"address": where}  # noqa: PTH113
            client = opened.enter_context(distributed.Client(**file, timeout=CONNECT_SECONDS, set_as_default=False))
            client.wait_for_workers(1, timeout=WAIT_SECONDS)
        except (OSError, ValueError, TimeoutError, RuntimeError, TypeError) as error:  # TypeError: no certificates
            raise errors.Unreachable(
                f"the Dask cluster at {printable(address)} does not answer",
                why=printable(f"{type(error).__name__}: {error}", 300),
                hint="start `dask scheduler` and `dask worker ADDRESS`, and name the address that the scheduler prints",
            ) from error
        yield client


def _local(workers: int, *, verbose: bool) -> Any:
    """Return a cluster on this machine. By certificates of its own: other users of the machine have no access."""
    from distributed import LocalCluster

    return LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        memory_limit=0,  # what needs memory are processes of ours, which have their own limits
        dashboard_address="127.0.0.1:0",  # any port that is free
        scheduler_kwargs={"dashboard": False},
        security=True,
        preload="bninspect.jobs.cluster.local_worker",
        silence_logs=logging.INFO if verbose else logging.CRITICAL,
    )


def _gather(client: Any, futures: Sequence[Any]) -> Mapping[Any, str]:
    """Return what tasks have given, by one request; none if one of them has failed, which its own request tells."""
    try:
        return dict(zip(futures, client.sync(client._gather, futures, callback_timeout=CONNECT_SECONDS), strict=True))  # noqa: SLF001 - `gather` knows no time limit
    except Exception:  # noqa: BLE001 - as in Cluster._report
        return {}


def _describe(client: Any) -> Mapping[str, Any]:
    found: dict[str, Any] = client.run(likeness.describe, on_error="return")
    return found


def _everywhere(client: Any, function: Callable[..., None], *arguments: Any) -> None:
    """Call a function on all workers that answer."""
    with contextlib.suppress(Exception):
        call = partial(client._run, function, *arguments, on_error="ignore")  # noqa: SLF001 - `run` knows no time limit
        client.sync(call, callback_timeout=CONNECT_SECONDS)


def _most_on_a_host(workers: Iterable[Mapping[str, Any]]) -> int:
    """Return how many models are worked on at a time on one machine: they share its memory."""
    hosts: Counter[str] = Counter()
    for worker in workers:
        hosts[worker["host"]] += int(worker["nthreads"])
    return max(hosts.values(), default=1)


def _lost(future: Any, error: BaseException) -> errors.WorkerDied:
    """Return what became of a model whose task gave no report."""
    if type(error).__name__ == "KilledWorker":
        return errors.WorkerDied(
            "the Dask worker died each time that it worked on this model",
            why="it was tried on several workers (distributed.scheduler.allowed-failures)",
            hint="look at the workers' logs: memory limits of the cluster end a worker like that",
        )
    if future.cancelled():
        return _no_worker()
    return errors.WorkerDied("the Dask worker gave no report", why=printable(f"{type(error).__name__}: {error}", 300))


def _no_worker() -> errors.WorkerDied:
    return errors.WorkerDied(
        "no worker of the Dask cluster is left",
        why="the cluster ended, or lost all of its workers, before this model was done",
        hint="start workers again; with --resume FILE the same command goes on where this one ended",
    )
