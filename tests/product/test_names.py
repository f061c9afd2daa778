"""One name per thing: whoever reads a class name in an error, a search or a review must know which class is meant."""

import ast
from collections import defaultdict
from pathlib import Path

import bninspect

PACKAGE = Path(bninspect.__file__).parent


def test_no_class_name_stands_twice_in_the_package() -> None:
    places = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{path.relative_to(PACKAGE)}:{node.lineno}")
    assert len(places) > 150
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
