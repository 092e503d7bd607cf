"""Small nets to check, and what their reports say."""

from __future__ import annotations

import warnings

import keras
import numpy as np

from tests.faults import models
from trainobs.health import HealthReport, HealthWarning, check_health

layers = keras.layers


def digits() -> tuple[np.ndarray, np.ndarray]:
    return models.small_digits()


def small_mlp(activation="relu", optimizer=None, **options) -> keras.Model:
    """Two hidden layers over the small digits, of He's scale."""
    model = models.mlp(32, 32, inputs=64, activation=activation, kernel_initializer="he_normal", **options)
    model.compile(optimizer or keras.optimizers.SGD(0.05), "sparse_categorical_crossentropy")
    return model


def fitted(model, health, *, x=None, y=None, epochs=1, batch_size=64, **options):
    """Fit quietly on the small digits, and return what was warned of."""
    x, y = digits() if x is None else (x, y)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", HealthWarning)
        model.fit(x, y, epochs=epochs, batch_size=batch_size, verbose=0, callbacks=[health], **options)
    return [str(warning.message) for warning in caught if warning.category is HealthWarning]


def checked(model, **options) -> HealthReport:
    x, y = digits()
    return check_health(model, x[:64], y[:64], **options)


def causes(report: HealthReport, *severities: str) -> set[str]:
    found = report.findings
    return set(found["cause"] if not severities else found[found["severity"].isin(severities)]["cause"])


def severity(report: HealthReport, rule: str) -> str:
    return report.findings[report.findings["cause"] == rule]["severity"].iloc[0]


def shared_layer() -> keras.Model:
    start, shared = keras.Input((64,)), layers.Dense(64, activation="tanh", name="shared")
    return models.classifier(start, shared(shared(start)))


class Scale(layers.Layer):
    """A layer of a kind that is not known."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")

    def call(self, x):
        return x * self.scale


def thousandfold_loss(y, prediction):
    """A thousandfold cross-entropy."""
    return 1000 * keras.losses.sparse_categorical_crossentropy(y, prediction)


MODELS = {
    "dense": (lambda: small_mlp(), models.small_digits),
    "conv and batch normalisation": (
        lambda: models.normalised_cnn(layers.BatchNormalization()),
        models.small_images,
    ),
    "shared": (shared_layer, models.small_digits),
    "lstm": (lambda: models.recurrent(layers.LSTM(6)), models.rows_of_digits),
    "gru": (lambda: models.recurrent(layers.GRU(6)), models.rows_of_digits),
    "embedding": (models.text_model, models.sentences),
    "attention": (models.attention_model, models.sentences),
    "unknown": (lambda: models.between(Scale()), models.small_digits),
    "penalty": (lambda: small_mlp(kernel_regularizer="l2"), models.small_digits),
}
