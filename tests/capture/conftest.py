"""Fixtures for tests that compare bits."""

from collections.abc import Iterator

import pytest
import tensorflow as tf


@pytest.fixture
def graphs_as_written() -> Iterator[None]:
    """TensorFlow runs the ops as they are.

    Its graph optimizer, Grappler, fuses some (MatMul, BiasAdd, Tanh) where nobody reads what is
    between them; the fused op rounds differently, and a tap is such a reader.
    """
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    yield
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})


#: Long suites: `pytest -m slow tests/capture` runs them.
NIGHTLY = ("test_nothing_left.py", "test_records.py", "test_same_training.py")
#: Steps are counted when Keras begins them: one that a data set ends with, or executions of fewer
#: steps than asked for, are counted too. To be mended.
COUNTED_TOO_EARLY = (
    "test_every_step_of_two_fits[dataset_of_unknown_length]",
    "test_generator_that_ends",
    "test_ragged_executions[1]",
    "test_ragged_executions[2]",
)


def pytest_collection_modifyitems(items):
    """Mark the long suites, and what is known not to hold yet."""
    for item in items:
        if item.path.parent.name == "capture" and item.path.name in NIGHTLY:
            item.add_marker(pytest.mark.slow)
        if item.name == "test_training_is_bit_equal[dense-silu]":
            reason = "silu in front of dropout: something that is read is fused otherwise; equal to rounding"
            item.add_marker(pytest.mark.xfail(reason=reason, strict=False))
        if item.name in COUNTED_TOO_EARLY:
            item.add_marker(pytest.mark.xfail(reason="steps are counted when they begin", strict=False))
