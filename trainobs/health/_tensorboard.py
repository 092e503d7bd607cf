"""TensorBoard event files: a scalar per figure, and the heatmap of causes as an image.

Written by `tf.summary.write`, which is TensorFlow's own: the package tensorboard need not be there. The
plugins of TensorBoard know a summary by its metadata: "scalars" takes a float32 tensor of rank 0, "images" a
string tensor (width, height, PNG, …).
"""

from __future__ import annotations

import io
import os

import numpy as np

from trainobs.analysis import condensed
from trainobs.records import StepRecord
from trainobs.report import Report
from trainobs.statistics import gather
from trainobs.thresholds import Thresholds

_INCHES_WIDE, _INCHES_PER_ROW, _DOTS = 10.5, 0.3, 100


class EventFiles:
    """A writer of one directory, for one fit.

    Parameters
    ----------
    log_dir : str or path-like
        Where TensorBoard looks; made if it is not there.
    """

    def __init__(self, log_dir: str | os.PathLike[str]) -> None:
        import tensorflow as tf

        self._writer = tf.summary.create_file_writer(str(log_dir), filename_suffix=".health")

    def scalars(self, values: dict[str, float], step: int) -> None:
        """Write numbers under "health/<name>".

        Parameters
        ----------
        values : dict of str to float
        step : int
        """
        for name, value in values.items():
            self._write(f"health/{name}", np.float32(value), step, "scalars", "DATA_CLASS_SCALAR")

    def image(self, name: str, png: bytes, width: int, height: int, step: int) -> None:
        """Write a picture under "health/<name>".

        Parameters
        ----------
        name : str
        png : bytes
            The file's content.
        width, height : int
            In pixels.
        step : int
        """
        strings = [str(width).encode(), str(height).encode(), png]
        self._write(f"health/{name}", strings, step, "images", "DATA_CLASS_BLOB_SEQUENCE")

    def _write(
        self, tag: str, value: np.float32 | list[bytes], step: int, plugin: str, data_class: str
    ) -> None:
        import tensorflow as tf

        metadata = tf.compat.v1.SummaryMetadata()
        metadata.plugin_data.plugin_name = plugin
        metadata.data_class = (
            type(metadata).DESCRIPTOR.fields_by_name["data_class"].enum_type.values_by_name[data_class].number
        )
        with self._writer.as_default(step=step):
            tf.summary.write(tag, value, step=step, metadata=metadata)

    def flush(self) -> None:
        """Bring what was written to the disk."""
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


def heatmap_png(record: StepRecord, thresholds: Thresholds) -> tuple[bytes, int, int]:
    """The heatmap of causes of one step, as a PNG file with its width and height in pixels.

    Parameters
    ----------
    record : StepRecord
    thresholds : Thresholds

    Returns
    -------
    (bytes, int, int)

    Notes
    -----
    The figure is drawn without pyplot: no backend is chosen, and none is left open.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    statistics = gather(record, thresholds.near_zero, pinv=False, condense=condensed)
    report = Report(statistics, thresholds)
    height = 1.9 + _INCHES_PER_ROW * max(len(report.kernels), 2)
    figure = Figure(figsize=(_INCHES_WIDE, height), dpi=_DOTS, layout="constrained")
    canvas = FigureCanvasAgg(figure)  # the figure's own from now on
    report.plot_heatmap(figure.subplots())
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    width, tall = canvas.get_width_height()
    return buffer.getvalue(), int(width), int(tall)
