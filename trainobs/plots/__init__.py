"""This folder draws a `Report`, or the trials of its remedies, and calculates nothing.

It may import `analysis` (for the names of the causes), NumPy, pandas and matplotlib; never Keras or
TensorFlow. Every `draw_*` takes a report and an optional axes, returns the axes and never shows.
"""

from trainobs.plots._flow import draw_flow
from trainobs.plots._heatmap import draw_heatmap
from trainobs.plots._layer import draw_layer
from trainobs.plots._remedies import draw_remedies

__all__ = ["draw_flow", "draw_heatmap", "draw_layer", "draw_remedies"]
