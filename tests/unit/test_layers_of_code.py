"""The law of rooms: which module may import which, read from the source with `ast`."""

import ast
import dataclasses
import graphlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import trainobs

ROOT = Path(trainobs.__file__).parent
#: Each room imports only rooms that stand before it.
ROOMS = (
    "errors", "findings", "counterfactuals", "thresholds", "tensors", "activations", "linear_ops", "records",
    "statistics", "storage", "recording", "selection", "batches", "progress", "capture", "analysis",
    "mechanisms", "diagnosis", "explanation", "views", "report", "recorder", "explain", "remedies",
    "health", "similarity", "demo", "cli", "__main__",
)  # fmt: skip
#: Imports within a function that close a circle, by importing module and imported one; no other one may.
#: `report.remedies` and `report.try_remedies` are doors for users.
KNOWN_LAZY_IMPORTS = {("report", "remedies")}
WITHOUT_KERAS = (
    "errors", "findings", "counterfactuals", "thresholds", "tensors", "activations", "linear_ops", "records",
    "statistics", "storage", "recording", "selection", "analysis", "mechanisms", "diagnosis", "explanation",
    "views", "report",
)  # fmt: skip
WITHOUT_TENSORFLOW = (
    "errors", "findings", "counterfactuals", "thresholds", "activations", "linear_ops", "records",
    "statistics", "storage", "recording", "selection", "analysis", "mechanisms", "diagnosis", "explanation",
    "views", "report",
)  # fmt: skip
#: The rooms between a record and its explanation: what runs in them never meets a model.
BEHIND_RECORDS = ("statistics", "analysis", "mechanisms", "diagnosis", "explanation", "views")


@dataclasses.dataclass(frozen=True)
class Import:
    """One import of a module by another."""

    target: str
    for_types: bool


def module_name(path: Path) -> str:
    """Its dotted name without the package's: "analysis._causes"; a folder's facade is "analysis"."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


SOURCES = {module_name(path): ast.parse(path.read_text("utf-8")) for path in sorted(ROOT.rglob("*.py"))}


def imports_in(node: ast.AST, for_types: bool = False) -> Iterator[Import]:
    """Every import below a node, those within functions too."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield from (Import(target, for_types) for target in targets(child))
            continue
        types = isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING")
        yield from imports_in(child, for_types or types)


def targets(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """The full names of the modules that a statement imports."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    assert not node.level, "imports are absolute"
    for alias in node.names:
        inner = f"{node.module}.{alias.name}"
        yield inner if inner.removeprefix("trainobs.") in SOURCES else str(node.module)


IMPORTS = {name: list(imports_in(tree)) for name, tree in SOURCES.items()}


def own(target: str) -> str | None:
    """The name of a module of trainobs without the package's; None for other packages."""
    return target.removeprefix("trainobs.") if target.startswith("trainobs.") else None


def home(name: str) -> str:
    """The room, a folder or file below trainobs, that a module belongs to."""
    return name.split(".")[0]


FOLDERS = sorted({home(name) for name in SOURCES if "." in name})


def modules_of(*homes: str) -> list[str]:
    """All modules of some rooms."""
    return [name for name in SOURCES if home(name) in homes]


def used_modules(name: str) -> set[str]:
    """The modules of trainobs that a module imports when it runs."""
    return {target for i in IMPORTS[name] if not i.for_types and (target := own(i.target))}


def used_rooms(name: str) -> set[str]:
    """The rooms that a module uses when it runs, its own left out."""
    return {home(target) for target in used_modules(name)} - {home(name)}


def packages(name: str) -> set[str]:
    """The foreign packages that a module imports when it runs."""
    return {i.target.split(".")[0] for i in IMPORTS[name] if not i.for_types and not own(i.target)}


def stated_law(folder: str) -> set[str]:
    """What a folder may import, from the sentence in its `__init__` docstring."""
    docstring = " ".join((ast.get_docstring(SOURCES[folder]) or "").split())
    sentences = re.findall(r"[Mm]ay import (.*?)[;,] never", docstring)
    assert len(sentences) == 1, f"the docstring of trainobs/{folder} states no law, or several"
    return set(re.findall(r"`(\w+)`", sentences[0]))


# ---- rooms ---------------------------------------------------------------------------------------


def test_every_room_has_its_place():
    """A new folder or file is entered into the list of rooms."""
    assert {home(name) for name in SOURCES if name} <= set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_earlier_rooms_only(room):
    """Data goes one way; an import within a function goes it too, but for the declared ones."""
    earlier = set(ROOMS[: ROOMS.index(room)])
    for name in modules_of(room):
        declared = {used for user, used in KNOWN_LAZY_IMPORTS if user == name}
        assert used_rooms(name) <= earlier | declared, name


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_imports_what_its_docstring_allows(folder):
    """The law stands in the folder's `__init__` docstring; lazy imports obey it too."""
    for name in modules_of(folder):
        assert used_rooms(name) <= stated_law(folder), name


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_docstring_allows_what_the_order_forbids(folder):
    """A law names earlier rooms only."""
    assert stated_law(folder) <= set(ROOMS[: ROOMS.index(folder)])


@pytest.mark.parametrize("room", BEHIND_RECORDS)
def test_what_explains_never_meets_a_model(room):
    """From the record on nothing knows of capture, recording or data."""
    forbidden = {"capture", "storage", "recording", "batches", "progress"}
    for name in modules_of(room):
        assert not used_rooms(name) & forbidden, name


def test_there_are_no_import_cycles():
    """Modules can be put in an order in which each imports earlier ones only, in functions too."""
    graph = {
        name: {
            used for used in used_modules(name) if used in SOURCES and (name, used) not in KNOWN_LAZY_IMPORTS
        }
        for name in SOURCES
    }
    order = list(graphlib.TopologicalSorter(graph).static_order())  # a CycleError names the cycle
    assert set(order) == set(SOURCES)


@pytest.mark.parametrize(("user", "used"), sorted(KNOWN_LAZY_IMPORTS))
def test_the_declared_lazy_imports_are_there(user, used):
    """The list only shrinks; and none of them runs when the module is imported."""
    at_top = [node for node in SOURCES[user].body if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert used in used_modules(user)
    assert used not in {own(target) for node in at_top for target in targets(node)}


# ---- packages ------------------------------------------------------------------------------------


def test_keras_models_are_touched_in_capture_only():
    """The callback, the data adapter and the remedies stand beside it; nothing else imports Keras."""
    assert not [name for name in modules_of(*WITHOUT_KERAS) if "keras" in packages(name)]


def test_records_tables_and_pictures_need_no_tensorflow():
    """What is below the sums and above them is made without TensorFlow."""
    assert not [name for name in modules_of(*WITHOUT_TENSORFLOW) if "tensorflow" in packages(name)]


def test_pandas_stays_where_tables_are():
    """No sum, verdict or record needs a table."""
    without = ROOMS[: ROOMS.index("explanation")]
    assert not [name for name in modules_of(*without) if "pandas" in packages(name)]


def test_pictures_and_pages_are_made_in_views_only():
    """The demo saves pictures, and health turns one into bytes; nothing else knows of them."""
    others = [name for name in SOURCES if home(name) not in ("views", "demo", "health", "similarity")]
    assert not [name for name in others if packages(name) & {"matplotlib", "jinja2"}]


# ---- facades -------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", FOLDERS)
def test_siblings_import_siblings_and_never_the_facade(folder):
    """A private file imports the file that holds a name, not the folder's `__init__`."""
    for name in modules_of(folder):
        assert folder not in used_modules(name), name


def test_private_files_are_used_in_their_own_folder_only():
    """From outside a folder only its facade is imported."""
    uses = {(name, own(i.target)) for name, found in IMPORTS.items() for i in found if own(i.target)}
    assert not {(name, used) for name, used in uses if "._" in used and home(used) != home(name)}


def test_only_the_front_door_is_imported_by_the_package():
    """`trainobs/__init__.py` imports nothing of its own when it is imported itself."""
    assert not used_modules("")
