"""What a graph would do besides computing is named, wherever it hides; what only computes is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.tensorflow_files import const, function, graph, message, node, tensor_info, write_bundle, write_saved_model

from bninspect import formats
from bninspect.formats.tensorflow import op_lists

FLOAT = np.dtype("float32")
X = node("x", "Placeholder", dtype=FLOAT)


def code_of(folder: Path, *nodes: bytes, functions: tuple[bytes, ...] = (), output: str = "y") -> tuple[str, ...]:
    return formats.read(write_saved_model(folder, graph(*nodes, functions=functions), {"y": f"{output}:0"})).code


def call(name: str, function: str, *inputs: str) -> bytes:
    return node(name, "StatefulPartitionedCall", *inputs, f=("func", function))


def test_pure_computation_is_no_code(tmp_path: Path) -> None:
    assert code_of(tmp_path, X, node("y", "Relu", "x")) == ()


def test_what_the_output_does_not_need_does_not_run(tmp_path: Path) -> None:
    assert code_of(tmp_path, X, node("y", "Relu", "x"), node("save", "SaveV2", "x")) == ()


@pytest.mark.parametrize(
    "op", ["ReadFile", "WriteFile", "PyFunc", "PrintV2", "SaveV2", "RestoreV2", "Abort", "Unheard"]
)
def test_operations_that_are_not_known_to_compute_are_named(tmp_path: Path, op: str) -> None:
    assert code_of(tmp_path, X, node("bad\x1b[2J", op, "x"), node("y", "Relu", "bad\x1b[2J")) == (
        f"op {op} 'bad\\\\x1b[2J'",
    )


def test_a_control_input_runs_too(tmp_path: Path) -> None:
    assert code_of(tmp_path, X, node("w", "WriteFile", "x"), node("y", "Relu", "x", "^w")) == ("op WriteFile 'w'",)


def test_what_a_function_does_on_the_side_is_named(tmp_path: Path) -> None:
    # Nothing depends on it, but operations with an effect run as soon as their function is called.
    inner = function("inner", ["a"], {"r": "a"}, [node("print", "PrintV2", "a")])
    outer = function("outer", ["a"], {"r": "c:output:0"}, [call("c", "inner", "a")])
    assert code_of(tmp_path, X, call("y", "outer", "x"), functions=(inner, outer)) == ("op PrintV2 'print'",)


@pytest.mark.parametrize("role", ["cond", "body"])
def test_loops_run_their_functions(tmp_path: Path, role: str) -> None:
    bad = function("bad", ["a"], {"r": "n:z:0"}, [node("n", "EagerPyFunc", "a")])
    good = function("good", ["a"], {"r": "n:z:0"}, [node("n", "Relu", "a")])
    roles = {one: ("func", "bad" if one == role else "good") for one in ("cond", "body")}
    assert code_of(tmp_path, X, node("y", "While", "x", **roles), functions=(bad, good)) == ("op EagerPyFunc 'n'",)


def test_both_branches_count(tmp_path: Path) -> None:
    branches = tuple(
        function(name, [], {"r": "n:z:0"}, [node("n", op)]) for name, op in (("a", "ReadFile"), ("b", "NoOp"))
    )
    nodes = (const("p", np.array(False)), node("y", "If", "p", then_branch=("func", "a"), else_branch=("func", "b")))
    assert code_of(tmp_path, *nodes, functions=branches) == ("op ReadFile 'n'",)


def test_what_runs_after_loading_is_named(tmp_path: Path) -> None:
    nodes = (
        X,
        node("y", "Relu", "x"),
        node("table", "InitializeTableFromTextFileV2", "x"),
        node("init", "NoOp", "^table"),
    )
    entry = message((1, "__saved_model_init_op"), (2, message((2, message((1, "o"), (2, tensor_info("init")))))))
    output = message((1, "serving_default"), (2, message((2, message((1, "y"), (2, tensor_info("y:0")))))))
    meta = message((1, message((4, "serve"))), (2, graph(*nodes)), (5, entry), (5, output))
    (tmp_path / "saved_model.pb").write_bytes(message((1, 1), (2, meta)))
    assert formats.read(tmp_path).code == ("op InitializeTableFromTextFileV2 'table'",)


@pytest.mark.parametrize(("prefix", "expected"), [("file", ()), ("elsewhere", ("op RestoreV2 'restore'",))])
def test_only_the_checkpoint_of_the_model_may_be_restored(
    tmp_path: Path, prefix: str, expected: tuple[str, ...]
) -> None:
    def texts(name: str, *values: str) -> bytes:
        proto = message((1, 7), (2, message((2, message((1, len(values)))))), *((8, value) for value in values))
        return message((1, name), (2, "Const"), (5, message((1, "value"), (2, message((8, proto))))))

    nodes = (
        node("file", "Placeholder", dtype=np.dtype("float32")),
        texts("elsewhere", "/etc/passwd"),
        texts("names", "v"),
        texts("parts", ""),
        node("v", "VarHandleOp"),
        node("y", "ReadVariableOp", "v"),
        node("restore", "RestoreV2", prefix, "names", "parts"),
        node("assign", "AssignVariableOp", "v", "restore"),
        node("all", "NoOp", "^assign"),
    )
    saver = message((1, "file:0"), (3, "all"))
    output = message((1, "serving_default"), (2, message((2, message((1, "y"), (2, tensor_info("y:0")))))))
    meta = message((1, message((4, "serve"))), (2, graph(*nodes)), (3, saver), (5, output))
    (tmp_path / "saved_model.pb").write_bytes(message((1, 1), (2, meta)))
    (tmp_path / "variables").mkdir()
    write_bundle(tmp_path / "variables" / "variables", {"v": np.ones(3, np.float32)})
    assert formats.read(tmp_path).code == expected


@pytest.mark.tensorflow
def test_the_allowlist_against_tensorflow() -> None:
    registered = _registered()
    # Some belong to other versions.
    assert len(op_lists.PURE & registered.keys()) > 0.97 * len(op_lists.PURE)
    reviewed = """
    AnonymousHashTable Assert AssignAddVariableOp AssignSubVariableOp AssignVariableOp Case CheckNumerics
    CheckNumericsV2 DisableCopyOnRead GuaranteeConst HashTable HashTableV2 If InitializeTableV2 LookupTableFindV2
    LookupTableImportV2 LookupTableInsertV2 LookupTableSizeV2 Multinomial MutableHashTableV2 RandomGamma
    RandomPoissonV2 RandomShuffle RandomStandardNormal RandomUniform RandomUniformInt ReadVariableOp ResourceGather
    ResourceGatherNd RngReadAndSkip RngSkip StackCloseV2 StackPopV2 StackPushV2 StackV2 StatefulPartitionedCall
    StatefulStandardNormalV2 StatefulTruncatedNormal StatefulUniform StatefulUniformInt StatelessRandomGetAlg
    TensorArrayCloseV3 TensorArrayConcatV3 TensorArrayGatherV3 TensorArrayReadV3 TensorArrayScatterV3
    TensorArraySizeV3 TensorArraySplitV3 TensorArrayV3 TensorArrayWriteV3 TruncatedNormal VarHandleOp
    VarIsInitializedOp Variable VariableShape VariableV2 While
    """
    stateful = {name for name, definition in registered.items() if definition.is_stateful}
    assert op_lists.PURE & stateful == set(reviewed.split())
    # What touches files, prints, runs Python or ends the process, stateful or not.
    touching = {
        name
        for name in registered
        if any(word in name for word in ("File", "Print", "PyFunc", "Save", "Restore", "Dataset", "Reader", "Abort"))
    }
    assert len(touching) > 100
    assert not op_lists.PURE & touching


@pytest.mark.tensorflow
def test_the_outputs_of_operations_are_called_as_tensorflow_calls_them() -> None:
    registered = _registered()
    for name in op_lists.PURE & registered.keys():
        outputs = list(registered[name].output_arg)
        single = not any(one.number_attr or one.type_list_attr for one in outputs)
        if len(outputs) > 1 and single:
            assert op_lists.OUTPUTS[name] == [one.name for one in outputs]
        else:
            assert name not in op_lists.OUTPUTS


def _registered() -> dict[str, Any]:
    from tensorflow.core.framework import op_def_pb2
    from tensorflow.python.client import pywrap_tf_session

    data = pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList())
    return {one.name: one for one in op_def_pb2.OpList.FromString(bytes(data)).op}
