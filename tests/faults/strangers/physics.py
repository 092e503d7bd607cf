"""Networks that are asked for their derivatives: equations as losses."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tests.faults.strangers.cases import KERAS_IO, TENSORFLOW, Built, Family, normal

CASES = Family()


def _net(activation: str, inputs: int = 1) -> keras.Model:
    hidden = [layers.Dense(24, activation=activation, name=f"u{number}") for number in (1, 2)]
    return keras.Sequential([keras.Input((inputs,)), *hidden, layers.Dense(1, name="u_out")], name="solution")


def _poisson(activation: str, boundary: bool = True) -> Built:
    """u'' = -sin(πx)·π² on [0, 1], with u = 0 at both ends."""
    net = _net(activation)
    places = tf.constant(np.linspace(0, 1, 128, dtype="float32")[:, None])
    ends = tf.constant([[0.0], [1.0]])

    def loss() -> tf.Tensor:
        with tf.GradientTape() as outer:
            outer.watch(places)
            with tf.GradientTape() as inner:
                inner.watch(places)
                value = net(places, training=True)
            slope = inner.gradient(value, places)
        curvature = outer.gradient(slope, places)
        residual = tf.reduce_mean((curvature + np.pi**2 * tf.sin(np.pi * places)) ** 2) / np.pi**4
        return residual + (tf.reduce_mean(net(ends, training=True) ** 2) if boundary else 0.0)

    return Built((net,), loss=loss)


@CASES(
    "PINN of Poisson's equation",
    "https://github.com/maziarraissi/PINNs: tanh, residual and boundary",
)
def pinn() -> Built:
    """Second derivatives by two inner tapes."""
    return _poisson("tanh")


@CASES(
    "PINN of ReLUs, the equation alone",
    f"{TENSORFLOW}9398: the gradient of a gradient is a vector of zeros, the net is linear piece by "
    "piece; why "
    "PINNs use tanh, https://github.com/maziarraissi/PINNs",
    truth=(("disconnected", "u_out"),),
    tape={"u1": "zero", "u2": "zero", "u_out": "none"},
)
def pinn_of_relus() -> Built:
    """u'' is 0 whatever the weights are: zeros for the hidden layers, None for the last."""
    return _poisson("relu", boundary=False)


@CASES("eikonal equation", KERAS_IO + "keras_recipes/eikonal.py")
def eikonal() -> Built:
    """The norm of the input's gradient is to be 1, and the value 0 on a circle."""
    net, places = _net("softplus", 2), tf.constant(normal(128, 2))
    angles = np.linspace(0, 2 * np.pi, 64, dtype="float32")
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)

    def loss() -> tf.Tensor:
        with tf.GradientTape() as inner:
            inner.watch(places)
            value = net(places, training=True)
        norm = tf.norm(inner.gradient(value, places) + 1e-12, axis=1)
        return tf.reduce_mean((norm - 1) ** 2) + tf.reduce_mean(net(circle, training=True) ** 2)

    return Built((net,), loss=loss)


@CASES(
    "adversarial training, the input's gradient as a constant",
    "https://www.tensorflow.org/tutorials/generative/adversarial_fgsm, used in training",
)
def adversarial() -> Built:
    """A batch moved along the sign of its gradient; second derivatives are not asked for."""
    net, points = _net("relu", 4), tf.constant(normal(128, 4))
    goal = tf.reduce_sum(points, axis=1, keepdims=True)

    def loss() -> tf.Tensor:
        with tf.GradientTape() as inner:
            inner.watch(points)
            error = tf.reduce_mean((net(points, training=True) - goal) ** 2)
        moved = points + 0.1 * tf.sign(tf.stop_gradient(inner.gradient(error, points)))
        return error + tf.reduce_mean((net(moved, training=True) - goal) ** 2)

    return Built((net,), loss=loss)
