"""Reports joined: what one run would have said, or a refusal."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from helpers.made_reports import layer, model, paths, report, unverified

from bninspect.errors import UsageError
from bninspect.jobs import shards
from bninspect.records import LayerStatus, ModelReport, Report, Status
from bninspect.reports import json_document
from bninspect.settings import Part

GOOD, BAD = model("good.h5"), model("bad.h5", layer(ratio=9.0))


def parts(count: int, *models: ModelReport) -> list[tuple[str, Report]]:
    known = {one.path: one for one in models}
    cut = [shards.chosen(list(known), Part(index, count)) for index in range(1, count + 1)]
    return [(f"r{n}.json", report(*(known[p] for p in chosen), shard=shard)) for n, (chosen, shard) in enumerate(cut)]


def test_parts_give_the_report_of_a_single_run_whatever_their_order() -> None:
    models = [model(f"m{number}.h5") for number in range(7)]
    merged = shards.merge(parts(3, *models, BAD)[::-1])
    alone = report(*models, BAD)
    assert paths(merged.models) == paths(alone.models)
    assert (merged.summary, merged.shard, merged.environment) == (alone.summary, None, alone.environment)
    assert merged.summary.exit_code == 1
    assert json_document.parse(json_document.render(merged)) == merged


def test_an_edited_status_is_not_believed() -> None:
    for status in (Status.PASS, Status.EMPTY):
        merged = shards.merge([("a", report(GOOD, replace(BAD, status=status)))])
        assert (merged.models[1].status, merged.summary.exit_code) == (Status.FAIL, 1)
    edited = replace(BAD.layers[0], status=LayerStatus.VERIFIED, findings=())
    merged = shards.merge([("a", report(replace(BAD, status=Status.PASS, layers=(edited,))))])
    assert (merged.summary.mismatch, merged.summary.exit_code) == (1, 1)
    hidden = replace(GOOD, layers=(unverified(),))
    assert shards.merge([("a", report(hidden))]).summary.exit_code == 3
    worse = replace(GOOD, status=Status.ERROR)
    assert shards.merge([("a", report(worse))]).summary.exit_code == 3
    never = shards.merge([("a", report(replace(BAD, status=Status.PASS), fail_on="never"))])
    assert never.summary.exit_code == 0


def test_reports_of_separate_runs_are_joined_as_well() -> None:
    merged = shards.merge([("a", report(GOOD)), ("b", report(BAD))])
    assert paths(merged.models) == ["good.h5", "bad.h5"]
    assert merged.summary.exit_code == 1


def test_a_part_without_models_is_one_all_the_same() -> None:
    some = parts(3, GOOD, BAD)
    assert [one.summary.exit_code for _, one in some if not one.models] == [0]
    assert shards.merge(some).summary.models == 2


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_missing_part_is_refused(missing: int) -> None:
    some = parts(3, GOOD, BAD, model("other.h5"))
    del some[missing]
    with pytest.raises(UsageError, match=f"1 of 3 parts missing: {missing + 1}") as caught:
        shards.merge(some)
    assert f"--shard {missing + 1}/3" in caught.value.hint


def test_a_part_that_lacks_a_model_is_refused() -> None:
    (path, part), *others = parts(2, GOOD, BAD, model("other.h5"))
    part = replace(part, models=part.models[:-1])
    with pytest.raises(UsageError, match=f"{path} holds {len(part.models)} of its {len(part.models) + 1} models"):
        shards.merge([(path, part), *others])


def test_what_is_no_model_of_the_list_comes_last() -> None:
    (path, part), *others = parts(2, GOOD, BAD, model("other.h5"))
    part = replace(part, models=(*part.models, model("no such pattern")))
    assert paths(shards.merge([(path, part), *others]).models)[-1] == "no such pattern"


def test_a_part_that_is_there_twice_is_refused() -> None:
    some = parts(2, GOOD, BAD)
    with pytest.raises(UsageError, match="part 1 is there twice"):
        shards.merge([*some, some[0]])


def test_parts_of_different_lists_are_refused() -> None:
    one, other = parts(2, GOOD, BAD), parts(2, GOOD, model("other.h5"))
    with pytest.raises(UsageError, match="another list of models"):
        shards.merge([one[0], other[1]])
    with pytest.raises(UsageError, match="another list of models"):
        shards.merge([one[0], parts(3, GOOD, BAD)[1]])


def test_a_part_and_a_whole_do_not_go_together() -> None:
    one = parts(2, GOOD, BAD)
    for some in ([("w", report(GOOD)), *one], [*one, ("w", report(GOOD))]):
        with pytest.raises(UsageError, match="w is not a part"):
            shards.merge(some)


def test_a_model_in_two_reports_is_refused() -> None:
    with pytest.raises(UsageError, match=r"good\.h5 is in two"):
        shards.merge([("a", report(GOOD)), ("b", report(GOOD))])


@pytest.mark.parametrize("content", [{"sha256": "a" * 64}, {"sha256": None, "version": '"new"'}])
def test_a_model_that_has_changed_between_two_reports_is_said_to_have(content: dict[str, Any]) -> None:
    """Of a file read in part the version tells, as the digest does of a whole one."""
    one, other = (replace(GOOD, sha256=None, version='"old"'), replace(GOOD, **content))
    for reports, says in (((one, one), "which of its results"), ((one, other), "it has changed between the runs")):
        with pytest.raises(UsageError) as caught:
            shards.merge([(str(number), report(model)) for number, model in enumerate(reports)])
        assert says in caught.value.why


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (report(BAD, seed=1), "option seed is 1 and 0"),
        (report(BAD, trust=True), "option trust is True and None"),
        (report(BAD, command="lint"), "command is lint and verify"),
        (replace(report(BAD), tool={"name": "bninspect", "version": "9"}), "version is 9"),
    ],
)
def test_reports_of_other_questions_are_refused(other: Report, says: str) -> None:
    with pytest.raises(UsageError, match="do not belong together") as caught:
        shards.merge([("a", report(GOOD)), ("b", other)])
    assert says in caught.value.why


def test_what_no_result_depends_on_may_differ() -> None:
    merged = shards.merge([("a", report(GOOD, jobs=1, timeout=None)), ("b", report(BAD, jobs=8, timeout=5.0))])
    assert merged.summary.models == 2


def test_environments_that_differ_are_all_there() -> None:
    first, second = report(GOOD), report(BAD)
    second = replace(second, environment={**second.environment, "platform": "Other", "device": "CPU"})
    together = shards.merge([("a", first), ("b", second)]).environment
    assert together["platform"] == [first.environment["platform"], "Other"]
    assert together["device"] == "CPU"
    assert together["numpy"] == first.environment["numpy"]


def test_nothing_in_all_parts_is_nothing_to_check_unless_it_may_be() -> None:
    assert shards.merge([("a", report()), ("b", report())]).summary.exit_code == 5
    assert shards.merge([("a", report(allow_empty=True)), ("b", report(allow_empty=True))]).summary.exit_code == 0
