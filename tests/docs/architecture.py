"""Picture and table of docs/architecture.md, from the imports: ``python -m tests.docs.architecture``.

A room is a folder or file of the package. An arrow says who imports whom, function-level imports counted; one
that follows from others is left out.
"""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

import trainobs

ROOT = Path(trainobs.__file__).parent
DOCS = ROOT.parent / "docs"
PAGE, PICTURE = DOCS / "architecture.md", DOCS / "images" / "architecture.png"
BEGIN, END = "<!-- begin: from the docstrings and imports of trainobs -->", "<!-- end -->"
#: What users type; it imports nothing of its own.
FACADES = {"__init__", "__main__"}
#: What ``import trainobs`` gives to a room that uses the package as its users do.
DOORS = {"explain", "health", "recorder", "remedies"}

#: Where rooms may stand on their floors, half of their width, and how often each is moved.
SLOTS = tuple(0.05 + 0.045 * number for number in range(21))
HALF_WIDTH, ROUNDS = 0.055, 5

Graph = dict[str, set[str]]


def rooms() -> dict[str, list[Path]]:
    """The files of each room, by its name."""
    found: dict[str, list[Path]] = {}
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).with_suffix("").parts[0]
        if name not in FACADES:
            found.setdefault(name, []).append(path)
    return found


@functools.cache
def imports() -> Graph:
    """For each room those that it imports when it runs."""
    known = rooms()
    used = {name: set().union(*map(_imported_rooms, files)) for name, files in known.items()}
    return {name: others & known.keys() - {name} for name, others in used.items()}


def _imported_rooms(path: Path) -> set[str]:
    found = set()
    for node in _running(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("trainobs"):
            parts = (node.module or "").split(".")[1:]
            found |= set(parts[:1]) if parts else {alias.name for alias in node.names}
        if isinstance(node, ast.Import) and any(alias.name == "trainobs" for alias in node.names):
            found |= DOORS
    return found


def _running(tree: ast.AST):
    """All nodes but those that only a type checker reads."""
    for child in ast.iter_child_nodes(tree):
        if not (isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING")):
            yield child
            yield from _running(child)


def law(name: str) -> str:
    """What a room is for: the first sentence of its docstring."""
    folder = ROOT / name / "__init__.py"
    tree = ast.parse((folder if folder.exists() else ROOT / f"{name}.py").read_text("utf-8"))
    return " ".join((ast.get_docstring(tree) or "").split("\n\n")[0].split())


#: The one arrow against the direction, inside a function: `Report.try_remedies` is a door to a room below.
KNOWN_LAZY = {("report", "remedies")}


def floors(graph: Graph) -> dict[str, int]:
    """How far a room is from the top: one more than the lowest that it imports."""
    found: dict[str, int] = {}

    def floor(name: str) -> int:
        if name not in found:
            below = [floor(o) for o in graph[name] if (name, o) not in KNOWN_LAZY]
            found[name] = 1 + max(below, default=-1)
        return found[name]

    for name in graph:
        floor(name)
    return found


def reduced(graph: Graph) -> list[tuple[str, str]]:
    """The arrows that do not follow from others."""

    @functools.cache
    def reached(name: str) -> frozenset[str]:
        direct = {o for o in graph[name] if (name, o) not in KNOWN_LAZY}
        return frozenset(direct.union(*(reached(other) for other in direct)))

    return [
        (name, other)
        for name, others in graph.items()
        for other in sorted(others)
        if (name, other) in KNOWN_LAZY
        or not any(other in reached(b) for b in others - {other} if (name, b) not in KNOWN_LAZY)
    ]


def draw(path: Path = PICTURE) -> Axes:
    """Draw the rooms, each below those that it imports."""
    graph, places = imports(), _places(floors(imports()))
    height = 1 + max(y for _, y in places.values())
    ax = plt.figure(figsize=(10, 0.8 * height), dpi=110).add_axes((0.01, 0.01, 0.98, 0.94))
    ax.set(xlim=(-0.02, 1.02), ylim=(height - 0.4, -0.6))
    ax.axis("off")
    boxes = {name: _box(ax, name, place) for name, place in places.items()}
    ax.figure.canvas.draw()  # boxes have their sizes now
    for name, other in reduced(graph):
        style = dict(arrowstyle="-|>", color="#9AA3AB", shrinkA=0, shrinkB=1)
        if (name, other) in KNOWN_LAZY:
            style |= dict(color="#B02A37", linestyle=":", connectionstyle="arc3,rad=0.4")
        style |= dict(patchA=boxes[name], patchB=boxes[other])
        ax.annotate("", places[other], places[name], arrowprops=style, zorder=1)
    ax.set_title("Arrows point to what a room imports", loc="left", fontsize=11, color="#212529")
    ax.figure.savefig(path)
    return ax


def _box(ax: Axes, name: str, place: tuple[float, float]):
    style = dict(boxstyle="round,pad=0.45", facecolor="#F4F6F8", edgecolor="#6C757D")
    text = ax.text(*place, name, ha="center", va="center", fontsize=10, color="#212529", bbox=style, zorder=3)
    return text.get_bbox_patch()


def _places(levels: dict[str, int]) -> dict[str, tuple[float, float]]:
    """Where a room stands: on its floor, where arrows are short, and few pass behind rooms or cross."""
    arrows, places = reduced(imports()), _evenly(levels)
    for _ in range(ROUNDS):
        for name, (_, level) in places.items():
            beside = [x for other, (x, y) in places.items() if y == level and other != name]
            free = [x for x in SLOTS if all(abs(x - other) > 2 * HALF_WIDTH for other in beside)]
            tried = [places | {name: (x, level)} for x in (*free, places[name][0])]
            places = min(tried, key=lambda places: _tangled(places, arrows))
    return places


def _evenly(levels: dict[str, int]) -> dict[str, tuple[float, float]]:
    floor_of = {
        level: sorted((name for name in levels if levels[name] == level), reverse=True)
        for level in levels.values()
    }
    return {
        name: ((number + 0.5) / len(names), float(level))
        for level, names in sorted(floor_of.items())
        for number, name in enumerate(names)
    }


def _tangled(places: dict[str, tuple[float, float]], arrows: list[tuple[str, str]]) -> float:
    """How hard a picture is to read: lengths, arrows behind rooms, and crossings."""
    lines = [(*places[name], *places[other]) for name, other in arrows]
    length = sum(abs(x - to_x) for x, _, to_x, _ in lines)
    hidden = sum(_is_behind(line, place) for line in lines for place in places.values())
    crossings = sum(_cross(a, b) for number, a in enumerate(lines) for b in lines[:number])
    return length + 2.0 * hidden + 0.2 * crossings


def _at(line: tuple[float, ...], level: float) -> float:
    """Where a line is on a floor."""
    x, y, to_x, to_y = line
    return x + (to_x - x) * (level - y) / (to_y - y)


def _is_behind(line: tuple[float, ...], place: tuple[float, float]) -> bool:
    """Whether a line passes behind a room that stands between its ends."""
    low, high = sorted((line[1], line[3]))
    return low < place[1] < high and abs(_at(line, place[1]) - place[0]) < HALF_WIDTH


def _cross(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    top, bottom = max(min(a[1], a[3]), min(b[1], b[3])), min(max(a[1], a[3]), max(b[1], b[3]))
    return top < bottom and (_at(a, top) - _at(b, top)) * (_at(a, bottom) - _at(b, bottom)) < 0


def table() -> str:
    """A row per room, from the top."""
    levels, graph = floors(imports()), imports()
    rows = ["| room | what it is | imports |", "|---|---|---|"]
    for name in sorted(graph, key=lambda name: (levels[name], name)):
        others = ", ".join(sorted(graph[name], key=lambda other: (levels[other], other))) or "–"
        rows.append(f"| `{name}` | {law(name)} | {others} |")
    return "\n".join(rows)


def page() -> str:
    """The page with its table made anew."""
    before, rest = PAGE.read_text("utf-8").split(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.split(END, 1)[1]}"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
    draw()
