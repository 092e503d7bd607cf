"""How well predictions fit: Keras' own losses, and the best constant prediction by trying all."""

import keras
import numpy as np
import pytest

from trainobs.records import OutputRecord
from trainobs.statistics._fit import fit_of

RNG = np.random.default_rng(0)
ROWS = RNG.dirichlet(np.ones(3), 40).astype("float32")
LOGITS = RNG.normal(size=(40, 3)).astype("float32")
ONE_HOT = np.eye(3, dtype="float32")[RNG.integers(0, 3, 40)]
MANY = RNG.integers(0, 2, (40, 3)).astype("float32")
PROBLEMS = {
    "squares": (keras.losses.MeanSquaredError(), LOGITS, 5 * LOGITS[::-1] + 2),
    "yes or no": (keras.losses.BinaryCrossentropy(), ROWS, MANY),
    "yes or no, of logits": (keras.losses.BinaryCrossentropy(from_logits=True), 30 * LOGITS, MANY),
    "classes": (keras.losses.CategoricalCrossentropy(), ROWS, ONE_HOT),
    "classes that don't add up": (keras.losses.CategoricalCrossentropy(), 3 * ROWS, ONE_HOT),
    "classes, of logits": (keras.losses.CategoricalCrossentropy(from_logits=True), LOGITS, ONE_HOT),
    "numbers of classes": (keras.losses.SparseCategoricalCrossentropy(), ROWS, ONE_HOT.argmax(1)),
    "numbers, of logits": (
        keras.losses.SparseCategoricalCrossentropy(from_logits=True), LOGITS, ONE_HOT.argmax(1)[:, None],
    ),
}  # fmt: skip


def record(name, **changes):
    """The output of a problem."""
    loss, value, target = PROBLEMS[name]
    from_logits = bool(getattr(loss, "from_logits", False))
    fields = dict(loss_name=loss.name, from_logits=from_logits) | changes
    return OutputRecord(0, value, target, None, False, **fields)


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize(
    "weight", [None, RNG.integers(0, 3, 40).astype("float32")], ids=["alike", "weighted"]
)
def test_the_loss_is_that_of_keras(name, weight):
    """Also with sample weights, of which Keras' mean is over all samples."""
    loss, value, target = PROBLEMS[name]
    fit = fit_of(record(name, sample_weight=weight))
    expected = float(loss(target, value, sample_weight=weight))
    assert fit.loss_sum / len(value) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", PROBLEMS)
def test_no_constant_is_better(name):
    """Of many constants around the mean target, and far from it."""
    loss, value, target = PROBLEMS[name]
    fit, kind = fit_of(record(name)), type(loss)
    plain = kind() if "crossentropy" in loss.name else loss
    constants = [fit.sums / fit.weight, *RNG.dirichlet(np.ones(3), 300), *RNG.normal(size=(300, 3)) * 3]
    usable = [c for c in constants if "crossentropy" not in loss.name or (np.min(c) > 0 and np.max(c) < 1)]
    losses = [float(plain(target, np.tile(c, (40, 1)).astype("float32"))) for c in usable]
    assert losses[0] == pytest.approx(fit.constant_loss, rel=1e-4)
    assert min(losses) >= fit.constant_loss * (1 - 1e-5)
    assert fit.uninformed_loss >= fit.constant_loss


@pytest.mark.parametrize("name", PROBLEMS)
def test_batches_add_up(name):
    """Two halves as one batch."""
    loss, value, target = PROBLEMS[name]
    whole = fit_of(record(name))
    first, second = (
        fit_of(OutputRecord(0, value[s], target[s], None, False, loss.name, record(name).from_logits))
        for s in (slice(0, 15), slice(15, None))
    )
    added = first + second
    assert added.loss == pytest.approx(whole.loss) and added.left == pytest.approx(whole.left)


def test_targets_of_one_class_are_held_against_all_classes_alike():
    """The best constant has a loss of 0 then, of which nothing can be left."""
    target = np.zeros(40, int)
    fit = fit_of(OutputRecord(0, ROWS, target, None, False, "sparse_categorical_crossentropy"))
    assert fit.constant_loss == 0 and fit.uninformed_loss == pytest.approx(np.log(3))
    assert fit.left == pytest.approx(fit.loss / np.log(3))


def test_what_can_not_be_known():
    """Own losses, targets of another shape, no targets, weights of another shape."""
    assert fit_of(record("classes", own_loss=True)) is None
    assert fit_of(record("classes", loss_name="huber")) is None
    assert fit_of(OutputRecord(0, ROWS, MANY[:, :2], None, False, "binary_crossentropy")) is None
    assert fit_of(OutputRecord(0, ROWS, None, None, False, "binary_crossentropy")) is None
    assert fit_of(record("classes", sample_weight=np.ones(3))) is None


def test_classes_that_are_to_be_ignored_do_not_count():
    """A number that no unit has."""
    target = np.where(np.arange(40) < 10, 255, ONE_HOT.argmax(1))
    fit = fit_of(OutputRecord(0, ROWS, target, None, False, "sparse_categorical_crossentropy"))
    assert fit.weight == 30
    kept = fit_of(OutputRecord(0, ROWS[10:], target[10:], None, False, "sparse_categorical_crossentropy"))
    assert fit.loss == pytest.approx(kept.loss)
