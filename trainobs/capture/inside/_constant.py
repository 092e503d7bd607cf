"""Where a softmax puts out the same whatever it reads."""

from __future__ import annotations

import numpy as np

from trainobs.capture.inside._broken import SOFTMAX
from trainobs.capture.inside._watching import Operation
from trainobs.capture.inside._ways import Ways, values_of
from trainobs.records import Constant

#: Scores below -5,000 are masked, unless others are as far above 0: the masks of BERT add -10,000, those of
#: Keras -30,000 in half precision, and else far more.
_MASKED = 5000.0
_SELECTS = ("Select", "SelectV2")


def constant_softmax(ways: Ways, silencer: Operation) -> tuple[Operation, Constant]:
    """The softmax because of which an operation sends zeros back, and why it is constant.

    Else the operation itself, and "". A mask that chooses (`tf.where`) sends zeros back itself where it
    covers all scores.
    """
    softmax = silencer if silencer.type in SOFTMAX else _behind_mask(ways, silencer)
    why = "" if softmax is None else _why_constant(values_of(softmax.inputs[0]))
    return (softmax, why) if softmax is not None and why else (silencer, "")


def _behind_mask(ways: Ways, silencer: Operation) -> Operation | None:
    """The softmax that reads scores right behind a mask."""
    readers = ways.readers(silencer.outputs[0]) if silencer.type in _SELECTS else []
    return next((reader for reader in readers if reader.type in SOFTMAX), None)


def _why_constant(scores: np.ndarray) -> Constant:
    """Why a softmax over the last axis is constant, if it is."""
    if scores.shape[-1] == 1:
        return "single"
    if np.max(scores, initial=0) > _MASKED:
        return ""
    left = int(np.max(np.sum(scores > -_MASKED, axis=-1), initial=0))
    reasons: dict[int, Constant] = {0: "none left", 1: "one left"}
    return reasons.get(left, "")
