"""What a layer's activations looked like at a check, and how far two checks are apart.

| symbol | meaning                                             |
|--------|-----------------------------------------------------|
| F, G   | empirical distribution functions of two samples     |
| n, m   | their sizes                                         |
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from trainobs.records import SiteRecord

#: Values that are kept of each activation; the distance of two such samples of the same distribution is
#: below 0.043 with a probability of 99.9 %.
SAMPLE = 4096
#: Kolmogorov's critical value at a level of 0.001: √(−ln(0.001 / 2) / 2).
_CRITICAL = math.sqrt(-math.log(0.001 / 2) / 2)

#: By layer, and by part and call of the layer: a sorted sample.
Samples = dict[str, dict[str, np.ndarray]]


def samples_of(sites: Iterable[SiteRecord]) -> Samples:
    """A sorted sample of each activation of a step.

    Parameters
    ----------
    sites : iterable of SiteRecord

    Returns
    -------
    dict of str to dict of str to array of shape (at most SAMPLE,)
        By layer, and by part and call; only finite values. An activation that several weights share is
        taken once.
    """
    samples: Samples = {}
    seen = set()
    for site in sites:
        if id(site.output) not in seen:
            seen.add(id(site.output))
            samples.setdefault(site.layer, {})[f"{site.key}#{site.call}#{site.loss}"] = _sample(site.output)
    return samples


def _sample(values: np.ndarray) -> np.ndarray:
    """Values at places drawn without pattern, the same ones each time."""
    flat = values.reshape(-1)
    if flat.size > SAMPLE:
        flat = flat[np.random.default_rng(0).integers(0, flat.size, SAMPLE)]
    flat = np.asarray(flat, np.float32)
    return np.sort(flat[np.isfinite(flat)])


def shift(before: dict[str, np.ndarray], now: dict[str, np.ndarray]) -> float:
    """The largest distance of an activation to itself at another check; nan if there is none to compare.

    Parameters
    ----------
    before, now : dict of str to sorted array
        One layer's samples.

    Returns
    -------
    float
        In [0, 1].
    """
    both = [key for key in now if key in before]
    distances = [distance(before[key], now[key]) for key in both if before[key].size and now[key].size]
    return max(distances, default=math.nan)


def distance(first: np.ndarray, second: np.ndarray) -> float:
    """Two-sample Kolmogorov-Smirnov distance, sup |F − G|; 0 where chance alone may explain it.

    Parameters
    ----------
    first, second : sorted arrays of shape (n,) and (m,)

    Returns
    -------
    float
        In [0, 1]. It does not change when both samples are scaled, or mapped by any increasing function.

    Notes
    -----
    Distances up to 1.95 √((n + m) / (n m)), the critical value at a level of 0.001, count as 0.

    References
    ----------
    F. J. Massey: The Kolmogorov-Smirnov test for goodness of fit. JASA 46 (1951).

    Examples
    --------
    >>> distance(np.arange(100.0), np.arange(50.0, 150.0))
    0.5
    """
    places = np.concatenate([first, second])
    cumulative = [np.searchsorted(sample, places, side="right") / sample.size for sample in (first, second)]
    largest = float(np.max(np.abs(cumulative[0] - cumulative[1])))
    chance = _CRITICAL * math.sqrt((first.size + second.size) / (first.size * second.size))
    return largest if largest > chance else 0.0
