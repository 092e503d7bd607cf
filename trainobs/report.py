"""A report: an explanation with its views, which are pictures and HTML."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from trainobs.explanation import Explanation
from trainobs.views import draw_flow, draw_heatmap, draw_layer, draw_remedies, fragment, write_page

if TYPE_CHECKING:
    import keras
    from matplotlib.axes import Axes

    from trainobs.remedies import Arrays

#: Fields of a `Treatment`.
_COLUMNS = ("cause", "layer", "remedy", "changes", "call")


class Report(Explanation):
    """Why gradients are near zero: tables, plots and sentences about one batch, step or data set.

    Made by `explain_near_zero_gradients`; not meant to be constructed by hand.

    Parameters
    ----------
    statistics : Statistics
        The additive sums of everything that was run.
    thresholds : Thresholds
        What counts as near zero, and when figures become findings.
    selection : Selection, optional
        Which layers the tables show.
    take_look : callable, optional
        Takes a second look at the batch, where the diagnosis needs it.
    try_out : callable, optional
        Runs the batch with something changed, to prove findings.

    Notes
    -----
    Every figure is defined in docs/definitions.md.
    """

    # ---- pictures and pages ------------------------------------------------------------------

    def plot_heatmap(self, ax: Axes | None = None) -> Axes:
        """Draw which causes hold each kernel's near-zero gradients (kernels × causes).

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw. Default: a new figure.

        Returns
        -------
        matplotlib.axes.Axes
        """
        return draw_heatmap(self, ax)

    def plot_layer(self, layer: str, ax: Axes | None = None) -> Axes:
        """Draw a kernel with every weight coloured by its verdict, units and inputs beside it.

        Parameters
        ----------
        layer : str
            A layer's name, or the path of its kernel.
        ax : matplotlib.axes.Axes, optional
            Where to draw. Default: a new figure.

        Returns
        -------
        matplotlib.axes.Axes
            The axes of the kernel.
        """
        return draw_layer(self, layer, ax)

    def plot_flow(self, ax: Axes | None = None) -> Axes:
        """Draw gradient size and zero fraction from the loss back to the input.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw. Default: a new figure.

        Returns
        -------
        matplotlib.axes.Axes
        """
        return draw_flow(self, ax)

    def _repr_html_(self) -> str:
        return fragment(self)

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write the report as one HTML file: findings, tables and plots, nothing loaded from outside.

        Parameters
        ----------
        path : str or path-like
            The file to write; an existing one is replaced.
        """
        write_page(self, path)

    # ---- remedies ----------------------------------------------------------------------------

    def remedies(self) -> pd.DataFrame:
        """What may help against the findings, of all remedies that are registered.

        Returns
        -------
        pandas.DataFrame
            A row per finding and remedy, the worst finding first: `cause` and `layer` of the finding,
            `remedy`, `changes` (a sentence) and `call` (as code). Whether it does help is what
            `try_remedies` finds out.
        """
        from trainobs.remedies import treatments

        rows = [{name: getattr(treatment, name) for name in _COLUMNS} for treatment in treatments(self)]
        return pd.DataFrame(rows, columns=list(_COLUMNS))

    def try_remedies(
        self,
        model: keras.Model,
        x: Arrays,
        y: Arrays,
        *,
        steps: int = 20,
        batch_size: int = 32,
        seed: int = 0,
        remedies: Iterable[str] | None = None,
    ) -> pd.DataFrame:
        """Apply each remedy to a copy of the model, explain and train it again, and rank them.

        Parameters
        ----------
        model : keras.Model
            The model that this report explains; it is left as it is.
        x, y : array or structure of arrays of shape (samples, …)
            What is explained again, and trained on.
        steps, batch_size, seed, remedies
            See `trainobs.remedies.try_remedies`, which tells the columns too.

        Returns
        -------
        pandas.DataFrame
            The best remedy first; `plot_remedies` draws it.

        Examples
        --------
        >>> import keras, numpy as np, trainobs
        >>> keras.utils.set_random_seed(0)
        >>> hidden = keras.layers.Dense(8, "relu", kernel_initializer="zeros", name="hidden")
        >>> model = keras.Sequential([keras.Input((4,)), hidden, keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> x, y = np.random.default_rng(0).normal(size=(2, 64, 4)).astype("float32")
        >>> report = trainobs.explain_near_zero_gradients(model, x, y[:, :1])
        >>> report.try_remedies(model, x, y[:, :1], steps=2)[["remedy", "gone"]].values.tolist()
        [['re-initialise', True]]
        """
        from trainobs.remedies import try_remedies

        return try_remedies(
            self, model, x, y, steps=steps, batch_size=batch_size, seed=seed, remedies=remedies
        )

    def plot_remedies(self, trials: pd.DataFrame) -> np.ndarray:
        """Draw near-zero gradients and loss before and after each remedy.

        Parameters
        ----------
        trials : pandas.DataFrame
            From `try_remedies`.

        Returns
        -------
        array of two matplotlib.axes.Axes
        """
        return draw_remedies(trials)
