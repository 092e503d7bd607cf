"""Nets that learn distances: siamese, triplets, contrasts."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from tests.faults.models import dense, small_digits
from tests.faults.strangers.cases import KERAS, KERAS_IO, TENSORFLOW, Built, Family, compiled, normal

CASES = Family()


def _embedder(last: str | None = None, width: int = 8) -> keras.Model:
    hidden = [dense(32, "hidden"), dense(width, "embedding", last)]
    return keras.Sequential([keras.Input((64,)), *hidden], name="embedder")


def _pairs() -> tuple[list[np.ndarray], np.ndarray]:
    """Pairs of digits, the first 16 of which are one and the same image; 1 if they are of a class."""
    x, y = small_digits()
    left, right = np.arange(256), np.random.default_rng(0).permutation(256)
    right[:16] = left[:16]
    return [x[left], x[right]], (y[left] == y[right]).astype("float32")[:, None]


def _contrastive(y: tf.Tensor, distance: tf.Tensor) -> tf.Tensor:
    return ops.mean(y * distance + (1 - y) * ops.maximum(1.0 - distance, 0.0))


class Distance(layers.Layer):
    """Euclidean distance of two embeddings."""

    def __init__(self, epsilon: float, **options: str):
        super().__init__(**options)
        self.epsilon = epsilon

    def call(self, pair: list[tf.Tensor]) -> tf.Tensor:
        """Of each pair."""
        left, right = pair
        return ops.sqrt(ops.sum((left - right) ** 2, axis=1, keepdims=True) + self.epsilon)


def _siamese(epsilon: float) -> Built:
    embedder, pair = _embedder(), [keras.Input((64,)), keras.Input((64,))]
    distance = Distance(epsilon, name="distance")([embedder(image) for image in pair])
    return compiled(keras.Model(pair, distance), _contrastive, *_pairs())


@CASES("siamese net", KERAS_IO + "vision/siamese_contrastive.py", tape={"embedding/bias": "zero"})
def siamese() -> Built:
    """The last bias cancels in the difference of two embeddings."""
    return _siamese(1e-7)


@CASES(
    "siamese net, equal pairs under a square root",
    KERAS + "9097: nan loss where two inputs are the same, due to K.sqrt; also "
    "https://github.com/sounakdey/SigNet/issues/1",
    truth=(("non_finite", "distance"),),
    tape={"hidden/kernel": "nan", "embedding/kernel": "nan"},
)
def equal_pairs() -> Built:
    """The loss of the first step is finite, its gradient is not: a distance of 0 has an infinite slope."""
    return _siamese(0.0)


def _triplet(embedder: keras.Model, normalised: bool, margin: float = 0.5) -> Built:
    """An own loop over triplets of a class, the same class and another."""
    x, y = small_digits()
    order = np.argsort(y[:300], kind="stable")
    anchor, positive, negative = x[order[:-60:2]], x[order[1:-59:2]], x[np.roll(order, 60)[:-60:2]]

    def embed(image: np.ndarray) -> tf.Tensor:
        code = embedder(image, training=True)
        return tf.math.l2_normalize(code, axis=1) if normalised else code

    def loss() -> tf.Tensor:
        a, p, n = embed(anchor), embed(positive), embed(negative)
        near, far = tf.reduce_sum((a - p) ** 2, axis=1), tf.reduce_sum((a - n) ** 2, axis=1)
        return tf.reduce_mean(tf.maximum(near - far + margin, 0.0))

    return Built((embedder,), loss=loss)


@CASES("triplets of normalised embeddings", KERAS_IO + "vision/siamese_network.py")
def triplet() -> Built:
    """Triplets that are far enough apart pass nothing on, by design."""
    return _triplet(_embedder(), normalised=True)


@CASES(
    "triplets, all embeddings in one point",
    "https://github.com/omoindrot/tensorflow-triplet-loss/issues/6, /18, /38: the loss is the margin; "
    "all are "
    "collapsed",
    truth=(("dead_activation", "embedding"),),
    tape={"hidden": "zero", "embedding": "zero"},
)
def collapsed_triplet() -> Built:
    """The ReLU of the embedding died, as after a step that was too large."""
    embedder = _embedder("relu")
    embedder.get_layer("embedding").bias.assign(tf.fill((8,), -8.0))
    return _triplet(embedder, normalised=False)


@CASES("contrastive learning of two views", KERAS_IO + "vision/semisupervised_simclr.py")
def simclr() -> Built:
    """Cosines of all views against all, temperature 0.1."""
    embedder, x = _embedder(width=16), small_digits()[0][:96]
    first, second = x + 0.1 * normal(*x.shape), x + 0.1 * normal(*x.shape, seed=1)

    def loss() -> tf.Tensor:
        left = tf.math.l2_normalize(embedder(first, training=True), axis=1)
        right = tf.math.l2_normalize(embedder(second, training=True), axis=1)
        logits = tf.matmul(left, right, transpose_b=True) / 0.1
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(tf.range(96), logits))

    return Built((embedder,), loss=loss)


class Unit(layers.Layer):
    """Own normalisation to length 1; rows of zeros stay zero."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Where the norm is 0, zeros are chosen, after the division."""
        norm = tf.sqrt(tf.reduce_sum(x**2, axis=-1, keepdims=True))
        return tf.where(norm > 0, x / norm, tf.zeros_like(x))


@CASES(
    "own normalisation, zero rows under tf.where",
    f"{TENSORFLOW}20091 and {TENSORFLOW}38349: a division by zero in the branch that is not chosen "
    "makes NaN in "
    "the gradient",
    truth=(("non_finite", "unit"),),
    tape={"hidden": "nan", "head": "live"},
)
def zero_rows() -> Built:
    """Empty images come out of a ReLU layer without bias as zeros."""
    x, y = small_digits()
    images = x[:256].copy()
    images[:8] = 0
    start = keras.Input((64,))
    hidden = Unit(name="unit")(layers.Dense(32, activation="relu", use_bias=False, name="hidden")(start))
    model = keras.Model(start, dense(10, "head", "softmax")(hidden))
    return compiled(model, "sparse_categorical_crossentropy", images, y[:256])
