"""Flattening: calls are followed, conditionals go the way they go at inference, and no graph makes it run for ever."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from helpers.tensorflow_files import const, function, graph, message, node

from bninspect.errors import DamagedFile, UnsafeFile
from bninspect.formats.encodings.protobuf import Message
from bninspect.formats.tensorflow.graph import calls
from bninspect.formats.tensorflow.graph import graph_def as graphs
from bninspect.formats.tensorflow.graph.flatten import FlatGraph, flatten, flatten_all
from bninspect.formats.tensorflow.graph.graph_def import GraphDef

FLOAT, BOOL = np.dtype("float32"), np.dtype("bool")
X = node("x", "Placeholder", dtype=FLOAT)


def read(*nodes: bytes, functions: Sequence[bytes] = ()) -> GraphDef:
    return GraphDef.read(Message(graph(*nodes, functions=functions)))


def call(name: str, function: str, *inputs: str) -> bytes:
    return node(name, "PartitionedCall", *inputs, f=("func", function))


def inputs_of(flat: FlatGraph, name: str) -> list[str]:
    return [f"{source}:{position}" if position else source for source, position in flat.nodes[name].inputs]


def test_calls_are_followed_to_any_depth() -> None:
    inner = function("inner", ["a"], {"r": "relu:activations:0"}, [node("relu", "Relu", "a")])
    outer = function("outer", ["b"], {"r": "twice:output:0"}, [call("twice", "inner", "b")])
    flat = flatten(read(X, call("c", "outer", "x"), functions=[inner, outer]), ["c:0"])
    assert flat.outputs == (("c/twice/relu", 0),)
    assert inputs_of(flat, "c/twice/relu") == ["x"]
    assert flat.nodes["c/twice/relu"].scope == "c/twice/"
    assert flat.changed() == {"c/twice/relu"}


def test_a_function_that_two_nodes_call_is_there_twice() -> None:
    body = function("f", ["a"], {"r": "relu:activations:0"}, [node("relu", "Relu", "a")])
    nodes = (X, call("one", "f", "x"), call("two", "f", "one"), node("y", "Identity", "two"))
    flat = flatten(read(*nodes, functions=[body]), ["y"])
    assert list(flat.nodes) == ["x", "one/relu", "two/relu", "y"]
    assert inputs_of(flat, "two/relu") == ["one/relu"]
    assert flat.nodes["y"].rewired


def test_old_calls_name_the_function_as_their_operation() -> None:
    body = function("Swish", ["a"], {"r": "s:y:0"}, [node("s", "Sigmoid", "a")])
    flat = flatten(read(X, node("y", "Swish", "x"), functions=[body]), ["y"])
    assert flat.outputs == (("y/s", 0),)


def test_outputs_of_several_arguments_are_counted() -> None:
    nodes = [
        node("bn", "FusedBatchNormV3", "a", "a", "a", "a", "a"),
        node("top", "TopKV2", "bn:batch_variance:0", "a"),
        node("split", "Split", "top:indices:0", "a"),
        node("r", "Identity", "split:output:2"),
    ]
    body = function("f", ["a"], {"r": "r:output:0"}, nodes)
    flat = flatten(read(X, call("c", "f", "x"), functions=[body]), ["c"])
    assert inputs_of(flat, "c/top")[0] == "c/bn:2"
    assert inputs_of(flat, "c/split")[0] == "c/top:1"
    assert inputs_of(flat, "c/r") == ["c/split:2"]


def test_what_the_file_says_of_an_operation_counts_for_the_position_of_its_outputs() -> None:
    definition = message(
        (1, "Odd"),
        (3, message((1, "first"), (5, "N"))),
        (3, message((1, "types"), (6, "T"))),
        (3, message((1, "last"))),
    )
    odd = node("odd", "Odd", "a", N=3)
    # An attribute of two types: AttrValue.list.type, packed.
    odd += message((5, message((1, "T"), (2, message((1, message((6, b"\x01\x01"))))))))
    body = function("f", ["a"], {"r": "odd:last:0"}, [odd])
    raw = Message(graph(X, call("c", "f", "x"), functions=[body]))
    flat = flatten(GraphDef.read(raw, [Message(definition)]), ["c"])
    assert flat.outputs == (("c/odd", 5),)


@pytest.mark.parametrize(("predicate", "taken"), [(True, "then"), (False, "other")])
def test_a_constant_chooses_a_branch(predicate: bool, taken: str) -> None:
    branches = [function(name, ["a"], {"r": "n:y:0"}, [node("n", name.title(), "a")]) for name in ("then", "other")]
    conditional = node("if", "If", "p", "x", then_branch=("func", "then"), else_branch=("func", "other"))
    flat = flatten(read(X, const("p", np.array(predicate)), conditional, functions=branches), ["if"])
    assert [one.op for one in flat.nodes.values()] == ["Placeholder", taken.title()]


def conditional(*predicate: bytes) -> FlatGraph:
    """Return a graph whose `If` on `p` computes Then or Other."""
    branches = [function(name, ["a"], {"r": "n:y:0"}, [node("n", name.title(), "a")]) for name in ("then", "other")]
    nodes = (X, *predicate, node("if", "If", "p", "x", then_branch=("func", "then"), else_branch=("func", "other")))
    return flatten(read(*nodes, functions=branches), ["if"])


PHASE = node("phase", "Placeholder", dtype=BOOL)


@pytest.mark.parametrize(
    ("predicate", "taken", "assumed"),
    [
        ((node("p", "Placeholder", dtype=BOOL),), "Other", ("p",)),
        ((PHASE, node("p", "LogicalNot", "phase")), "Then", ("phase",)),
        ((PHASE, const("t", np.array(True)), node("p", "LogicalOr", "phase", "t")), "Then", ("phase",)),
        ((PHASE, const("t", np.array(True)), node("p", "LogicalAnd", "phase", "t")), "Other", ("phase",)),
        ((const("d", np.array(True)), node("p", "PlaceholderWithDefault", "d", dtype=BOOL)), "Then", ()),
        ((const("d", np.array(True)), node("i", "Identity", "d"), node("p", "Identity", "i")), "Then", ()),
    ],
)
def test_placeholders_are_false_unless_they_have_a_default(
    predicate: Sequence[bytes], taken: str, assumed: tuple[str, ...]
) -> None:
    flat = conditional(*predicate)
    assert taken in {one.op for one in flat.nodes.values()}
    assert {"Then", "Other"} - {one.op for one in flat.nodes.values()}
    assert flat.assumed == assumed


def test_where_the_data_decides_both_branches_are_there_and_hidden() -> None:
    flat = conditional(node("p", "Less", "x", "x"))
    hidden = {one.op: one.hidden for one in flat.nodes.values()}
    assert hidden["Then"] == hidden["Other"] == "inside a conditional that depends on the data"
    assert hidden["If"] == ""


def test_the_body_of_a_loop_is_there_and_hidden() -> None:
    body = function("body", ["a"], {"r": "n:y:0"}, [node("n", "Tanh", "a")])
    test = function("test", ["a"], {"r": "n:z:0"}, [node("n", "Less", "a", "a")])
    loop = node("while", "While", "x", body=("func", "body"), cond=("func", "test"))
    flat = flatten(read(X, loop, functions=[body, test]), ["while"])
    assert {one.op: one.hidden for one in flat.nodes.values()} == {
        "Placeholder": "",
        "While": "",
        "Tanh": "inside a while loop",
    }


SWITCHED = (
    X,
    node("p", "Placeholder", dtype=BOOL),
    node("pivot", "Identity", "p"),
    node("switch", "Switch", "x", "pivot"),
    node("switch_t", "Identity", "switch:1"),
    node("train", "Relu", "switch_t"),
    node("infer", "Tanh", "switch"),
)


@pytest.mark.parametrize("order", [("infer", "train"), ("train", "infer")])
def test_a_merge_takes_what_is_not_dead(order: tuple[str, str]) -> None:
    flat = flatten(read(*SWITCHED, node("merge", "Merge", *order), node("y", "Identity", "merge")), ["y"])
    assert inputs_of(flat, "y") == ["infer"]
    assert inputs_of(flat, "infer") == ["x"]
    assert list(flat.nodes) == ["x", "infer", "y"]


def test_a_constant_in_a_dead_branch_is_dead_too() -> None:
    one = node("c", "Const", "^switch_t", dtype=FLOAT, value=np.ones(3, np.float32))
    flat = flatten(read(*SWITCHED, one, node("merge", "Merge", "c", "infer")), ["merge"])
    assert flat.outputs == (("infer", 0),)


def test_conditionals_within_conditionals() -> None:
    inner = (
        node("inner", "Switch", "infer", "flag"),
        const("flag", np.array(True)),
        node("yes", "Exp", "inner:1"),
        node("no", "Log", "inner"),
        node("inner_merge", "Merge", "no", "yes"),
    )
    flat = flatten(read(*SWITCHED, *inner, node("merge", "Merge", "inner_merge", "train")), ["merge"])
    assert flat.outputs == (("yes", 0),)


def test_an_undecided_merge_stays() -> None:
    nodes = (X, node("p", "Less", "x", "x"), node("s", "Switch", "x", "p"), node("m", "Merge", "s", "s:1"))
    assert flatten(read(*nodes), ["m"]).outputs == (("m", 0),)


def test_all_of_a_graph_is_all_but_what_is_dead() -> None:
    flat = flatten_all(
        read(*SWITCHED, node("merge", "Merge", "infer", "train"), node("update", "Assign", "x", "train"))
    )
    assert {"Relu", "Assign"}.isdisjoint(one.op for one in flat.nodes.values())


def test_a_graph_without_signatures_returns_what_it_computes_of_its_input() -> None:
    nodes = (
        X,
        const("w", np.ones(3)),
        node("h", "Mul", "x", "w"),
        node("y", "Relu", "h"),
        node("file", "ReadFile", "w"),
    )
    flat = flatten_all(read(*nodes, node("mixed", "Mul", "h", "file"), node("unread", "Identity", "w")))
    assert set(flat.outputs) == {("y", 0), ("mixed", 0)}
    assert flat.impure() == {"file", "mixed"}


def test_control_inputs_are_followed_only_on_request() -> None:
    body = function("f", ["a"], {"r": "i:output:0"}, [node("i", "Identity", "a", "^save"), node("save", "SaveV2")])
    nodes = (X, call("c", "f", "x"), node("done", "NoOp", "^c"))
    assert "SaveV2" not in {one.op for one in flatten(read(*nodes, functions=[body]), ["c"]).nodes.values()}
    flat = flatten(read(*nodes, functions=[body]), ["done"], control=True)
    assert "SaveV2" in {one.op for one in flat.nodes.values()}


@pytest.mark.parametrize(
    ("nodes", "functions", "words"),
    [
        ([node("y", "Relu", "gone")], [], "no node 'gone'"),
        ([X, call("y", "gone", "x")], [], "no function 'gone'"),
        ([X, call("y", "f", "x", "x")], [function("f", ["a"], {"r": "a"}, [])], "2 inputs"),
        ([X, node("y", "Relu", "x:y:z")], [], "not the number of an output"),
        ([X, node("y", "Relu", "x:99999999999")], [], "not the number of an output"),
        ([X, call("c", "f", "x"), node("y", "Relu", "c:3")], [function("f", ["a"], {"r": "a"}, [])], "no output 3"),
        ([node("y", "Switch", "y", "p"), const("p", np.array(True))], [], "leads back to itself"),
        ([node("y", "If", then_branch=("func", "f"))], [], "0 inputs"),
        ([node("y", "Switch", "y")], [], "1 inputs"),
    ],
)
def test_damaged_graphs_are_named(nodes: Sequence[bytes], functions: Sequence[bytes], words: str) -> None:
    with pytest.raises(DamagedFile, match=words):
        flatten(read(*nodes, functions=functions), ["y"])


def test_two_nodes_or_functions_of_one_name_are_refused() -> None:
    with pytest.raises(DamagedFile, match="two nodes"):
        read(X, X)
    with pytest.raises(DamagedFile, match="two functions"):
        read(functions=[function("f", [], {}, [])] * 2)


def test_a_function_that_calls_itself_is_refused() -> None:
    body = function("f", ["a"], {"r": "again:output:0"}, [call("again", "f", "a")])
    with pytest.raises(UnsafeFile, match="within each other"):
        flatten(read(X, call("y", "f", "x"), functions=[body]), ["y"])


@pytest.mark.parametrize("computes", [True, False])
def test_functions_that_double_at_every_level_are_refused(monkeypatch: pytest.MonkeyPatch, computes: bool) -> None:
    # 2**40 calls, of functions that compute and of functions that only hand on what they are given.
    monkeypatch.setattr(calls, "MOST_CALLS", 2000)
    inner = [node("n", "Relu", "a")] if computes else []
    levels = [function("f0", ["a"], {"r": "n:activations:0" if computes else "a"}, inner)]
    for level in range(1, 40):
        twice = [call("one", f"f{level - 1}", "a"), call("two", f"f{level - 1}", "one:output:0")]
        levels.append(function(f"f{level}", ["a"], {"r": "two:output:0"}, twice))
    with pytest.raises(UnsafeFile, match="calls of functions"):
        flatten(read(X, call("y", "f39", "x"), functions=levels), ["y"])


def test_more_functions_than_any_model_has_are_refused() -> None:
    functions = [function(f"f{number}", [], {}, []) for number in range(graphs.MOST_FUNCTIONS + 1)]
    with pytest.raises(UnsafeFile, match="100,001 functions, at most 100,000"):
        read(X, functions=functions)


def test_predicates_that_go_on_and_on_are_left_undecided() -> None:
    nots = [node(f"n{number}", "LogicalNot", f"n{number - 1}") for number in range(1, 5000)]
    flat = conditional(node("n0", "Placeholder", dtype=BOOL), *nots, node("p", "Identity", "n4999"))
    assert "If" in {one.op for one in flat.nodes.values()}


def test_a_graph_as_deep_as_it_is_long_is_no_problem() -> None:
    nodes = [node(f"n{number}", "Relu", f"n{number - 1}" if number else "x") for number in range(20_000)]
    flat = flatten(read(X, *nodes), ["n19999"])
    assert list(flat.nodes)[-1] == "n19999"
    assert len(flat.nodes) == 20_001
