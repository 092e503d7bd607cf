"""The rooms of `capture` go one way: intervene → inside → step → reading → layers → layers/recurrent."""

import ast
import re
from pathlib import Path

import pytest

from trainobs import capture

ROOT = Path(capture.__file__).parent
#: Each room, and what it may import of the others.
ROOMS = {
    "intervene": {"inside", "step", "layers"},
    "inside": {"step", "reading", "layers"},
    "step": {"reading", "layers"},
    "reading": {"layers"},
    "layers": {"layers.recurrent"},
}
#: Files beside the rooms.
SHARED_BY_ALL = {"_keras_internals", "_users_lines"}
#: What the room of recurrent layers shares with its parent.
SHARED = {"layers._kind", "layers._slope", "layers._probing"}


def imported(path: Path) -> set[str]:
    """What a file imports of capture, without its name: "layers", "layers._kind"."""
    statements = (node for node in ast.walk(ast.parse(path.read_text("utf-8"))))
    names = {str(node.module) for node in statements if isinstance(node, ast.ImportFrom)}
    return {name.removeprefix("trainobs.capture.") for name in names if name.startswith("trainobs.capture")}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_the_facades_of_those_below(room):
    """Siblings import files; of another room only its facade is imported, and never one above."""
    for path in (ROOT / room).glob("*.py"):
        foreign = {name for name in imported(path) if not name.startswith(f"{room}._")}
        assert foreign <= ROOMS[room] | SHARED_BY_ALL, path.name


def test_recurrent_layers_use_what_they_share_with_their_parent():
    """The room of recurrent layers knows nothing of the registry it is listed in."""
    for path in (ROOT / "layers" / "recurrent").glob("*.py"):
        foreign = {name for name in imported(path) if not name.startswith("layers.recurrent._")}
        assert foreign <= SHARED | {"_keras_internals"}, path.name


@pytest.mark.parametrize("room", [*ROOMS, "layers/recurrent"])
def test_a_room_states_its_law(room):
    """What a room may import stands in its `__init__` docstring."""
    law = ast.get_docstring(ast.parse((ROOT / room / "__init__.py").read_text("utf-8"))) or ""
    (sentence,) = re.findall(r"May import (.*?); never", " ".join(law.split()))
    assert all(name.rpartition(".")[2] in sentence for name in ROOMS.get(room, SHARED))
