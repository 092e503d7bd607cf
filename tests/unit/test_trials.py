"""Trials: what fits a report, put to the test and ranked."""

import keras
import numpy as np
import pytest
from keras import layers

import trainobs
from tests.unit.remedy_models import CROSSENTROPY, some_digits, stack, weights
from trainobs import remedies
from trainobs.errors import InvalidArgument


@pytest.fixture(scope="module")
def dead():
    """A net with a dead layer, its data and its report."""
    model, (x, y) = stack(), some_digits()
    model.get_layer("h2").bias.assign(np.full(24, -100.0))
    return model, x, y, trainobs.explain_near_zero_gradients(model, x, y)


def test_what_fits_is_listed(dead):
    """A row per remedy, with what it changes and how to call it; nothing for a healthy model."""
    *_, report = dead
    table = report.remedies()
    assert list(table.columns) == ["cause", "layer", "remedy", "changes", "call"]
    assert set(table["cause"]) == {"dead_activation"} and set(table["layer"]) == {"h2"}
    assert table["remedy"].is_unique and len(table) == 13
    assert "24 of h2" in table["changes"].iloc[0]
    for call in table["call"]:
        assert hasattr(remedies, call.split("(")[0].removeprefix("remedies."))
    x, y = some_digits()
    assert trainobs.explain_near_zero_gradients(stack(), x, y).remedies().empty


def test_what_is_advised_is_tried_first(dead):
    """The bias is why units are off: the report says to reset it, and so does the first remedy."""
    *_, report = dead
    assert report.findings["remedy"].iloc[0].startswith("Reset the bias to 0")
    first = report.remedies().iloc[0]
    assert first["remedy"] == "reset the bias"
    assert first["call"] == "remedies.reset_bias(model, layers=['h2'], units=dead)"


def test_a_reset_bias_is_a_cure(dead):
    """The finding is gone, though no kernel was changed."""
    trials = dead[3].try_remedies(*dead[:3], steps=1, remedies=["reset the bias"])
    assert list(trials["gone"]) == [True]


@pytest.fixture
def two_dead():
    """A net with two dead layers that don't hide each other, its data and its report."""
    keras.utils.set_random_seed(3)
    start = keras.Input((64,))
    sides = [layers.Dense(16, "relu", name=name)(start) for name in ("left", "right")]
    model = keras.Model(start, layers.Dense(10, "softmax")(layers.Concatenate()(sides)))
    for name in ("left", "right"):
        model.get_layer(name).bias.assign(np.full(16, -100.0))
    model.compile("sgd", CROSSENTROPY)
    x, y = some_digits()
    return model, x, y, trainobs.explain_near_zero_gradients(model, x, y)


def test_findings_that_ask_for_the_same_share_a_trial(two_dead):
    """A row for each finding, but one application: all layers with the finding are treated together."""
    applied = []

    class Counted(remedies.Remedy):
        """Resets the bias, and counts how often."""

        name = "counted"
        against = ("dead_activation",)

        def prescribe(self, mechanism, situation):
            yield remedies.Treatment.of_model(mechanism, self.name, "Counts.", counted, layers=situation.same)

    def counted(model, *, layers):
        applied.append(layers)
        return remedies.reset_bias(model, layers=layers)

    model, x, y, report = two_dead
    try:
        trials = report.try_remedies(model, x, y, steps=1, remedies=["counted"])
    finally:
        remedies.unregister_remedy(Counted)
    assert sorted(trials["layer"]) == ["left", "right"] and trials["gone"].all()
    assert len(applied) == 1 and sorted(applied[0]) == ["left", "right"]
    listed = report.remedies().groupby("layer")["call"]
    assert set(listed.get_group("left")) == set(listed.get_group("right"))


def test_trials_rank_by_what_they_measured(dead):
    """Each figure against what it is defined as, done by hand."""
    model, x, y, report = dead
    before = weights(model)
    names = ["re-initialise dead", "swap activation (leaky_relu)", "lower"]
    trials = report.try_remedies(model, x, y, steps=8, remedies=names)
    assert all(np.array_equal(before[path], value) for path, value in weights(model).items())
    assert list(trials["remedy"]) == [
        "re-initialise dead units", "swap activation (leaky_relu)", "lower learning rate"
    ]  # fmt: skip
    assert list(trials["gone"]) == [True, True, False]
    assert list(trials["findings_after"]) == [0, 0, 1]
    best, last = trials.iloc[0], trials.iloc[-1]
    rows = report.layers
    assert best["near_zero_before"] == pytest.approx(
        (rows["near_zero"] * rows["size"]).sum() / rows["size"].sum()
    )
    new = remedies.reinitialise_units(model, {"h2": np.ones(24, bool)})
    after = trainobs.explain_near_zero_gradients(new, x, y)
    assert best["near_zero_after"] == pytest.approx(
        (after.layers["near_zero"] * after.layers["size"]).sum() / rows["size"].sum()
    )
    gradients = [np.sqrt((r.layers["gradient_rms"] ** 2 * r.layers["size"]).sum()) for r in (after, report)]
    assert best["gradient_gain"] == pytest.approx(gradients[0] / gradients[1], rel=1e-3)
    assert best["loss_after"] < best["loss_untreated"]
    assert last["gradient_gain"] == pytest.approx(1)
    again = report.try_remedies(model, x, y, steps=8, remedies=names)
    assert again.equals(trials)


def test_what_can_not_be_applied_is_told(dead):
    """A remedy that fails has a row that says why, and is ranked last."""
    model, x, y, _ = dead
    classes = stack()
    classes.get_layer("h1").kernel.assign(1e4 * classes.get_layer("h1").kernel)
    report = trainobs.explain_near_zero_gradients(classes, 1e3 * x, y)
    trials = report.try_remedies(classes, 1e3 * x, y, steps=2)
    if "exploding" in set(report.findings["cause"]):
        assert "classes" in trials.set_index("remedy").loc["standardise targets", "failed"]
    with pytest.raises(InvalidArgument, match="No remedy that fits"):
        dead[3].try_remedies(model, x, y, remedies=["surgery"])
    with pytest.raises(InvalidArgument, match="positive"):
        dead[3].try_remedies(model, x, y, steps=0)


def test_the_users_random_numbers_stay(dead):
    """Trials seed what they draw, and put Python's generator back."""
    import random

    model, x, y, report = dead
    random.seed(4)
    expected = random.random()
    random.seed(4)
    report.try_remedies(model, x, y, steps=1, remedies=["re-initialise dead"])
    assert random.random() == expected


def test_a_picture_of_nothing(dead):
    """A healthy model needs no remedy: the picture says so."""
    import matplotlib.pyplot as plt

    *_, report = dead
    trials = report.try_remedies(*dead[:3], steps=1, remedies=["re-initialise dead"]).iloc[:0]
    left, _ = report.plot_remedies(trials)
    assert left.figure.get_suptitle() == "No remedy fits"
    plt.close(left.figure)


def test_the_picture(dead):
    """A row per remedy, and the best one in the title."""
    import matplotlib.pyplot as plt

    model, x, y, report = dead
    trials = report.try_remedies(model, x, y, steps=2, remedies=["re-initialise dead", "lower"])
    left, right = report.plot_remedies(trials)
    assert [label.get_text() for label in left.get_yticklabels()] == list(trials["remedy"])
    assert left.figure.get_suptitle() == "Re-initialise dead units removes dead activation at h2"
    assert right.get_xlabel() == "loss after training"
    plt.close(left.figure)
