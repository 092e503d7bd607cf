"""Views draw an `Explanation`, or the trials of its remedies, as pictures and HTML, and calculate nothing.

May import `analysis` (for the names of the causes) and `explanation`; never `report`, `remedies`, Keras or
TensorFlow. Every `draw_*` takes an explanation and an optional axes, returns the axes and never shows.

1. `_heatmap`, `_layer` with `_kernel_image`, `_flow` and `_remedies` are the pictures.
2. `_fragment` and `_page` are the HTML, made with `_templates` and the sentences in `_definitions`.
3. `_palette` has the colours, `_labels` the words and numbers that several of them show.
"""

from trainobs.views._flow import draw_flow
from trainobs.views._fragment import fragment
from trainobs.views._heatmap import draw_heatmap
from trainobs.views._layer import draw_layer
from trainobs.views._page import write_page
from trainobs.views._remedies import draw_remedies

__all__ = ["draw_flow", "draw_heatmap", "draw_layer", "draw_remedies", "fragment", "write_page"]
