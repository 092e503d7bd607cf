"""Private names of Keras stand in one file, which says why each of them is needed."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import keras

import trainobs

ROOT = Path(trainobs.__file__).parent
THE_FILE = ROOT / "capture" / "_keras_internals.py"
OTHERS = [path for path in sorted(ROOT.rglob("*.py")) if path != THE_FILE]


def attributes(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Private attributes that are read of anything but `self`, `cls` or an object of the same class."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr):
            yield ast.unparse(node.value), node.attr


def own_names(tree: ast.AST) -> set[str]:
    """Private names that a file gives itself: attributes of self, methods, functions and fields."""
    found = {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return found


def of_keras() -> set[str]:
    """Private attributes of Keras' classes, as far as classes and their sources show them."""
    classes = (keras.Layer, keras.Model, keras.Operation, keras.Variable, keras.KerasTensor, keras.Metric)
    layers = (value for value in vars(keras.layers).values() if isinstance(value, type))
    optimizers = (value for value in vars(keras.optimizers).values() if isinstance(value, type))
    return {
        name
        for cls in (*classes, *layers, *optimizers)
        for base in cls.__mro__
        if base.__module__.startswith("keras")
        for name in (*vars(base), *names_assigned(base))
        if re.match(r"_[a-z]", name)
    }


def names_assigned(cls: type) -> set[str]:
    """The attributes that the code of a class's methods sets or reads."""
    codes = (getattr(method, "__code__", None) for method in vars(cls).values())
    return {name for code in codes if code is not None for name in code.co_names}


def words(path: Path) -> list[str]:
    """The code of a file without its comments and docstrings; other strings stay."""
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text("utf-8")).readline)
    return [t.string for t in tokens if t.type != tokenize.COMMENT and not t.string.startswith('"""')]


def test_no_private_module_of_keras_is_imported_elsewhere():
    """`keras.src` is where Keras keeps what it does not export."""
    for path in OTHERS:
        tree = ast.parse(path.read_text("utf-8"))
        modules = {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        modules |= {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
        assert not [name for name in modules if name.startswith(("keras.src", "keras._"))], path.name
        assert "keras.src" not in "".join(words(path)), path.name


def test_no_private_attribute_of_keras_is_used_elsewhere():
    """Neither as an attribute nor as the name of one, in a string."""
    private = of_keras()
    assert {"_flatten_layers", "_losses", "_tracked", "_key_dense"} <= private
    for path in OTHERS:
        tree = ast.parse(path.read_text("utf-8"))
        own = own_names(tree)
        used = {attribute for holder, attribute in attributes(tree) if holder not in ("self", "cls")}
        named = {word.strip("\"'") for word in words(path) if word.startswith(("'", '"'))}
        assert not (used - own) & private, path.name
        assert not named & private, path.name
        hung_on_tensors = {word.strip("\"'") for word in words(path)} - {"_keras_internals"}
        assert not [word for word in hung_on_tensors if word.startswith("_keras_")], path.name


def test_every_private_name_has_its_reason():
    """The docstring of the one file names what it uses of Keras' objects."""
    tree = ast.parse(THE_FILE.read_text("utf-8"))
    reasons = ast.get_docstring(tree) or ""
    used = {name for _, name in attributes(tree)}
    assert used and not [name for name in used if name not in reasons]
