"""Which layers a user asks for: names, patterns such as "conv*", or layer classes."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from typing import TYPE_CHECKING

from trainobs.errors import InvalidArgument

if TYPE_CHECKING:
    import keras

    from trainobs.records import SiteRecord, WeightRecord

#: What a user may pass as `layers`.
Layers = str | type | Iterable[str | type] | None


class Selection:
    """A predicate over layers.

    Parameters
    ----------
    layers : str, type, or list of them, optional
        Names or paths (shell patterns allowed) and layer classes. None selects every layer.

    Examples
    --------
    >>> Selection("conv*").matches("conv2d_1", "model/conv2d_1/kernel", ("Conv2D",))
    True
    """

    def __init__(self, layers: Layers = None) -> None:
        wanted = [layers] if isinstance(layers, (str, type)) else layers
        if wanted is not None and not isinstance(wanted, Iterable):
            raise InvalidArgument(
                f"`layers` must be a layer name, a pattern, a layer class, or a list of them. "
                f"Received: {layers!r}."
            )
        self._wanted = None if wanted is None else tuple(wanted)
        for item in self._wanted or ():
            if not isinstance(item, (str, type)):
                raise InvalidArgument(
                    f"`layers` must contain names, patterns or layer classes. Received: {item!r} "
                    f"(of type {type(item).__name__}). For a layer object pass `layer.name`."
                )

    def matches(self, layer: str, path: str, bases: tuple[str, ...]) -> bool:
        """Whether a layer of this name, path (its own or a weight's) and classes is selected."""
        parent, _, last = (path or layer).rpartition("/")  # an unbuilt layer has no path
        own = path if last == layer else parent
        names = (layer, path or layer, own, f"{own}/kernel")
        return self._wanted is None or any(
            item.__name__ in bases
            if isinstance(item, type)
            else any(fnmatch.fnmatchcase(name, item) for name in names)
            for item in self._wanted
        )

    def of_layer(self, layer: keras.Layer) -> bool:
        """Whether a Keras layer is selected."""
        return self.matches(layer.name, layer.path, tuple(base.__name__ for base in type(layer).__mro__))

    def of_record(self, of: SiteRecord | WeightRecord) -> bool:
        """Whether the layer that a recorded weight belongs to is selected."""
        return self.matches(of.layer, of.weight, of.bases)

    def check(self, known: dict[str, tuple[str, tuple[str, ...]]]) -> None:
        """Refuse a selection that matches nothing.

        Parameters
        ----------
        known : dict of str to (str, tuple of str)
            By path: name and classes of the layers there are.
        """
        if not any(self.matches(name, path, bases) for path, (name, bases) in known.items()):
            there = ", ".join(f"{name} ({bases[0]})" for name, bases in known.values())
            raise InvalidArgument(
                f"`layers={list(self._wanted or ())!r}` matches no layer with a kernel. There are: {there}."
            )
