"""Gradients that half precision flushed to zero: what the step computed against what float32 gives.

float16 has no number between 0 and 6e-8. A product of recorded numbers that is not zero in float32,
where the step itself has an exact zero, was too small for the step's precision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from trainobs.linear_ops import sent_back
from trainobs.records import DATA, SiteRecord, StepRecord

Array = np.ndarray
#: The number of gradients that were flushed, and of those that are not zero in float32.
Flushed = tuple[float, float]


def flushed_sums(
    calls: Sequence[SiteRecord], sums: Mapping[str, Array], sent: Flushed | None
) -> dict[str, Array]:
    """The largest part of gradients that were flushed: of the weights, of dJ/dZ, or of dJ/dA.

    Parameters
    ----------
    calls : sequence of SiteRecord
        The calls of one weight.
    sums : mapping of str to array
        Its sums, with `gradient` in float32.
    sent : (float, float) or None
        Of dJ/dA, see `flushed_on_the_way`.

    Returns
    -------
    dict of str to array
        ``flushed`` and ``flushed_of`` ().
    """
    places = [_of_weights(calls[0], sums), *(_of_slopes(call) for call in calls)]
    places += [] if sent is None else [sent]
    lost, of = max(places, key=lambda pair: pair[0] / max(pair[1], 1.0))
    return {"flushed": np.asarray(lost), "flushed_of": np.asarray(of)}


def _of_weights(site: SiteRecord, sums: Mapping[str, Array]) -> Flushed:
    if site.kernel_gradient is None or site.rows is not None or site.penalty_gradient is not None:
        return 0.0, 0.0
    live = np.broadcast_to(sums["gradient"], site.op.canonical_kernel(site.kernel).shape) != 0
    return _counted(site.op.canonical_kernel(site.kernel_gradient), live)


def _of_slopes(site: SiteRecord) -> Flushed:
    if site.output_gradient is None or site.preactivation_gradient is None or site.normalised:
        return 0.0, 0.0
    if not site.activation.elementwise:
        return 0.0, 0.0
    return _counted(site.preactivation_gradient, (site.output_gradient != 0) & (site.slope != 0))


def _counted(gradient: Array, live: Array) -> Flushed:
    """The counts of a step's gradient; `live` says where it is not zero in float32."""
    return float(np.sum(live & (gradient == 0))), float(np.sum(live))


def flushed_on_the_way(record: StepRecord) -> dict[str, Flushed]:
    """The counts of each site's dJ/dA: what its only reader sends in float32, but not in half precision.

    Returns
    -------
    dict of site key to (float, float)
    """
    makers = {(site.activation_node, site.loss): site for site in record.sites if site.role == "kernel"}
    flushed = {}
    for reader in record.sites:
        node = record.nodes[reader.node]
        sole = node.input_gradients[:1] != (None,) and node.producers[:1] != (DATA,) and node.producers
        maker = makers.get((node.producers[0], reader.loss)) if sole else None
        if reader.role != "kernel" or maker is None or "float16" not in (reader.dtype, maker.dtype):
            continue  # what comes back is cast to what the maker computes in
        if maker.output_gradient is None or reader.preactivation_gradient is None:
            continue
        sent = sent_back(reader.op, reader.kernel, reader.preactivation_gradient, reader.input.shape)
        if sent.shape == maker.output_gradient.shape:
            flushed[maker.key] = _counted(maker.output_gradient, sent != 0)
    return flushed
