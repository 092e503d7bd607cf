"""Healthy models: fresh, on their way, and well trained. None of them may be given a finding."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import layers

from tests.faults import models
from tests.faults.suite import networks
from tests.faults.suite.cases import Case, Planted, fitted, set_kernel
from tests.faults.suite.networks import NETWORKS, dense_stack

#: By name: epochs of training.
STAGES = {"fresh": 0, "on its way": 2, "well trained": 20}
SMOOTH = ("gelu", "tanh", "sigmoid", "selu", "silu", "leaky_relu", "elu")


def healthy_cases() -> list[Case]:
    """All of them."""
    return [*_of_every_network(), *_of_other_activations(), *_variants(), *_small(), *_applications()]


def _case(name: str, make: Any, epochs: int, data: Any) -> Case:
    def plant() -> Planted:
        x, y = data()
        model = make()
        return Planted(fitted(model, x, y, epochs) if epochs else model, x, y)

    return Case("healthy", name, plant)


def _of_every_network() -> Iterator[Case]:
    for name, network in NETWORKS.items():
        for stage, epochs in STAGES.items():
            yield _case(f"{name}, {stage}", network, epochs, network.data)


def _of_other_activations() -> Iterator[Case]:
    for activation in SMOOTH:
        for name in ("MLP", "CNN", "regression"):
            network = NETWORKS[name]
            start = "lecun_normal" if activation == "selu" else "glorot_uniform"
            make = partial(network, activation, kernel_initializer=start)
            yield _case(f"{name} of {activation}", make, 5, network.data)


def _variants() -> Iterator[Case]:
    def deep() -> keras.Model:
        network = networks.Network(dense_stack(64, *[48] * 12), models.small_digits, ())
        return network("relu", kernel_initializer="he_normal")

    def with_dropout(rate: float) -> keras.Model:
        hidden = [
            layers.Dense(64, "relu"),
            layers.Dropout(rate),
            layers.Dense(64, "relu"),
            layers.Dropout(rate),
        ]
        return models.compiled(keras.Sequential([keras.Input((64,)), *hidden, layers.Dense(10, "softmax")]))

    def penalised() -> keras.Model:
        return NETWORKS["MLP"]("relu", kernel_regularizer=keras.regularizers.L2(1e-3))

    def sparse() -> keras.Model:
        return NETWORKS["MLP"]("relu", activity_regularizer=keras.regularizers.L1(1e-5))

    def alike(layer: str) -> keras.Model:
        """Units that start alike, and part: what reads them tells them apart."""
        model = NETWORKS["MLP"]("relu")
        set_kernel(model, layer, 0.05)
        return model

    def rare() -> networks.Data:
        """One sample in twenty is of the rare class."""
        x, y = networks.cancer()
        keep = (y == 1) | (np.cumsum(y == 0) % 19 == 1)
        return x[keep], y[keep]

    for epochs in (0, 5):
        stage = "trained" if epochs else "fresh"
        yield _case(f"12 ReLU layers, {stage}", deep, epochs, models.small_digits)
        yield _case(f"L2 penalty, {stage}", penalised, epochs, models.small_digits)
        yield _case(f"L1 of activities, {stage}", sparse, epochs, models.small_digits)
        yield _case(f"units that start alike, {stage}", partial(alike, "h2"), epochs, models.small_digits)
        yield _case(f"half dropped out, {stage}", partial(with_dropout, 0.5), epochs, models.small_digits)
        yield _case(f"rare class, {stage}", NETWORKS["binary MLP"], epochs, rare)
        yield _case(f"transformer, {stage}", models.transformer, epochs, models.sentences)
        yield _case(f"MobileNet, {stage}", models.mobile_net, epochs, models.small_images)
        yield _case(
            f"residual CNN with zero gammas, {stage}", models.residual_cnn, epochs, models.small_images
        )
        yield _case(f"text, {stage}", models.text_model, epochs, models.sentences)
        yield _case(f"U-Net, {stage}", models.unet, epochs, _masks)

    def on_at_errors() -> Planted:
        """Units that fire where predictions are wrong."""
        return Planted(*networks.half_wrong(units=8, sign=1.0))

    def on_where_it_reads() -> Planted:
        """Units that fire where their input is live, and where it is not."""
        return Planted(*networks.sparse_input(sign=1.0))

    yield Case("healthy", "units that fire at errors only", on_at_errors)
    yield Case("healthy", "units on a sparse input", on_where_it_reads)


def _small() -> Iterator[Case]:
    """Fresh nets of few units over few samples, some of them off by chance; and many copies of one row."""

    def planted(units: int, depth: int, samples: int) -> Planted:
        x, y = models.small_digits()
        network = networks.Network(dense_stack(64, *[units] * depth), models.small_digits, ())
        return Planted(network("relu"), x, y, samples=samples)

    for units, depth, samples in itertools.product((8, 16, 32), (2, 4), (1, 4, 32)):
        name = f"{depth} layers of {units} units, {samples} samples"
        yield Case("healthy", name, partial(planted, units, depth, samples))

    def alike() -> Planted:
        x, y = models.small_digits()
        rows, targets = np.repeat(x[:1], 256, axis=0), np.resize(y, 256)
        return Planted(NETWORKS["MLP"]("relu"), rows, targets)

    yield Case("healthy", "rows that are all the same", alike)


def _masks() -> networks.Data:
    x, _ = models.small_images()
    return x, (x > 0.5).astype("float32")


def _applications() -> Iterator[Case]:
    """Fresh, on digits blown up: deep normalised nets, and scales that begin at 1e-6."""

    def large() -> networks.Data:
        x, y = models.small_images()
        return np.kron(x[:16], np.ones((1, 10, 10, 3), "float32")) - 0.3, y[:16]

    for name in ("MobileNetV2", "EfficientNetV2B0", "InceptionV3", "ConvNeXtTiny"):
        kind = getattr(keras.applications, name)
        make = partial(kind, weights=None, input_shape=(80, 80, 3), classes=10)
        yield _case(name, lambda make=make: models.compiled(make()), 0, large)
