"""Many models at several pairs of processes: every one once, in order, and an error of the command ends them all."""

from __future__ import annotations

import threading
from typing import Self

import pytest

from bninspect.errors import UsageError
from bninspect.jobs.context import Surroundings
from bninspect.jobs.process_pairs import ProcessPair, attend
from bninspect.records import ModelReport, Status
from bninspect.settings import Settings

PATHS = [f"m{number}" for number in range(40)]


class Place(ProcessPair):
    """A pair that notes what it did; two models at a time would be an error."""

    def __init__(self) -> None:
        super().__init__(self.note, Settings(), Surroundings())
        self.served: list[str] = []
        self.opened = self.closed = 0
        self._busy = threading.Lock()

    def __enter__(self) -> Self:
        self.opened += 1
        return self

    def __exit__(self, *error: object) -> None:
        self.closed += 1

    def note(self, _pair: ProcessPair, path: str) -> tuple[ModelReport, ...]:
        assert self._busy.acquire(blocking=False)
        self.served.append(path)
        self._busy.release()
        if path == "bad":
            raise UsageError("wrong")
        return (ModelReport(path, None, 0, "", "", Status.PASS),)


@pytest.mark.parametrize("jobs", [1, 3])
def test_every_model_once_and_in_order(jobs: int) -> None:
    places, ended = [Place() for _ in range(jobs)], list[str]()
    for number, model in attend(PATHS, places):
        assert model.path == PATHS[number]
        ended.append(model.path)
    assert sorted(ended) == sorted(PATHS)
    assert {(place.opened, place.closed) for place in places} == {(1, 1)}
    assert sorted(path for place in places for path in place.served) == sorted(PATHS)


def test_wrong_usage_ends_the_command_and_closes_the_stations() -> None:
    place = Place()
    with pytest.raises(UsageError, match="wrong"):
        list(attend(["bad", *PATHS], [place]))
    assert place.served[0] == "bad"
    assert len(place.served) < len(PATHS)
    assert (place.opened, place.closed) == (1, 1)


def test_a_station_that_waits_is_left_by_closing_it() -> None:
    """As an interrupt does: the first model is at work, its process is ended, the others are given up."""
    at_work, given_up = threading.Event(), threading.Event()

    class Waiting(Place):
        def __exit__(self, *error: object) -> None:
            given_up.set()

        def note(self, pair: ProcessPair, path: str) -> tuple[ModelReport, ...]:
            if path == "m1":
                at_work.wait(30)
                raise UsageError("wrong")
            at_work.set()
            assert given_up.wait(30)
            return super().note(pair, path)

    with pytest.raises(UsageError):
        list(attend(["m0", "m1", "m2"], [Waiting(), Waiting()]))
    assert given_up.is_set()
