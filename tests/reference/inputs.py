"""What input channels are like, and what a fresh layer makes of them, as docs/definitions.md defines it."""

import math

import numpy as np


def channels(values, *, rtol=1e-3):
    """By name, a figure for each channel of an input of shape (n, *p, channels)."""
    found = {"mean": [], "deviation": [], "one_signed": [], "dead": []}
    for channel in range(values.shape[-1]):
        of_channel = [float(value) for value in np.asarray(values, np.float64)[..., channel].ravel()]
        mean = math.fsum(of_channel) / len(of_channel)
        square = math.fsum(value**2 for value in of_channel) / len(of_channel)
        variance = math.fsum((value - mean) ** 2 for value in of_channel) / len(of_channel)
        signs = [math.fsum(abs(v) for v in of_channel if sign * v > 0) for sign in (-1, 1)]
        found["mean"].append(mean)
        found["deviation"].append(math.sqrt(variance) if variance > rtol**2 * square else 0.0)
        found["one_signed"].append(min(signs) <= rtol * sum(signs))
        found["dead"].append(all(abs(value) <= rtol for value in of_channel))
    return {name: np.array(values) for name, values in found.items()}


def fresh_units_off(found, *, window, groups, sigmas=3.0):
    """The part of a fresh layer's units that would be dead, from figures of `channels`."""
    mean, deviation = (math.sqrt(np.mean(found[name] ** 2)) for name in ("mean", "deviation"))
    far = 0.0 if mean == 0 else math.erfc(sigmas * deviation / mean / math.sqrt(2)) / 2
    live = [signed for signed, dead in zip(found["one_signed"], found["dead"], strict=True) if not dead]
    of_one_sign = 0.5 ** (window * len(live) / groups) if live and all(live) else 0.0
    return max(far, of_one_sign)
