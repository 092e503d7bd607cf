"""Written after all the others were right, and judged only then: what is said of models at first sight."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from tests.faults.models import classifier, dense, rows_of_digits, sentences, small_digits, small_images
from tests.faults.models import compiled as for_classes
from tests.faults.strangers.autoencoders import Sampling
from tests.faults.strangers.cases import KERAS_IO, TENSORFLOW, Built, Family, compiled, normal

CASES = Family()


# ---- terms of the loss ---------------------------------------------------------------------------


class Divergence(layers.Layer):
    """Adds the divergence of a code to the loss, and hands the code on."""

    def call(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        """The mean, and a sample."""
        mean, log_variance = inputs
        kl = -0.5 * ops.sum(1 + log_variance - mean**2 - ops.exp(log_variance), axis=-1)
        self.add_loss(ops.mean(kl))
        return mean


def _vae_of_layers(pixels_count: bool) -> Built:
    """Functional, the divergence by add_loss; errors of pixels summed, or averaged."""
    x = small_digits()[0][:256]
    start = keras.Input((64,))
    hidden = dense(32, "enc")(start)
    mean, log_variance = dense(4, "z_mean", None)(hidden), dense(4, "z_log_var", None)(hidden)
    code = Sampling(name="sampling")([Divergence(name="divergence")([mean, log_variance]), log_variance])
    model = keras.Model(start, dense(64, "pixels", "sigmoid")(dense(32, "dec")(code)))
    times = 64 if pixels_count else 1
    loss = lambda truth, guess: times * keras.losses.binary_crossentropy(truth, guess)  # noqa: E731
    return compiled(model, loss, x, x)


@CASES(
    "VAE, a mean over pixels beside a sum over codes",
    "https://github.com/keras-team/keras/pull/3383 and https://github.com/keras-team/keras/issues/3373: the "
    "example's reconstruction loss is extremely small since the factor original_dim is gone",
    truth=(("penalty_dominates", "*"),),
)
def averaged_pixels() -> Built:
    """The divergence is 64 times too loud."""
    return _vae_of_layers(pixels_count=False)


@CASES("VAE of layers, add_loss", "https://keras.io/guides/making_new_layers_and_models_via_subclassing/")
def vae_of_layers() -> Built:
    """The same with a sum over pixels."""
    return _vae_of_layers(pixels_count=True)


def _activity(rate: float) -> Built:
    penalty = keras.regularizers.L2(rate) if rate > 1 else keras.regularizers.L1(rate)
    start = keras.Input((8, 8, 1))
    hidden = layers.Conv2D(16, 3, activation="relu", activity_regularizer=penalty, name="conv1")(start)
    hidden = layers.Dense(32, "relu", activity_regularizer=penalty, name="d1")(layers.Flatten()(hidden))
    x, y = small_images()
    return Built((classifier(start, hidden),), x[:192], y[:192])


@CASES(
    "activity regularisers of 100,000",
    TENSORFLOW + "33219: activity_regularizer=l2(100000.) at every layer, and no effect was seen",
    truth=(("penalty_dominates", "*"), ("exploding", "conv1"), ("exploding", "d1")),
)
def loud_activities() -> Built:
    """In Keras 3 they count."""
    return _activity(1e5)


@CASES("sparse codes by an activity regulariser", "https://blog.keras.io/building-autoencoders-in-keras.html")
def sparse_codes() -> Built:
    """L1 of 1e-5, as in the blog."""
    return _activity(1e-5)


@CASES(
    "focal loss of clipped probabilities",
    "https://github.com/tensorflow/addons/issues/693: no gradient comes through K.clip where it has clipped",
    truth=(
        ("zero_loss_gradient", "out"),
        ("saturated_activation", "out"),
        ("output_mismatch", "out"),
        ("masked", "out"),
    ),
    tape={"h1": "zero", "out": "zero"},
)
def clipped_focal() -> Built:
    """A head that says 1e-13 for every sample, as after a prior that was set too strong."""
    x, y = small_digits()
    model = keras.Sequential([keras.Input((64,)), dense(32, "h1"), dense(1, "out", "sigmoid")])
    model.get_layer("out").bias.assign([-30.0])

    def focal(truth: tf.Tensor, guess: tf.Tensor) -> tf.Tensor:
        guess = ops.clip(guess, 1e-7, 1 - 1e-7)
        truth = ops.cast(truth, "float32")
        right = truth * guess + (1 - truth) * (1 - guess)
        return ops.mean(-((1 - right) ** 2) * ops.log(right))

    return compiled(model, focal, x[:192], (y[:192, None] == 3).astype("float32"))


@CASES(
    "logarithm of a clipped tensor that is not used",
    "https://github.com/one-leaf/tensorflow/issues/6: tf.clip_by_value(pred, 1e-15, 1.0) is called, its "
    "result is dropped, and the loss becomes nan",
    truth=(("non_finite", "out"), ("non_finite", "*")),
    tape={"out": "nan"},
)
def dropped_clip() -> Built:
    """Raw pixels and unit normal kernels: the softmax puts out exact zeros."""
    x, y = small_digits()
    unit = keras.initializers.RandomNormal(stddev=1.0, seed=0)
    hidden = layers.Dense(64, "relu", kernel_initializer=unit, name="h1")
    out = layers.Dense(10, "softmax", kernel_initializer=unit, name="out")
    model = keras.Sequential([keras.Input((64,)), hidden, out])

    def own(truth: tf.Tensor, guess: tf.Tensor) -> tf.Tensor:
        tf.clip_by_value(guess, 1e-15, 1.0)
        return tf.reduce_mean(-tf.reduce_sum(truth * tf.math.log(guess), axis=1))

    return compiled(model, own, 16 * x[:192], np.eye(10, dtype="float32")[y[:192]])


@CASES(
    "masked language model, no token is masked",
    "https://github.com/huggingface/transformers/issues/16711: the loss is NaN if no token is masked: a mean "
    "over nothing",
    truth=(("non_finite", "guess"), ("non_finite", "*")),
    tape={"words": "nan", "guess": "nan"},
)
def nothing_masked() -> Built:
    """The sum of no errors over the number of no tokens."""
    x = sentences()[0][:64]
    start = keras.Input((12,), dtype="int32")
    hidden = dense(24, "wide", "gelu")(layers.Embedding(21, 24, name="words")(start))
    model = keras.Model(start, dense(21, "guess", "softmax")(hidden))
    masked = np.zeros(x.shape, "float32")

    def own(truth: tf.Tensor, guess: tf.Tensor) -> tf.Tensor:
        errors = keras.losses.sparse_categorical_crossentropy(truth[..., 0], guess)
        return tf.reduce_sum(errors * truth[..., 1]) / tf.reduce_sum(truth[..., 1])

    return compiled(model, own, x, np.stack([x, masked], axis=-1).astype("float32"))


# ---- layers --------------------------------------------------------------------------------------


@CASES(
    "batch normalisation of a batch of one",
    "https://github.com/d2l-ai/d2l-en/issues/1722: with minibatches of size 1 nothing can be learnt, as each "
    "unit is 0 once the mean is subtracted",
    truth=(("masked", "norm"),),
    tape={"h1/kernel": "zero", "head/bias": "live"},
)
def batch_of_one() -> Built:
    """A dense net, so that nothing else is averaged."""
    x, y = small_digits()
    start = keras.Input((64,))
    hidden = layers.BatchNormalization(name="norm")(layers.Dense(32, name="h1")(start))
    return Built((classifier(start, layers.Activation("tanh")(hidden)),), x[:1], y[:1])


@CASES(
    "GAN of tokens that are drawn",
    "https://github.com/LantaoYu/SeqGAN/issues/31: how the gradients pass down through tf.multinomial; they "
    "do not",
    truth=(("disconnected", "draw"), ("disconnected", "tokens"), ("disconnected", "judge")),
    tape={"tokens": "none", "g1": "none"},
)
def drawn_tokens() -> Built:
    """The generator's step: a discriminator reads what was drawn."""

    class Draw(layers.Layer):
        """One token of each row of logits, as one-hot."""

        def call(self, logits: tf.Tensor) -> tf.Tensor:
            """Drawn."""
            drawn = tf.random.categorical(logits, 1, seed=1)[:, 0]
            return tf.one_hot(drawn, logits.shape[-1])

    start = keras.Input((16,))
    logits = dense(20, "tokens", None)(dense(32, "g1")(start))
    judge = dense(1, "judge", "sigmoid")(dense(16, "d1")(Draw(name="draw")(logits)))
    return compiled(keras.Model(start, judge), "binary_crossentropy", normal(128, 16), np.ones((128, 1)))


@CASES(
    "diffusion transformer, its last layer starts at zero",
    "https://github.com/facebookresearch/DiT/blob/main/models.py: adaLN layers and the output are zeroed",
    tape={"block": "zero", "embed": "zero", "shift": "zero", "time": "zero"},
)
def zeroed_output() -> Built:
    """Nothing before the end gets a gradient in the first step, and it is meant so."""
    image, rate = keras.Input((64,)), keras.Input((1,))
    time = dense(16, "time", "silu")(rate)
    hidden = dense(32, "embed", None)(image)
    shift = layers.Dense(32, kernel_initializer="zeros", name="shift")(time)
    hidden = hidden + dense(32, "block", "gelu")(hidden + shift)
    out = layers.Dense(64, kernel_initializer="zeros", name="noise")(hidden)
    x, noise = small_digits()[0][:256], normal(256, 64)
    rates = np.random.default_rng(0).random((256, 1), "float32")
    return compiled(
        keras.Model([image, rate], out), "mse", [np.sqrt(1 - rates**2) * x + rates * noise, rates], noise
    )


@CASES(
    "residual net, the last gamma of a block starts at zero",
    "https://github.com/tensorflow/models/blob/master/official/vision/modeling/backbones/resnet.py "
    "(init with zero gamma; Goyal et al. 2017)",
    tape={"conv_a": "zero", "conv_b": "zero"},
)
def zero_gammas() -> Built:
    """Blocks are the identity at first."""
    start = keras.Input((8, 8, 1))
    hidden = layers.Conv2D(16, 3, padding="same", activation="relu", name="stem")(start)
    for block in "ab":
        inner = layers.Conv2D(16, 3, padding="same", use_bias=False, name=f"conv_{block}")(hidden)
        inner = layers.BatchNormalization(gamma_initializer="zeros", name=f"norm_{block}")(inner)
        hidden = layers.ReLU()(layers.Add()([hidden, inner]))
    x, y = small_images()
    return Built((classifier(start, layers.GlobalAveragePooling2D()(hidden)),), x[:192], y[:192])


@CASES("transformer of a time series", KERAS_IO + "timeseries/timeseries_classification_transformer.py")
def series_transformer() -> Built:
    """Attention and convolutions of width 1, pooled over channels."""
    x, y = rows_of_digits()
    start = keras.Input((8, 8))
    hidden = start
    for block in "ab":
        read = layers.MultiHeadAttention(2, 16, dropout=0.25, name=f"attention_{block}")(hidden, hidden)
        hidden = layers.LayerNormalization(epsilon=1e-6, name=f"norm_{block}")(read) + hidden
        inner = layers.Conv1D(8, 1, activation="relu", name=f"wide_{block}")(hidden)
        inner = layers.Conv1D(8, 1, name=f"narrow_{block}")(layers.Dropout(0.25)(inner))
        hidden = layers.LayerNormalization(epsilon=1e-6, name=f"norm2_{block}")(inner) + hidden
    hidden = layers.GlobalAveragePooling1D(data_format="channels_last")(hidden)
    return Built((classifier(start, dense(64, "wide")(hidden)),), x[:192], y[:192])


@CASES("movies and users", KERAS_IO + "structured_data/collaborative_filtering_movielens.py")
def movies() -> Built:
    """Tables of users, movies and their biases; the sigmoid of a product."""
    rng = np.random.default_rng(0)
    user, movie = keras.Input((), dtype="int32"), keras.Input((), dtype="int32")
    penalty = {"embeddings_initializer": "he_normal", "embeddings_regularizer": keras.regularizers.L2(1e-6)}
    users, movies = (layers.Embedding(n, 16, name=t, **penalty) for n, t in ((60, "users"), (80, "movies")))
    bias = layers.Embedding(60, 1, name="user_bias")(user) + layers.Embedding(80, 1, name="movie_bias")(movie)
    product = ops.sum(users(user) * movies(movie), axis=-1, keepdims=True)
    model = keras.Model([user, movie], ops.sigmoid(product + bias))
    x = [rng.integers(0, 60, 256), rng.integers(0, 80, 256)]
    return compiled(model, "binary_crossentropy", x, rng.random((256, 1), "float32"))


@CASES("super-resolution of sub-pixels", KERAS_IO + "vision/super_resolution_sub_pixel.py")
def sub_pixels() -> Built:
    """Convolutions, and channels that become pixels."""
    options = {"activation": "relu", "kernel_initializer": "orthogonal", "padding": "same"}
    start = keras.Input((8, 8, 1))
    hidden = layers.Conv2D(16, 5, name="conv1", **options)(start)
    hidden = layers.Conv2D(16, 3, name="conv2", **options)(hidden)
    hidden = layers.Conv2D(4, 3, name="conv3", **options)(hidden)
    x = small_images()[0][:128]
    return compiled(
        keras.Model(start, ops.reshape(hidden, (-1, 16, 16, 1))),
        "mse",
        x,
        np.repeat(np.repeat(x, 2, axis=1), 2, axis=2),
    )


@CASES(
    "pix2pix, the generator's step", "https://www.tensorflow.org/tutorials/generative/pix2pix (lambda of 100)"
)
def generator_of_pairs() -> Built:
    """Crossentropy of the judge, and a hundred times the mean absolute error."""
    x = small_digits()[0][:128]
    made = keras.Sequential(
        [keras.Input((64,)), dense(48, "g1"), dense(64, "g_out", "tanh")], name="generator"
    )
    judge = keras.Sequential([keras.Input((128,)), dense(48, "d1"), dense(1, "d_out", None)], name="judge")
    target = 2 * x[:, ::-1] - 1

    def loss() -> tf.Tensor:
        image = made(x, training=True)
        judged = judge(tf.concat([x, image], axis=1), training=True)
        fooled = tf.nn.sigmoid_cross_entropy_with_logits(tf.ones_like(judged), judged)
        return tf.reduce_mean(fooled) + 100 * tf.reduce_mean(tf.abs(target - image))

    return Built((made, judge), loss=loss, trained=(made,))


@CASES("two classes that are rare", KERAS_IO + "structured_data/imbalanced_classification.py")
def class_weights() -> Built:
    """Dropout, weights of classes as weights of samples."""
    x, y = small_digits()
    x, y = (x[:512] - 0.3) / 0.37, (y[:512] == 0).astype("float32")[:, None]
    start = keras.Input((64,))
    hidden = layers.Dropout(0.3)(dense(64, "h2")(layers.Dropout(0.3)(dense(64, "h1")(start))))
    model = for_classes(keras.Model(start, dense(1, "out", "sigmoid")(hidden)), "binary_crossentropy")
    return Built(
        (model,), x, y, np.where(y[:, 0] == 1, 1 / y.sum(), 1 / (1 - y).sum()).astype("float32") * 256
    )
