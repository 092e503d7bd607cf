"""Whole networks, as people train them: every weight is explained, and its terms add up."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest
from keras import layers

import trainobs

Network = tuple[keras.Model, np.ndarray, np.ndarray]


def application(name: str, size: int = 32) -> Network:
    """A network of Keras' own on images of values from 0 to 255."""
    model = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3), classes=5)
    rng = np.random.default_rng(0)
    return compiled(model, rng.uniform(0, 255, (4, size, size, 3)).astype(np.float32), rng.integers(0, 5, 4))


def transformer() -> Network:
    """An encoder with masked tokens."""
    tokens = keras.Input((12,), dtype="int32")
    x = layers.Embedding(50, 16, mask_zero=True)(tokens)
    for _ in range(2):
        x = layers.LayerNormalization()(layers.Add()([x, layers.MultiHeadAttention(2, 8)(x, x)]))
        inner = layers.Dense(16)(layers.Dense(32, activation="gelu")(x))
        x = layers.LayerNormalization()(layers.Add()([x, inner]))
    head = layers.Dense(5, activation="softmax")(layers.GlobalAveragePooling1D()(x))
    rng = np.random.default_rng(0)
    return compiled(keras.Model(tokens, head), rng.integers(0, 50, (8, 12)), rng.integers(0, 5, 8))


def unet() -> Network:
    """Down and up again, with skips."""
    image = keras.Input((16, 16, 3))
    x, skips = image, []
    for filters in (4, 8):
        x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(filters, 3, padding="same")(x)))
        skips.append(x)
        x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(x)
    for filters, skip in ((8, skips[1]), (4, skips[0])):
        x = layers.Conv2DTranspose(filters, 2, strides=2)(x)
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(layers.Concatenate()([x, skip]))
    model = keras.Model(image, layers.Conv2D(2, 1, activation="softmax")(x))
    rng = np.random.default_rng(0)
    return compiled(
        model, rng.normal(size=(4, 16, 16, 3)).astype(np.float32), rng.integers(0, 2, (4, 16, 16))
    )


def compiled(model: keras.Model, x: np.ndarray, y: np.ndarray) -> Network:
    """The network ready to train."""
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model, x, y


#: In an order from quick to slow; most of the large ones are left to the nightly profile.
NETWORKS: list[object] = [
    pytest.param(transformer, id="transformer"),
    pytest.param(unet, id="u-net"),
    pytest.param(lambda: application("MobileNetV2", 96), id="MobileNetV2"),
    pytest.param(lambda: application("ResNet50"), id="ResNet50", marks=pytest.mark.slow),
    pytest.param(lambda: application("EfficientNetB0"), id="EfficientNetB0", marks=pytest.mark.slow),
    pytest.param(lambda: application("DenseNet121"), id="DenseNet121", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("make", NETWORKS)
def test_every_weight_is_explained(make: Callable[[], Network]) -> None:
    """Each trainable weight has one row, its terms add up to the tape's gradient, its shares to 1."""
    model, x, y = make()
    table = trainobs.explain_near_zero_gradients(model, x, y).layers
    assert sorted(table.index) == sorted(v.path for v in model.trainable_variables)
    assert table["residual"].max() < 1e-5
    assert not table["residual"].isna().any()
    shares = table.filter(like="share_")[table["near_zero"] > 0].sum(axis=1)
    np.testing.assert_allclose(shares, 1.0, rtol=1e-9)


@pytest.mark.parametrize("make", NETWORKS[:2])
def test_a_fresh_network_has_no_finding_but_info(make: Callable[[], Network]) -> None:
    """A network that is only initialised is healthy."""
    findings = trainobs.explain_near_zero_gradients(*make()).findings
    assert set(findings["severity"]) <= {"info"}, findings[["severity", "cause", "layer"]]
