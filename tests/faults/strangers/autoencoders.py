"""Autoencoders, variational and with a codebook, and a step of a diffusion model."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from tests.faults.models import dense, small_digits
from tests.faults.strangers.cases import KERAS, KERAS_IO, Built, Family, compiled, normal

CASES = Family()


class Sampling(layers.Layer):
    """z = mean + exp(log variance / 2) · noise, as in all examples of this kind."""

    def call(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        """The sample."""
        mean, log_variance = inputs
        return mean + ops.exp(0.5 * log_variance) * keras.random.normal(ops.shape(mean), seed=1)


class Vae(keras.Model):
    """Encoder "enc", "z_mean", "z_log_var", "sampling"; decoder "dec", "pixels"; own train step."""

    def __init__(self, kl_weight: float):
        super().__init__(name="vae")
        self.enc, self.dec = dense(32, "enc"), dense(32, "dec")
        self.z_mean, self.z_log_var = dense(4, "z_mean", None), dense(4, "z_log_var", None)
        self.sampling, self.pixels = Sampling(name="sampling"), dense(64, "pixels", "sigmoid")
        self.kl_weight = kl_weight

    def call(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Pixels, mean and log variance."""
        hidden = self.enc(x)
        mean, log_variance = self.z_mean(hidden), self.z_log_var(hidden)
        return self.pixels(self.dec(self.sampling([mean, log_variance]))), mean, log_variance

    def own_loss(self, x: tf.Tensor) -> tf.Tensor:
        """Error of the pixels, summed, and divergence of the code."""
        pixels, mean, log_variance = self(x)
        error = tf.reduce_sum(tf.square(x - pixels), axis=-1)
        divergence = -0.5 * tf.reduce_sum(1 + log_variance - mean**2 - tf.exp(log_variance), axis=-1)
        return tf.reduce_mean(error) + self.kl_weight * tf.reduce_mean(divergence)

    def train_step(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        """As the example's."""
        with tf.GradientTape() as tape:
            loss = self.own_loss(x[0] if isinstance(x, tuple) else x)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return {"loss": loss}


def _vae(x: np.ndarray, kl_weight: float = 1.0) -> Built:
    model = Vae(kl_weight)
    model(x[:2])
    model.compile("adam")
    return Built((model,), x, loss=lambda: model.own_loss(tf.constant(x)))


def _digits() -> np.ndarray:
    return small_digits()[0][:256]


@CASES("VAE", KERAS_IO + "generative/vae.py")
def vae() -> Built:
    """Fresh, on digits in [0, 1]."""
    return _vae(_digits())


@CASES(
    "VAE, the divergence outweighs the pixels",
    "https://github.com/maxhodak/keras-molecules/issues/59: sums against means change the strength of the KL"
    " term; https://github.com/AppliedDataSciencePartners/WorldModels/issues/9: KL of 3e8 beside an "
    "error of 0.18",
    truth=(("penalty_dominates", "*"),),
    tape={"dec": "small", "pixels": "small"},
)
def heavy_divergence() -> Built:
    """Its weight is 1e5; decoder and pixels get a thousandth of what the encoder gets."""
    return _vae(_digits(), kl_weight=1e5)


@CASES(
    "VAE, raw features",
    KERAS
    + "12371: NaN loss in a VAE where the plain autoencoder is fine; exp of a log variance that is large",
    truth=(
        ("non_finite", "sampling"),
        ("unscaled_input", "enc"),
        ("non_finite", "z_log_var"),
        ("non_finite", "vae"),
    ),
    tape={"z_log_var": "nan"},
)
def overflowing_variance() -> Built:
    """Features of about 5,000: exp overflows, in the sample and in the divergence."""
    return _vae(5000 * normal(256, 64))


class Quantizer(layers.Layer):
    """The nearest of 16 vectors; straight-through or not."""

    def __init__(self, straight: bool, **options: str):
        super().__init__(**options)
        self.straight = straight

    def build(self, shape: tuple[int | None, ...]) -> None:
        """The codebook."""
        self.codes = self.add_weight(
            name="codes", shape=(16, shape[-1]), initializer=keras.initializers.RandomNormal(0.0, 0.5, seed=2)
        )

    def call(self, z: tf.Tensor) -> tf.Tensor:
        """The codes, and the losses that move codes and encoder to each other."""
        distances = tf.reduce_sum((z[:, None] - self.codes[None]) ** 2, axis=-1)
        code = tf.gather(tf.convert_to_tensor(self.codes), tf.argmin(distances, axis=-1))
        self.add_loss(tf.reduce_mean((code - tf.stop_gradient(z)) ** 2))
        if not self.straight:
            return code
        self.add_loss(0.25 * tf.reduce_mean((tf.stop_gradient(code) - z) ** 2))
        return z + tf.stop_gradient(code - z)


def _vq_vae(straight: bool) -> Built:
    start = keras.Input((64,))
    code = dense(8, "to_code", None)(dense(32, "enc")(start))
    code = Quantizer(straight, name="quantizer")(code)
    model = keras.Model(start, dense(64, "pixels", "sigmoid")(dense(32, "dec")(code)))
    return compiled(model, "mse", _digits(), _digits())


@CASES("VQ-VAE, straight-through", KERAS_IO + "generative/vq_vae.py")
def vq_vae() -> Built:
    """Codebook and commitment losses by add_loss."""
    return _vq_vae(straight=True)


@CASES(
    "VQ-VAE without the straight-through line",
    "https://github.com/Justin-Tan/generative-compression/issues/27 and "
    "https://github.com/Biohub/esm/issues/92:"
    " through an argmin no gradient comes back to the encoder",
    truth=(("disconnected", "quantizer"), ("disconnected", "to_code")),
    tape={"enc": "none", "to_code": "none", "dec": "live", "pixels": "live"},
)
def cut_quantizer() -> Built:
    """The decoder learns, the encoder has no gradient."""
    return _vq_vae(straight=False)


@CASES("diffusion, predicting the noise", KERAS_IO + "generative/ddim.py")
def diffusion() -> Built:
    """A small net reads the noisy image and sines of the noise's rate."""
    image, rate = keras.Input((64,)), keras.Input((1,))
    waves = ops.multiply(rate, ops.reshape(ops.logspace(0.0, 2.0, 8), (1, 8)))
    place = layers.Concatenate()([ops.sin(waves), ops.cos(waves)])
    hidden = layers.Concatenate()([dense(48, "read", "silu")(image), dense(16, "time", "silu")(place)])
    model = keras.Model([image, rate], dense(64, "noise", None)(dense(48, "mix", "silu")(hidden)))
    rates = np.random.default_rng(0).random((256, 1), "float32")
    noise = normal(256, 64)
    noisy = np.sqrt(1 - rates**2) * (_digits() - 0.3) / 0.37 + rates * noise
    return compiled(model, "mse", [noisy, rates], noise)


@CASES("denoising autoencoder", KERAS_IO + "vision/autoencoder.py")
def denoising() -> Built:
    """Convolutions down and up again, binary crossentropy of gray values."""
    images = _digits().reshape(-1, 8, 8, 1)
    start = keras.Input((8, 8, 1))
    hidden = layers.MaxPooling2D()(
        layers.Conv2D(16, 3, padding="same", activation="relu", name="down")(start)
    )
    hidden = layers.Conv2DTranspose(16, 3, strides=2, padding="same", activation="relu", name="up")(hidden)
    model = keras.Model(
        start, layers.Conv2D(1, 3, padding="same", activation="sigmoid", name="image")(hidden)
    )
    noisy = np.clip(images + 0.4 * normal(*images.shape), 0, 1)
    return compiled(model, "binary_crossentropy", noisy, images)


@CASES(
    "autoencoder, crossentropy of images in [-1, 1]",
    KERAS + "6476: a binary crossentropy that is negative; and images scaled for a tanh, "
    "https://github.com/fchollet/deep-learning-with-python-notebooks/issues/7",
    truth=(("output_mismatch", "pixels"),),
)
def negative_crossentropy() -> Built:
    """A sigmoid can't reach -1, and the loss has no lower bound."""
    images = 2 * _digits() - 1
    model = keras.Sequential([keras.Input((64,)), dense(32, "enc"), dense(64, "pixels", "sigmoid")])
    return compiled(model, "binary_crossentropy", images, images)
