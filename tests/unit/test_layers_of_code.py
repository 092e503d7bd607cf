"""The law of folders: which module may import which, read from the source with `ast`."""

import ast
import dataclasses
import graphlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import trainobs

ROOT = Path(trainobs.__file__).parent
FOLDERS = ("analysis", "capture", "plots", "recorder", "remedies", "health", "similarity")
WITHOUT_KERAS = (
    "errors", "near_zero", "tensors", "linear_ops", "activations", "recording", "storage",
    "selection",
    "analysis", "report", "plots", "html",
)  # fmt: skip
WITHOUT_TENSORFLOW = (
    "errors",
    "near_zero",
    "activations",
    "recording",
    "selection",
    "report",
    "plots",
    "html",
)
#: Uses of another folder's private files. The list may only shrink.
KNOWN_TRESPASSES = {("html", "plots")}


@dataclasses.dataclass(frozen=True)
class Import:
    """One import of a module by another."""

    target: str
    at_top: bool
    for_types: bool


def module_name(path: Path) -> str:
    """Its dotted name without the package's: "analysis._causes"; a folder's facade is "analysis"."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


SOURCES = {module_name(path): ast.parse(path.read_text("utf-8")) for path in sorted(ROOT.rglob("*.py"))}


def imports_in(node: ast.AST, at_top: bool = True, for_types: bool = False) -> Iterator[Import]:
    """Every import below a node, and whether it runs when the module is imported."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield from (Import(target, at_top, for_types) for target in targets(child))
            continue
        inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        types = isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING")
        yield from imports_in(child, at_top and not inside, for_types or types)


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
    """The folder or file below trainobs that a module belongs to."""
    return name.split(".")[0]


def modules_of(*homes: str) -> list[str]:
    """All modules of some folders or files."""
    return [name for name in SOURCES if home(name) in homes]


def runtime_homes(name: str) -> set[str]:
    """The folders and files of trainobs that a module uses when it runs, its own left out."""
    used = {home(target) for i in IMPORTS[name] if not i.for_types and (target := own(i.target))}
    return used - {home(name)}


def stated_law(folder: str) -> set[str]:
    """What a folder may import, from the sentence in its `__init__` docstring."""
    docstring = " ".join((ast.get_docstring(SOURCES[folder]) or "").split())
    (sentence,) = re.findall(r"[Mm]ay import (.*?)[;,] never", docstring)
    return set(re.findall(r"`(\w+)`", sentence))


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_imports_what_its_docstring_allows(folder):
    """The law stands in the folder's `__init__` docstring; lazy imports obey it too."""
    for name in modules_of(folder):
        assert runtime_homes(name) <= stated_law(folder), name


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        ("analysis", {"capture", "report", "plots", "html", "recorder", "explain"}),
        ("capture", {"analysis", "report", "plots", "html", "recorder", "explain"}),
        ("plots", {"capture", "report", "html", "recorder", "explain"}),
        ("remedies", {"report", "plots", "html", "recorder"}),
        ("health", {"plots", "html", "remedies"}),
        ("similarity", {"analysis", "capture", "recording", "report", "plots", "html"}),
    ],
)
def test_the_laws_keep_the_folders_apart(folder, forbidden):
    """No docstring may allow what would join capture, analysis and drawing."""
    assert not stated_law(folder) & forbidden
    assert not {used for name in modules_of(folder) for used in runtime_homes(name)} & forbidden


def test_the_plain_files_stand_at_the_bottom():
    """Errors, thresholds, specs, activations and records use each other at most."""
    bottom = {"errors", "near_zero", "tensors", "linear_ops", "activations", "recording", "storage"}
    for name in modules_of(*bottom):
        assert runtime_homes(name) <= bottom, name
    assert not runtime_homes("errors") and runtime_homes("near_zero") == {"errors"}


def packages(name: str) -> set[str]:
    """The foreign packages that a module imports when it runs."""
    return {i.target.split(".")[0] for i in IMPORTS[name] if not i.for_types and not own(i.target)}


def test_keras_models_are_touched_in_capture_only():
    """The callback, the data adapter and the remedies stand beside it; nothing else imports Keras."""
    assert not [name for name in modules_of(*WITHOUT_KERAS) if "keras" in packages(name)]


def test_records_tables_and_pictures_need_no_tensorflow():
    """What is below the sums and above them is made without TensorFlow."""
    assert not [name for name in modules_of(*WITHOUT_TENSORFLOW) if "tensorflow" in packages(name)]


def test_matplotlib_and_pandas_stay_where_they_belong():
    """No sum, verdict or record needs a table or a picture."""
    for name in modules_of(
        "analysis", "capture", "recording", "recorder", "explain", "linear_ops", "storage"
    ):
        assert not packages(name) & {"matplotlib", "pandas"}, name


def test_there_are_no_import_cycles():
    """Modules can be put in an order in which each imports earlier ones only."""
    graph = {
        name: {target for i in found if i.at_top and not i.for_types and (target := own(i.target)) in SOURCES}
        for name, found in IMPORTS.items()
    }
    order = list(graphlib.TopologicalSorter(graph).static_order())  # a CycleError names the cycle
    assert set(order) == set(SOURCES)


@pytest.mark.parametrize("folder", FOLDERS)
def test_siblings_import_siblings_and_never_the_facade(folder):
    """A private file imports the file that holds a name, not the folder's `__init__`."""
    for name in modules_of(folder):
        assert folder not in [own(i.target) for i in IMPORTS[name] if not i.for_types], name


def test_private_files_are_used_in_their_own_folder_only():
    """From outside a folder only its facade is imported."""
    uses = {(home(name), own(i.target)) for name, found in IMPORTS.items() for i in found if own(i.target)}
    trespasses = {(user, home(used)) for user, used in uses if "._" in used and home(used) != user}
    assert trespasses <= KNOWN_TRESPASSES


def test_only_the_front_door_is_imported_by_the_package():
    """`trainobs/__init__.py` imports nothing of its own when it is imported itself."""
    assert not [i for i in IMPORTS[""] if not i.for_types and own(i.target)]
