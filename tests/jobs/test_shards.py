"""Parts of a list of models: together all of it, each model once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bninspect.jobs import shards
from bninspect.settings import Part

LISTS = st.lists(st.text(st.characters(exclude_characters="\0"), min_size=1), unique=True, max_size=40)


@given(models=LISTS, count=st.integers(1, 9))
def test_every_model_is_in_one_part_and_parts_are_equal(models: list[str], count: int) -> None:
    parts = [shards.chosen(models, Part(index, count)) for index in range(1, count + 1)]
    assert sorted(path for chosen, _ in parts for path in chosen) == sorted(models)
    sizes = {len(chosen) for chosen, _ in parts}
    assert max(sizes) - min(sizes) <= 1
    for chosen, _ in parts:
        assert list(chosen) == [path for path in models if path in chosen]


@given(models=LISTS, count=st.integers(1, 5), shift=st.integers(0, 40))
def test_the_order_of_the_arguments_changes_no_part(models: list[str], count: int, shift: int) -> None:
    turned = models[shift:] + models[:shift]
    for index in range(1, count + 1):
        (one, of_one), (other, of_other) = (shards.chosen(some, Part(index, count)) for some in (models, turned))
        assert set(one) == set(other)
        assert of_one is not None
        assert of_other is not None
        assert (of_one.index, of_one.models, of_one.digest) == (of_other.index, of_other.models, of_other.digest)
        assert [turned[place] for place in of_other.places] == list(other)


def test_another_list_has_another_digest() -> None:
    _, one = shards.chosen(["a", "b"], Part(1, 2))
    _, other = shards.chosen(["a", "c"], Part(1, 2))
    assert one is not None
    assert other is not None
    assert one.digest != other.digest
    assert (one.index, one.count, one.models) == (1, 2, 2)


def test_without_a_part_there_is_nothing_to_say() -> None:
    assert shards.chosen(["b", "a"], None) == (("b", "a"), None)
