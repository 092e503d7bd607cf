"""What is frozen, shared, scaled or started at zero on purpose; several tasks; half precision."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from tests.faults.models import compiled as for_classes
from tests.faults.models import dense, sentences, small_digits
from tests.faults.strangers.cases import KERAS, KERAS_IO, TENSORFLOW, Built, Family, compiled

CASES = Family()


def _digits(samples: int = 192) -> tuple[np.ndarray, np.ndarray]:
    x, y = small_digits()
    return x[:samples], y[:samples]


def _transferred() -> keras.Model:
    base = keras.Sequential([keras.Input((64,)), dense(48, "base1"), dense(32, "base2")], name="base")
    base.trainable = False
    start = keras.Input((64,))
    return keras.Model(start, dense(10, "head", "softmax")(base(start)))


@CASES("transfer learning, a new head on a frozen base", "https://keras.io/guides/transfer_learning/")
def transfer() -> Built:
    """Only the head learns, as it is meant."""
    return Built((for_classes(_transferred()),), *_digits())


@CASES(
    "transfer learning, everything is frozen",
    KERAS + "13880: nothing is learned in a model of transfer learning; " + KERAS + "8443: what "
    "trainable = False on a model freezes",
    truth=(("frozen", "head"), ("frozen", "base1"), ("frozen", "*")),
)
def all_frozen() -> Built:
    """model.trainable = False, for the head as well."""
    model = _transferred()
    model.trainable = False
    return Built((for_classes(model),), *_digits())


@CASES(
    "LoRA",
    KERAS_IO + "keras_recipes/parameter_efficient_finetuning_of_gemma_with_lora_and_qlora.py",
    tape={"lora_kernel_a": "zero"},
)
def lora() -> Built:
    """B starts at zero, so A has no gradient yet; the kernel itself is frozen."""
    model = keras.Sequential(
        [keras.Input((64,)), dense(48, "h1"), dense(32, "h2"), dense(10, "head", "softmax")]
    )
    for name in ("h1", "h2"):
        model.get_layer(name).enable_lora(4)
    return Built((for_classes(model),), *_digits())


@CASES(
    "residual blocks whose ends start at zero",
    "https://github.com/openai/improved-diffusion/blob/main/improved_diffusion/nn.py (zero_module)",
    tape={"inner0": "zero", "inner1": "zero"},
)
def zero_ends() -> Built:
    """The ends get gradients, and what is before them will."""
    start = keras.Input((64,))
    hidden = dense(32, "first")(start)
    for number in range(2):
        inner = dense(32, f"inner{number}", "silu")(hidden)
        end = layers.Dense(32, kernel_initializer="zeros", name=f"end{number}")(inner)
        hidden = layers.Add()([hidden, end])
    return Built((for_classes(keras.Model(start, dense(10, "head", "softmax")(hidden))),), *_digits())


@CASES(
    "two layers in a row that start at zero",
    "https://github.com/yz93/LAVT-RIS/issues/25: with both initialised to zero, the first has no gradient",
    truth=(("zero_weights", "a_1"), ("zero_weights", "a_2")),
    tape={"a_1": "zero", "a_2": "zero", "first": "live"},
)
def two_zeros() -> Built:
    """Each waits for the other, for ever: without biases both gradients are 0."""
    start = keras.Input((64,))
    hidden = dense(32, "first")(start)
    options = {"kernel_initializer": "zeros", "use_bias": False}
    gate = layers.Dense(32, activation="tanh", name="a_2", **options)(
        layers.Dense(32, activation="relu", name="a_1", **options)(hidden)
    )
    hidden = layers.Add()([hidden, gate])
    return Built((for_classes(keras.Model(start, dense(10, "head", "softmax")(hidden))),), *_digits())


class LayerScale(layers.Layer):
    """A learned factor for each unit, 1e-5 at first."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        """The factors."""
        self.gamma = self.add_weight(
            name="gamma", shape=(shape[-1],), initializer=keras.initializers.Constant(1e-5)
        )

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Scaled."""
        return x * self.gamma


@CASES(
    "layer scale",
    KERAS_IO + "vision/cait.py",
    tape={"wide0": "small", "narrow0": "small", "wide1": "small", "narrow1": "small"},
)
def layer_scale() -> Built:
    """Branches count little at first; their scales get a gradient and grow."""
    start = keras.Input((64,))
    hidden = dense(32, "first", None)(start)
    for number in range(2):
        inner = dense(64, f"wide{number}", "gelu")(layers.LayerNormalization(name=f"norm{number}")(hidden))
        inner = LayerScale(name=f"scale{number}")(dense(32, f"narrow{number}", None)(inner))
        hidden = layers.Add()([hidden, inner])
    return Built((for_classes(keras.Model(start, dense(10, "head", "softmax")(hidden))),), *_digits())


class TiedLogits(layers.Layer):
    """Scores of tokens by the table that embedded them."""

    def __init__(self, table: layers.Embedding, **options: str):
        super().__init__(**options)
        self.table = table

    def call(self, hidden: tf.Tensor) -> tf.Tensor:
        """Of every position."""
        return ops.matmul(hidden, ops.transpose(self.table.embeddings))


@CASES(
    "a language model with tied embeddings",
    "https://keras.io/keras_hub/api/modeling_layers/reversible_embedding/",
)
def tied() -> Built:
    """The table is read twice, as rows and as a kernel."""
    x, _ = sentences()
    start = keras.Input((11,), dtype="int32")
    table = layers.Embedding(20, 24, name="table")
    hidden = layers.GRU(24, return_sequences=True, name="gru")(table(start))
    model = keras.Model(start, TiedLogits(table, name="logits")(hidden))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return compiled(model, loss, x[:192, :-1], x[:192, 1:])


def _half(model_class: type = keras.Sequential) -> keras.Model:
    hidden = [layers.Dense(32, activation="relu", dtype="mixed_float16", name=f"h{n}") for n in range(3)]
    return model_class([keras.Input((64,)), *hidden, dense(10, "head", "softmax")])


@CASES("mixed precision with loss scaling", "https://www.tensorflow.org/guide/mixed_precision, by model.fit")
def mixed() -> Built:
    """Keras scales the loss by itself."""
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam())
    return compiled(_half(), "sparse_categorical_crossentropy", *_digits(), optimizer=optimizer)


@CASES(
    "mixed precision, an own loop without loss scaling",
    KERAS + f"20894 and {TENSORFLOW}33484: without the LossScaleOptimizer gradients are too tiny in float16",
    truth=(("underflow", "*"),),
    tape={"h0": "zero", "h1": "zero", "head/kernel": "small"},
)
def unscaled_half() -> Built:
    """Per pixel of a large batch: the loss is divided by a million."""
    model, (x, y) = _half(), _digits()

    def loss() -> tf.Tensor:
        errors = keras.losses.sparse_categorical_crossentropy(y, model(x, training=True))
        return tf.reduce_sum(errors) / (192 * 512 * 512)

    return Built((model,), loss=loss)


def _tasks(weights: dict[str, float]) -> Built:
    """The digit, and how much ink it has."""
    x, y = _digits()
    start = keras.Input((64,))
    hidden = dense(32, "trunk")(start)
    outputs = {
        "digit": dense(10, "digit", "softmax")(dense(16, "for_digit")(hidden)),
        "ink": dense(1, "ink", None)(dense(16, "for_ink")(hidden)),
    }
    losses = {"digit": "sparse_categorical_crossentropy", "ink": "mse"}
    targets = {"digit": y, "ink": x.mean(axis=1, keepdims=True) * 3}
    return compiled(keras.Model(start, outputs), losses, x, targets, loss_weights=weights)


@CASES("two tasks", KERAS_IO + "keras_rs/multi_task.py")
def two_tasks() -> Built:
    """Weights 1 and 0.5."""
    return _tasks({"digit": 1.0, "ink": 0.5})


@CASES(
    "two tasks, one of which has no weight",
    KERAS + "4030: a second output with a loss weight of 0",
    truth=(("zero_loss_gradient", "ink"),),
    tape={"for_ink": "zero", "ink": "zero", "for_digit": "live"},
)
def weightless_task() -> Built:
    """loss_weights of 1 and 0."""
    return _tasks({"digit": 1.0, "ink": 0.0})


@CASES(
    "sample weights that are all zero",
    KERAS + "13113 and " + KERAS + "12176: weights of 0 for what has no target",
    truth=(("masked", "head"),),
    tape={"h1": "zero", "head": "zero"},
)
def weightless_samples() -> Built:
    """The loss is 0 from the first step on."""
    model = keras.Sequential([keras.Input((64,)), dense(32, "h1"), dense(10, "head", "softmax")])
    x, y = _digits()
    return Built((for_classes(model),), x, y, np.zeros(192, "float32"))
