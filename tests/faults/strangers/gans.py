"""Generative adversarial networks: own loops around two models."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tests.faults.models import small_digits
from tests.faults.strangers.cases import KERAS_IO, Built, Family, normal

CASES = Family()


def _generator() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((16,)),
            layers.Dense(48, name="g1"),
            layers.LeakyReLU(0.2),
            layers.Dense(64, activation="sigmoid", name="g_out"),
        ],
        name="generator",
    )


def _discriminator(activation: str | None = None) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((64,)),
            layers.Dense(48, name="d1"),
            layers.LeakyReLU(0.2),
            layers.Dense(1, activation=activation, name="d_out"),
        ],
        name="discriminator",
    )


def _real() -> np.ndarray:
    return small_digits()[0][:128]


def _crossentropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels, logits))


@CASES("GAN, the generator's step", KERAS_IO + "generative/dcgan_overriding_train_step.py")
def generator_step() -> Built:
    """The gradient comes through a discriminator that is not trained in this step."""
    generator, discriminator, noise = _generator(), _discriminator(), normal(128, 16)

    def loss() -> tf.Tensor:
        judged = discriminator(generator(noise, training=True))
        return _crossentropy(tf.ones_like(judged), judged)

    return Built((generator,), loss=loss)


@CASES("GAN, the discriminator's step", KERAS_IO + "generative/conditional_gan.py")
def discriminator_step() -> Built:
    """Real and made images in one batch."""
    discriminator = _discriminator()
    images = np.concatenate([_real(), _generator()(normal(128, 16)).numpy()])
    labels = np.repeat([[1.0], [0.0]], 128, axis=0).astype("float32")
    return Built((discriminator,), loss=lambda: _crossentropy(labels, discriminator(images, training=True)))


@CASES(
    "GAN, the discriminator is frozen when it is compiled",
    "https://github.com/0b01/SimGAN-Captcha/issues/1 and "
    "https://github.com/eriklindernoren/Keras-GAN/issues/22:"
    " trainable = False counts when it is compiled; its loss stays where it was",
    truth=(("frozen", "d1"), ("frozen", "d_out"), ("frozen", "*")),
)
def frozen_discriminator() -> Built:
    """`fit` on the discriminator itself changes nothing."""
    discriminator = _discriminator("sigmoid")
    discriminator.trainable = False
    discriminator.compile("adam", "binary_crossentropy")
    images = np.concatenate([_real(), np.random.default_rng(0).random((128, 64), "float32")])
    return Built((discriminator,), images, np.repeat([[1.0], [0.0]], 128, axis=0))


@CASES(
    "GAN, minimax loss and a discriminator that is sure",
    "https://developers.google.com/machine-learning/gan/problems: vanishing gradients, if the "
    "discriminator is"
    " too good; log(1 - D(G(z))) of Goodfellow et al. 2014",
    truth=(("saturated_activation", "d_out"),),
    tape={"g1": "small", "g_out": "small"},
)
def sure_discriminator() -> Built:
    """D puts out 1e-9 for every made image, by its sigmoid."""
    generator, discriminator, noise = _generator(), _discriminator("sigmoid"), normal(128, 16)
    discriminator.get_layer("d_out").bias.assign([-20.0])

    def loss() -> tf.Tensor:
        judged = discriminator(generator(noise, training=True))
        return tf.reduce_mean(tf.math.log(1.0 - judged + 1e-12))

    return Built((generator, discriminator), loss=loss, trained=(generator,))


def _wasserstein(epsilon: float, zero_score: bool) -> Built:
    critic, images = _discriminator(), _real()
    made = _generator()(normal(128, 16))
    if zero_score:
        score = critic.get_layer("d_out").kernel
        score.assign(tf.zeros_like(score))
    mixed = tf.constant(0.3) * images + 0.7 * made

    def loss() -> tf.Tensor:
        with tf.GradientTape() as inner:
            inner.watch(mixed)
            score = critic(mixed, training=True)
        slope = inner.gradient(score, mixed)
        norm = tf.sqrt(tf.reduce_sum(slope**2, axis=1) + epsilon)
        gap = tf.reduce_mean(critic(made, training=True)) - tf.reduce_mean(critic(images, training=True))
        return gap + 10.0 * tf.reduce_mean((norm - 1.0) ** 2)

    return Built((critic,), loss=loss)


@CASES(
    "WGAN-GP, the critic's step",
    "https://github.com/keras-team/keras-io/pull/2364, the repaired example generative/wgan_gp.py",
    tape={"d_out/bias": "zero"},
)
def critic_step() -> Built:
    """The bias of a score cancels in the difference of two means."""
    return _wasserstein(1e-7, zero_score=False)


@CASES(
    "WGAN-GP, norm of a gradient that is zero",
    "https://github.com/keras-team/keras-io/issues/910: tf.sqrt of a zero gradient makes NaN in the backward"
    " pass; the same in https://github.com/tdeboissiere/DeepLearningImplementations/issues/68",
    truth=(("non_finite", "*"),),
    tape={"d_out/kernel": "nan"},
)
def zero_norm() -> Built:
    """The score's kernel starts at zero, so the critic has no slope at all."""
    return _wasserstein(0.0, zero_score=True)
