"""Spikes and predicted frames: recurrences that people write themselves."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from tests.faults.models import classifier, small_digits
from tests.faults.strangers.cases import Built, Family, compiled

CASES = Family()

STEPS = 8


@tf.custom_gradient
def _surrogate(potential: tf.Tensor) -> tuple[tf.Tensor, object]:
    """A step forward; backward the slope of a fast sigmoid."""
    return tf.cast(potential > 0, tf.float32), lambda upstream: upstream / (1 + 5 * tf.abs(potential)) ** 2


def _step(potential: tf.Tensor) -> tf.Tensor:
    return tf.cast(potential > 0, tf.float32)


class Leaky(layers.Layer):
    """A cell of leaky units that fire above 1, and start again below it."""

    def __init__(self, units: int, spike: object, **options: str):
        super().__init__(**options)
        self.units = self.state_size = self.output_size = units
        self.spike = spike

    def build(self, shape: tuple[int | None, ...]) -> None:
        """The kernel."""
        self.kernel = self.add_weight(name="kernel", shape=(shape[-1], self.units), initializer="he_normal")

    def call(self, x: tf.Tensor, states: list[tf.Tensor]) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Spikes, and the potential that is left."""
        potential = 0.9 * states[0] + x @ tf.convert_to_tensor(self.kernel)
        spikes = self.spike(potential - 1.0)
        return spikes, [potential * (1 - spikes)]


def _spiking(spike: object, unroll: bool) -> Built:
    pixels, y = small_digits()
    rng = np.random.default_rng(0)
    x = (rng.random((128, STEPS, 64)) < pixels[:128, None]).astype("float32")
    start = hidden = keras.Input((STEPS, 64))
    for number, units in enumerate((48, 32), 1):
        cell = Leaky(units, spike, name=f"cell{number}")
        hidden = layers.RNN(cell, return_sequences=True, unroll=unroll, name=f"lif{number}")(hidden)
    return Built((classifier(start, layers.GlobalAveragePooling1D(name="rate")(hidden)),), x, y[:128])


@CASES(
    "spiking net, surrogate gradient",
    "https://github.com/nengo/keras-spiking/issues/13 and "
    "https://github.com/fangwei123456/spikingjelly/issues/268",
)
def surrogate() -> Built:
    """Unrolled."""
    return _spiking(_surrogate, unroll=True)


@CASES(
    "spiking net, surrogate gradient in a loop",
    "https://github.com/nengo/keras-spiking/issues/13: spikes within a recurrent layer",
)
def surrogate_in_loop() -> Built:
    """Keras' loop over time, not unrolled."""
    return _spiking(_surrogate, unroll=False)


@CASES(
    "spiking net, a hard threshold",
    "https://github.com/guillaume-chevalier/Spiking-Neural-Network-SNN-with-PyTorch-where-Backpropagation-engenders-"
    "STDP/issues/1: the heaviside's derivative is 0",
    truth=(
        ("disconnected", "lif2"),
        ("disconnected", "lif1"),
        ("disconnected", "cell2"),
        ("disconnected", "cell1"),
    ),
    tape={"lif1": "none", "lif2": "none", "head": "live"},
)
def threshold() -> Built:
    """A comparison, cast to a number."""
    return _spiking(_step, unroll=False)


def _moving_digits() -> np.ndarray:
    """Digits that go round, a pixel a frame: (64, 6, 8, 8, 1)."""
    images = small_digits()[0][:64].reshape(-1, 8, 8, 1)
    return np.stack([np.roll(images, frame, axis=2) for frame in range(6)], axis=1)


class PredNet(keras.Model):
    """A recurrent layer predicts the next frame; what is put out is how wrong it was, in two halves."""

    def __init__(self, largest: float):
        super().__init__(name="prednet")
        self.state = layers.ConvLSTM2D(8, 3, padding="same", return_sequences=True, name="state")
        self.guess = layers.Conv2D(1, 3, padding="same", activation="relu", name="guess")
        self.largest = largest

    def call(self, frames: tf.Tensor) -> tf.Tensor:
        """Mean error of each frame."""
        guessed = self.guess(ops.reshape(self.state(frames[:, :-1]), (-1, 8, 8, 8)))
        guessed = ops.minimum(guessed, self.largest)
        actual = ops.reshape(frames[:, 1:], (-1, 8, 8, 1))
        wrong = ops.concatenate([ops.relu(guessed - actual), ops.relu(actual - guessed)], axis=-1)
        return ops.mean(ops.reshape(wrong, (-1, 5, 128)), axis=-1)


def _prednet(frames: np.ndarray, bias: float = 0.1) -> Built:
    model = PredNet(largest=1.0)
    model(frames[:2])
    model.guess.bias.assign([bias])
    return compiled(model, "mae", frames, np.zeros((64, 5), "float32"))


@CASES("PredNet", "https://github.com/coxlab/prednet: errors as two ReLUs, a prediction that is cut off at 1")
def prednet() -> Built:
    """Frames in [0, 1]."""
    return _prednet(_moving_digits())


@CASES(
    "PredNet, the prediction is black",
    "https://github.com/coxlab/prednet/issues/44: predictions of some colours are black altogether; "
    "https://github.com/leido/pytorch-prednet/issues/2 on the scale of pixels",
    truth=(("dead_activation", "guess"),),
    tape={"state": "zero", "guess": "zero"},
)
def black_prednet() -> Built:
    """The ReLU of the prediction is off everywhere."""
    return _prednet(_moving_digits(), bias=-4.0)
