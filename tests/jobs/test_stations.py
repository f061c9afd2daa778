"""Many models at several stations: every one once, in order, and an error of the command ends them all."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bninspect.errors import UsageError
from bninspect.jobs.stations import Work, attend
from bninspect.records import ModelReport, Status

PATHS = [f"m{number}" for number in range(40)]


def report(path: str) -> ModelReport:
    return ModelReport(path, None, 0, "", "", Status.PASS)


class Place:
    """A station that notes what it did; two models at a time would be an error."""

    def __init__(self) -> None:
        self.opened = 0
        self.closed = 0
        self.served: list[list[str]] = []

    @contextmanager
    def station(self) -> Iterator[Work]:
        self.opened += 1
        served: list[str] = []
        self.served.append(served)
        busy = threading.Lock()

        def work(path: str) -> ModelReport:
            assert busy.acquire(blocking=False)
            served.append(path)
            busy.release()
            if path == "bad":
                raise UsageError("wrong")
            return report(path)

        try:
            yield work
        finally:
            self.closed += 1


@pytest.mark.parametrize("jobs", [1, 3])
def test_every_model_once_and_in_order(jobs: int) -> None:
    place, ended = Place(), list[str]()
    reports = attend(PATHS, place.station, jobs=jobs, ended=lambda model: ended.append(model.path))
    assert [model.path for model in reports] == PATHS
    assert sorted(ended) == sorted(PATHS)
    assert (place.opened, place.closed) == (jobs, jobs)
    assert sorted(path for served in place.served for path in served) == sorted(PATHS)


def test_no_more_stations_than_models() -> None:
    place = Place()
    attend(PATHS[:2], place.station, jobs=16, ended=lambda _: None)
    assert place.opened == 2


def test_wrong_usage_ends_the_command_and_closes_the_stations() -> None:
    place = Place()
    with pytest.raises(UsageError, match="wrong"):
        attend(["bad", *PATHS], place.station, jobs=1, ended=lambda _: None)
    assert place.served[0][0] == "bad"
    assert len(place.served[0]) < len(PATHS)
    assert (place.opened, place.closed) == (1, 1)


def test_a_station_that_waits_is_left_by_closing_it() -> None:
    """As an interrupt does: the first model is at work, its process is ended, the others are given up."""
    at_work, given_up = threading.Event(), threading.Event()

    @contextmanager
    def station() -> Iterator[Work]:
        def work(path: str) -> ModelReport:
            if path == "m1":
                at_work.wait(30)
                raise UsageError("wrong")
            at_work.set()
            assert given_up.wait(30)
            return report(path)

        try:
            yield work
        finally:
            given_up.set()

    with pytest.raises(UsageError):
        attend(["m0", "m1", "m2"], station, jobs=2, ended=lambda _: None)
    assert given_up.is_set()
