"""Trainings whose layers have weights of every kind."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tests.capture.zoo._ground import Training, compiled, digits, flat, images, problem, rows, tokens

layers = keras.layers


def on_images(*stack: Any) -> Training:
    """The stack between images and a linear head."""
    stack = keras.Input((8, 8, 1)), *stack, layers.Flatten(), layers.Dense(10)
    return compiled(keras.Sequential(list(stack))), {"x": images(), "y": digits()[1]}


# ---- convolutions ----------------------------------------------------------------------------


@problem
def small_u_net() -> Training:
    """Down by separable and depthwise convolutions, up by a transposed one, joined to what was above."""
    inputs = keras.Input((8, 8, 1))
    above = layers.SeparableConv2D(4, 3, padding="same", depth_multiplier=2, activation="relu")(inputs)
    below = layers.DepthwiseConv2D(3, 2, "same", activation="tanh", use_bias=False)(above)
    below = layers.Conv2D(6, 1, activation="relu")(below)
    risen = layers.Conv2DTranspose(4, 3, 2, "same", activation="relu")(below)
    outputs = layers.Conv2D(1, 1)(layers.Concatenate()([risen, above]))
    return compiled(keras.Model(inputs, outputs), "mse"), {"x": images(), "y": images()}


@problem
def convolutions_of_sequences() -> Training:
    """The same kinds along one axis."""
    stack = [
        keras.Input((8, 8)),
        layers.DepthwiseConv1D(3, depth_multiplier=2, padding="same", activation="relu"),
        layers.SeparableConv1D(6, 3, padding="same", activation="tanh"),
        layers.Conv1DTranspose(4, 3, strides=2, activation="relu"),
        layers.Conv1D(4, 3, padding="causal", dilation_rate=2, groups=2),
        layers.GlobalAveragePooling1D(),
        layers.Dense(10),
    ]
    return compiled(keras.Sequential(stack)), flat(x=rows())


# ---- products, attention ---------------------------------------------------------------------


@problem
def einsum_dense() -> Training:
    """Kernels of more than two axes, biases along some of the output's."""
    stack = [
        keras.Input((8, 8)),
        layers.EinsumDense("abc,cde->abde", (8, 2, 3), bias_axes="de", activation="relu"),
        layers.EinsumDense("abde,def->abf", (8, 5), bias_axes="f", activation="tanh"),
        layers.EinsumDense("...f,fg->...g", 4),
        layers.Flatten(),
        layers.Dense(10),
    ]
    return compiled(keras.Sequential(stack)), flat(x=rows())


@problem
def masked_attention() -> Training:
    """Self-attention with a mask, causal, with dropout; then attention to other data."""
    words, other = keras.Input((12,), dtype="int64", name="words"), keras.Input((8, 8), name="other")
    read = layers.Embedding(18, 8, mask_zero=True)(words)
    own = layers.MultiHeadAttention(2, 4, dropout=0.2)(read, read, use_causal_mask=True)
    crossed = layers.MultiHeadAttention(2, 4, value_dim=3, use_bias=False)(own, other)
    outputs = layers.Dense(10)(layers.GlobalAveragePooling1D()(crossed))
    return compiled(keras.Model({"words": words, "other": other}, outputs)), flat(
        x={"words": tokens(), "other": rows()}
    )


@problem
def grouped_attention() -> Training:
    """Several heads of queries to one of keys, with the scores handed out."""
    inputs = keras.Input((8, 8))
    attended = layers.GroupQueryAttention(4, 4, 2, dropout=0.2)(inputs, inputs)
    mixed, scores = layers.MultiHeadAttention(2, 4)(attended, inputs, return_attention_scores=True)
    pooled = layers.Concatenate()([layers.Flatten()(mixed), layers.Flatten()(scores)])
    return compiled(keras.Model(inputs, layers.Dense(10)(pooled))), flat(x=rows())


@problem
def attention_without_weights() -> Training:
    """Layers of attention that only mix what others projected."""
    inputs = keras.Input((8, 8))
    query, key = layers.Dense(6)(inputs), layers.Dense(6, "relu")(inputs)
    mixed = layers.Attention(use_scale=True, dropout=0.1)([query, key])
    more = layers.AdditiveAttention()([mixed, key])
    return compiled(keras.Model(inputs, layers.Dense(10)(layers.Flatten()(more)))), flat(x=rows())


# ---- tables ----------------------------------------------------------------------------------


@problem
def shared_embedding() -> Training:
    """One table that two inputs look up, with a mask and a penalty."""
    left, right = keras.Input((6,), dtype="int64"), keras.Input((6,), dtype="int32")
    table = layers.Embedding(18, 5, mask_zero=True, embeddings_regularizer="l2")
    pooled = [layers.GlobalAveragePooling1D()(table(side)) for side in (left, right)]
    outputs = layers.Dense(10)(layers.Concatenate()(pooled))
    words = tokens()
    words[:, ::6] += 1  # no side is masked as a whole
    return compiled(keras.Model([left, right], outputs)), flat(x=[words[:, :6], words[:, 6:].astype("int32")])


@problem
def embedding_clipped_by_the_optimizer() -> Training:
    """The optimizer sees the gradient of a table as rows."""
    stack = [keras.Input((12,), dtype="int64"), layers.Embedding(40, 6), layers.Flatten(), layers.Dense(10)]
    optimizer = keras.optimizers.Adam(0.01, global_clipnorm=0.2)
    return compiled(keras.Sequential(stack), optimizer=optimizer), flat(x=tokens())


# ---- normalisations, slopes ------------------------------------------------------------------


@problem
def batch_norm_frozen_or_not() -> Training:
    """One in training, one that is not trained, one called as if in use, one without gamma and beta."""
    inputs = keras.Input((8, 8, 1))
    hidden = layers.BatchNormalization()(layers.Conv2D(4, 3)(inputs))
    hidden = layers.BatchNormalization(trainable=False)(layers.ReLU()(hidden))
    hidden = layers.BatchNormalization()(layers.Conv2D(4, 3)(hidden), training=False)
    hidden = layers.BatchNormalization(center=False, scale=False)(layers.Conv2D(4, 1)(hidden))
    outputs = layers.Dense(10)(layers.Flatten()(layers.ReLU()(hidden)))
    return compiled(keras.Model(inputs, outputs)), {"x": images(), "y": digits()[1]}


@problem
def normalisations() -> Training:
    """Over groups, over axes of a sample, with and without scale and shift, behind kernels and alone."""
    more = [layers.RMSNormalization()] if hasattr(layers, "RMSNormalization") else []
    return on_images(
        layers.Conv2D(6, 3),
        layers.GroupNormalization(3),
        layers.Conv2D(4, 3, activation="relu"),
        layers.LayerNormalization(axis=[1, 2, 3]),
        layers.GroupNormalization(-1, scale=False),
        layers.LayerNormalization(center=False),
        *more,
    )


@problem
def masked_batch_norm() -> Training:
    """A normalisation over what the mask leaves."""
    stack = [
        keras.Input((12,), dtype="int64"),
        layers.Embedding(18, 6, mask_zero=True),
        layers.BatchNormalization(),
        layers.GlobalAveragePooling1D(),
        layers.Dense(10),
    ]
    return compiled(keras.Sequential(stack)), flat(x=tokens())


@problem
def slopes_that_are_learned() -> Training:
    """PReLU with one slope per element, and one per channel."""
    return on_images(
        layers.Conv2D(4, 3), layers.PReLU(), layers.Conv2D(4, 3), layers.PReLU("uniform", shared_axes=[1, 2])
    )


# ---- other weights ---------------------------------------------------------------------------


@keras.saving.register_keras_serializable("tests")
class Doubled(layers.Dense):
    """A subclass with a `call` of its own: nobody knows what it does with its weights."""

    def call(self, inputs: Any, training: Any = None) -> Any:
        return super().call(2 * inputs, training=training)


@keras.saving.register_keras_serializable("tests")
class Gated(layers.Layer):
    """A layer of unknown kind that holds a weight of its own and another layer."""

    def __init__(self, units: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.inner = layers.Dense(units, "relu")

    def build(self, shape: Any) -> None:
        self.gate = self.add_weight(shape=(shape[-1],), initializer="ones", regularizer="l2", name="gate")
        self.inner.build(shape)

    def call(self, inputs: Any) -> Any:
        return self.inner(inputs * self.gate)


@problem
def weights_of_unknown_kinds() -> Training:
    """Layers that are explained as a whole, beside some that are explained weight by weight."""
    stack = [keras.Input((64,)), Doubled(8, "tanh"), Gated(8), layers.Dense(6, "relu"), layers.Dense(10)]
    return compiled(keras.Sequential(stack)), flat()


@problem
def weights_of_the_model_itself() -> Training:
    """A scale that belongs to no layer, and a table that is read twice: at the input and at the output."""

    class Tied(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.hidden = layers.Embedding(18, 8), layers.Dense(8, "tanh")
            self.scale = self.add_weight(shape=(), initializer="ones", name="scale")

        def call(self, inputs: Any) -> Any:
            hidden = tf.reduce_mean(self.hidden(self.table(inputs)), axis=1)
            return self.scale * tf.matmul(hidden, self.table.embeddings, transpose_b=True)

    return compiled(Tied()), flat(x=tokens())


@problem
def per_time_step() -> Training:
    """A wrapper that calls its layer for each step of a sequence of known length."""
    stack = [
        keras.Input((3, 8)),
        layers.TimeDistributed(layers.Dense(5, "relu")),
        layers.TimeDistributed(layers.BatchNormalization()),
        layers.Flatten(),
        layers.Dense(10),
    ]
    return compiled(keras.Sequential(stack)), flat(x=np.ascontiguousarray(rows()[:, 2:5]))
