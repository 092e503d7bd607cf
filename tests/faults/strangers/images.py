"""Pictures: classification, segmentation, attention."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from tests.faults.models import classifier, dense, small_images
from tests.faults.models import compiled as for_classes
from tests.faults.strangers.cases import KERAS, KERAS_IO, TENSORFLOW, Built, Family, compiled

CASES = Family()


def _conv(filters: int, name: str, activation: str | None = "relu", **options: object) -> layers.Layer:
    return layers.Conv2D(filters, 3, padding="same", activation=activation, name=name, **options)


def _images() -> tuple[np.ndarray, np.ndarray]:
    x, y = small_images()
    return x[:128], y[:128]


def _unet(head: layers.Layer) -> tuple[tf.Tensor, tf.Tensor]:
    start = keras.Input((8, 8, 1))
    large = _conv(8, "down1")(start)
    small = _conv(16, "down2")(layers.MaxPooling2D()(large))
    up = layers.Conv2DTranspose(8, 2, strides=2, activation="relu", name="up")(small)
    return start, head(_conv(8, "join")(layers.Concatenate()([large, up])))


def _dice(truth: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    truth = ops.cast(truth, "float32")
    both = ops.sum(truth * mask, axis=(1, 2, 3))
    return 1 - ops.mean((2 * both + 1) / (ops.sum(truth, axis=(1, 2, 3)) + ops.sum(mask, axis=(1, 2, 3)) + 1))


def _segmented(head: layers.Layer, loss: object) -> Built:
    x, _ = _images()
    return compiled(keras.Model(*_unet(head)), loss, x, (x > 0.5).astype("float32"))


@CASES("U-Net with dice", KERAS_IO + "vision/oxford_pets_image_segmentation.py, with a dice loss")
def unet() -> Built:
    """A sigmoid mask, smoothed dice."""
    return _segmented(layers.Conv2D(1, 1, activation="sigmoid", name="mask"), _dice)


@CASES(
    "U-Net, dice of a thresholded mask",
    KERAS + "10321: which backend functions can be differentiated; K.round in an own loss, " + KERAS + "4175",
    truth=(("disconnected", "mask"),),
    tape={"down1": "none", "join": "none", "mask": "none"},
)
def rounded_dice() -> Built:
    """Dice of the rounded mask, as it is measured."""
    return _segmented(
        layers.Conv2D(1, 1, activation="sigmoid", name="mask"),
        lambda truth, mask: _dice(truth, ops.round(mask)),
    )


@CASES(
    "U-Net, softmax over one channel",
    "https://github.com/jakeret/tf_unet/issues/234 (always no mask) and " + KERAS + "18909: ones only",
    truth=(("output_mismatch", "mask"),),
)
def one_channel() -> Built:
    """Every pixel is of the one class, whatever Keras 3 learns from the logit before."""
    return _segmented(layers.Conv2D(1, 1, activation="softmax", name="mask"), "binary_crossentropy")


@CASES("simple convnet", KERAS_IO + "vision/mnist_convnet.py")
def convnet() -> Built:
    """Two convolutions, pooling, dropout."""
    start = keras.Input((8, 8, 1))
    hidden = layers.MaxPooling2D()(_conv(16, "conv1")(start))
    hidden = layers.Dropout(0.5)(layers.Flatten()(_conv(32, "conv2")(hidden)))
    return Built((classifier(start, hidden),), *_images())


@CASES("ConvMixer", KERAS_IO + "vision/convmixer.py")
def convmixer() -> Built:
    """Depthwise convolutions with a residual, pointwise ones, normalisations behind GELUs."""
    start = keras.Input((8, 8, 1))
    hidden = layers.Conv2D(16, 2, strides=2, activation="gelu", use_bias=False, name="patches")(start)
    for block in "ab":
        inner = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name=f"depth_{block}")(hidden)
        hidden = layers.Add()([hidden, layers.BatchNormalization()(ops.gelu(inner))])
        hidden = layers.Conv2D(16, 1, use_bias=False, name=f"point_{block}")(hidden)
        hidden = layers.BatchNormalization()(ops.gelu(hidden))
    return Built((classifier(start, layers.GlobalAveragePooling2D()(hidden)),), *_images())


@CASES("vision transformer", KERAS_IO + "vision/image_classification_with_vision_transformer.py")
def vision_transformer() -> Built:
    """16 patches, places, one block."""
    start = keras.Input((8, 8, 1))
    patches = layers.Reshape((16, 24))(layers.Conv2D(24, 2, strides=2, name="patches")(start))
    tokens = patches + layers.Embedding(16, 24, name="places")(ops.arange(16))
    normal = layers.LayerNormalization(name="norm1")(tokens)
    tokens = tokens + layers.MultiHeadAttention(2, 12, name="attention")(normal, normal)
    tokens = tokens + dense(24, "narrow", None)(
        dense(48, "wide", "gelu")(layers.LayerNormalization(name="norm2")(tokens))
    )
    return Built((classifier(start, layers.Flatten()(tokens)),), *_images())


@CASES(
    "convnet of raw pixels",
    "UMLAUT (Schoop, Huang, Hartmann, CHI 2021): input data exceeds typical limits; and "
    + KERAS
    + "2711: check the range of the input and normalise it",
    truth=(("unscaled_input", "conv1"),),
)
def raw_pixels() -> Built:
    """Pixels in [0, 255], and no normalisation behind them."""
    x, y = _images()
    start = keras.Input((8, 8, 1))
    hidden = layers.MaxPooling2D()(_conv(16, "conv1")(start))
    return Built((classifier(start, layers.Flatten()(_conv(32, "conv2")(hidden))),), 255 * x, y)


@CASES(
    "convnet of raw pixels behind Rescaling",
    "https://keras.io/api/layers/preprocessing_layers/image_preprocessing/rescaling/, as in "
    + KERAS_IO
    + "vision/image_classification_from_scratch.py",
)
def rescaled_pixels() -> Built:
    """The first layer divides by 255."""
    x, y = _images()
    start = keras.Input((8, 8, 1))
    hidden = layers.MaxPooling2D()(_conv(16, "conv1")(layers.Rescaling(1 / 255)(start)))
    return Built((classifier(start, layers.Flatten()(_conv(32, "conv2")(hidden))),), 255 * x, y)


class Root(layers.Layer):
    """A square root of features."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Not smoothed."""
        return ops.sqrt(x)


@CASES(
    "square root of ReLU features",
    KERAS + "13203: the loss is nan with K.sqrt of features in the middle",
    truth=(("non_finite", "error_point"),),
    tape={"middle/kernel": "nan", "head": "live"},
)
def root_features() -> Built:
    """Where a unit is off, the root's slope is infinite."""
    start = keras.Input((8, 8, 1))
    hidden = Root(name="error_point")(dense(32, "middle")(layers.Flatten()(start)))
    return Built((classifier(start, hidden),), *_images())


@CASES(
    "class activation by an argmax of positions",
    f"{TENSORFLOW}1511: arg_max and a cast between the net and its loss, no gradients for any variable",
    truth=(("disconnected", "peak"), ("disconnected", "heat")),
    tape={"heat": "none", "head": "live"},
)
def argmax_of_positions() -> Built:
    """Where the heat map is highest is cast to a number and read by a head."""

    class Peak(layers.Layer):
        """The position of the largest value of each map."""

        def call(self, maps: tf.Tensor) -> tf.Tensor:
            """As numbers in [0, 1]."""
            flat = ops.reshape(maps, (-1, 64, 8))
            return ops.cast(ops.argmax(flat, axis=1), "float32") / 64

    start = keras.Input((8, 8, 1))
    model = keras.Model(start, dense(10, "head", "softmax")(Peak(name="peak")(_conv(8, "heat")(start))))
    return Built((for_classes(model),), *_images())
