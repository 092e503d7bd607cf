"""What the front doors refuse."""

from __future__ import annotations

import pytest

import trainobs
from tests.unit.health.nets import digits, small_mlp
from trainobs.errors import InvalidArgument, NotRecorded
from trainobs.health import GradientHealth, check_health


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"act": ("shout",)}, "`act` must be a subset"),
        ({"log": 3}, "`log` must be callable"),
        ({"thresholds": "common"}, "Thresholds.preset"),
        ({"every": 0}, "`every` must be a positive integer"),
        ({"act": "clip", "layers": "dense"}, "needs the norm of all gradients"),
    ],
)
def test_arguments_are_checked(arguments, text):
    """Of the callback, when it is made."""
    with pytest.raises(InvalidArgument, match=text):
        GradientHealth(**arguments)


def test_sources_are_checked():
    """A step goes with a recording, data with a model."""
    model = small_mlp()
    with pytest.raises(InvalidArgument, match="`step` goes with"):
        check_health(model, *digits(), step=3)
    with pytest.raises(InvalidArgument, match="needs data"):
        check_health(model)
    with pytest.raises(NotRecorded):
        check_health(trainobs.Recorder())
    with pytest.raises(InvalidArgument, match="has its own data"):
        check_health(trainobs.Recording(()), *digits())
    recorder = trainobs.Recorder(keep="statistics")
    model.fit(*digits(), batch_size=256, verbose=0, callbacks=[recorder])
    with pytest.raises(InvalidArgument, match="not its tensors"):
        check_health(recorder)
