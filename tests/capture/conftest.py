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
