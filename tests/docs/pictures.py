"""The README's pictures, all of the demo's broken network: ``python -m tests.docs.pictures``."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import keras
import matplotlib as mpl

import trainobs
from tests.docs.pages import ROOT
from trainobs.demo import BROKEN, build_model, load_digits, write_views

IMAGES = ROOT / "docs" / "images"
#: What the demo calls its pictures, and what the pages do.
NAMES = {"heatmap.png": "heatmap.png", "flow.png": "flow.png", f"{BROKEN}.png": "layer.png"}


def draw() -> None:
    """Train and break the network as the demo does, explain it, try remedies, and draw."""
    mpl.use("Agg")
    keras.utils.set_random_seed(0)
    x, y = load_digits()
    model = build_model()
    model.fit(x, y, epochs=2, batch_size=64, verbose=0)
    bias = model.get_layer(BROKEN).bias
    bias.assign(bias - 20.0)
    model.fit(x, y, epochs=1, batch_size=64, verbose=0)
    x, y = x[:1024], y[:1024]
    report = trainobs.explain_near_zero_gradients(model, x, y)
    with tempfile.TemporaryDirectory() as folder:
        write_views(report, Path(folder))
        for name, page in NAMES.items():
            shutil.copy(Path(folder) / name, IMAGES / page)
    axes = report.plot_remedies(report.try_remedies(model, x, y))
    axes[0].figure.savefig(IMAGES / "remedies.png", dpi=120, bbox_inches="tight")


if __name__ == "__main__":
    draw()
