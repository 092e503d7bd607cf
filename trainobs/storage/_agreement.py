"""Whether the parts of a record fit together: numbers of nodes, and shapes of arrays that belong together."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from trainobs.records import DATA, SiteRecord, StepRecord
from trainobs.statistics import SUMS, SiteStatistics, Statistics

#: Fields of a site that have the shape of another one, where there are any.
_ALIKE = (
    ("slope", "output"),
    ("output_gradient", "output"),
    ("preactivation_gradient", "preactivation"),
    ("kernel_gradient", "kernel"),
    ("penalty_gradient", "kernel"),
)


def check_agreement(record: StepRecord | Statistics) -> None:
    """Refuse what would give wrong figures, or an error that no one understands.

    Raises
    ------
    ValueError
        If a node that is referred to does not exist, or arrays that belong together have other shapes.
    """
    number = len(record.nodes)
    for node in record.nodes:
        _check_nodes(node.producers, number, f"a producer of {node.layer}")
    _check_nodes((output.node for output in record.outputs), number, "the node of an output")
    if isinstance(record, StepRecord):
        _check_step(record, number)
    else:
        _check_statistics(record, number)


def _check_step(record: StepRecord, number: int) -> None:
    for weight in record.weights:
        _check_nodes(weight.nodes, number, f"a node of {weight.weight}", first=0)
    for site in record.sites:
        _check_nodes((site.node, site.activation_node), number, f"a node of {site.weight}", first=0)
        for name, like in _ALIKE:
            _check_alike(site, name, like)


def _check_alike(site: SiteRecord, name: str, like: str) -> None:
    array, other = getattr(site, name), getattr(site, like)
    if array is not None and array.shape != other.shape:
        raise ValueError(
            f"`{name}` of {site.weight} has the shape {array.shape}, where `{like}` has {other.shape}"
        )


def _check_statistics(record: Statistics, number: int) -> None:
    for whole in record.others.values():
        _check_nodes(whole.info.nodes, number, f"a node of {whole.info.weight}", first=0)
    for site in record.sites.values():
        info = site.info
        _check_nodes((info.node, info.activation_node), number, f"a node of {info.weight}", first=0)
        for name, values in site.sums.items():
            _check_sum(site, name, values)


def _check_sum(site: SiteStatistics, name: str, values: np.ndarray) -> None:
    """A sum over terms has the kernel's axes, each whole or of size 1; one over units has one for each."""
    axes, kernel, shape = SUMS[name].axes, site.kernel.shape, np.shape(values)
    if axes.startswith("k"):
        fitting = len(shape) == len(kernel) and all(a in (1, b) for a, b in zip(shape, kernel, strict=True))
    else:
        fitting = len(shape) == len(axes) and (axes != "j" or shape[0] in (1, kernel[-1]))
    if not fitting:
        raise ValueError(f"the sum {name!r} of {site.info.weight} has the shape {shape}, its kernel {kernel}")


def _check_nodes(nodes: Iterable[int], number: int, what: str, first: int = DATA) -> None:
    wrong = [node for node in nodes if not first <= node < number]
    if wrong:
        raise ValueError(f"{what} is node {wrong[0]}, and there are {number} nodes")
