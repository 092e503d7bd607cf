"""What the full per-weight attribution of one site costs, against one weight VJP of that site.

Run by hand (`python -m tests.benchmarks.attribution`). Time is a ratio, interleaved in one run;
memory is the growth of the process's peak, in a process of its own.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

from trainobs.activations import PROBE_GRID, Activation
from trainobs.linear_ops import ConvOp, DenseOp, weight_vjp
from trainobs.records import SiteRecord
from trainobs.statistics._site_sums import sum_site
from trainobs.thresholds import NearZero

ROUNDS = 7
CASES = {
    "Dense 2048×2048, batch 1024": (DenseOp(), (1024, 2048), (2048, 2048), (1024, 2048)),
    "Conv 3×3 32→64 on 28×28, batch 256": (
        ConvOp((1, 1), "same", (1, 1)),
        (256, 28, 28, 32),
        (3, 3, 32, 64),
        (256, 28, 28, 64),
    ),
}


def make_site(name: str) -> SiteRecord:
    """A ReLU site with random arrays."""
    op, input_shape, kernel_shape, unit_shape = CASES[name]
    rng = np.random.default_rng(0)
    draw = lambda shape: rng.standard_normal(shape, np.float32)  # noqa: E731
    z, g = draw(unit_shape), draw(unit_shape) / unit_shape[0]
    slope = (z > 0).astype(np.float32)
    relu = Activation("relu", "layer", tuple(float(v) for v in PROBE_GRID > 0))
    return SiteRecord(
        layer="layer",
        kind="Dense",
        weight="layer/kernel",
        call=0,
        node=0,
        activation_node=0,
        op=op,
        dtype="float32",
        activation=relu,
        trainable=True,
        logits=False,
        normalised=False,
        consumers=(),
        input=np.maximum(draw(input_shape), 0),
        kernel=draw(kernel_shape),
        preactivation=z,
        activation_input=z,
        output=z * slope,
        slope=slope,
        offset=draw(unit_shape[-1:]),
        output_gradient=g,
        preactivation_gradient=g * slope,
    )


def time_ratios(name: str) -> tuple[float, float]:
    """Median ratios of the attribution to one compiled VJP: of the same arrays, and of tensors.

    Attribution starts from a record's NumPy arrays, which it has to copy; so does the first VJP.
    """
    site = make_site(name)
    vjp = tf.function(lambda a, d: weight_vjp(site.op, a, d, site.kernel.shape))
    a, d = tf.constant(site.input), tf.constant(site.preactivation_gradient)
    ratios = []
    for round_ in range(ROUNDS + 1):
        begin = time.perf_counter()
        vjp(tf.constant(site.input), tf.constant(site.preactivation_gradient)).numpy()
        start = time.perf_counter()
        vjp(a, d).numpy()
        middle = time.perf_counter()
        sum_site(site, NearZero(), 0.3, site.positions)
        end = time.perf_counter()
        if round_:  # the first round traces
            ratios.append([(end - middle) / vjp_time for vjp_time in (start - begin, middle - start)])
    of_arrays, of_tensors = (statistics.median(found) for found in zip(*ratios, strict=True))
    return of_arrays, of_tensors


def memory_of(name: str) -> tuple[float, float]:
    """Growth of the peak memory by one attribution, and its bar, in MB."""
    site = make_site(name)
    small = make_small(site)
    sum_site(small, NearZero(), 0.3, small.positions)  # libraries and threads are loaded
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = _peak_kilobytes()
    sum_site(site, NearZero(), 0.3, site.positions)
    after = _peak_kilobytes()
    bar = 12 * site.kernel.nbytes + 6 * (site.input.nbytes + site.output.nbytes)
    return (after - before) / 1e3, bar / 1e6


def _peak_kilobytes() -> float:
    status = Path("/proc/self/status").read_text()
    return float(status.split("VmHWM:")[1].split()[0])


def make_small(site: SiteRecord) -> SiteRecord:
    """The first two samples of a site."""
    import dataclasses

    names = (
        "input", "preactivation", "activation_input", "output", "slope", "output_gradient",
        "preactivation_gradient",
    )  # fmt: skip
    return dataclasses.replace(site, **{name: getattr(site, name)[:2] for name in names})


def main() -> None:
    """Print every figure beside its bar."""
    for name in CASES:
        arrays, tensors = time_ratios(name)
        print(
            f"{name:36} time   {arrays:6.2f} × one VJP (bar 12; {tensors:.2f} × one of tensors)", flush=True
        )
        command = [sys.executable, "-m", "tests.benchmarks.attribution", name]
        grown, bar = map(float, subprocess.check_output(command, text=True).split()[-2:])
        print(f"{name:36} memory {grown:6.0f} MB (bar {bar:.0f} MB)", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(*memory_of(sys.argv[1]))
    else:
        main()
