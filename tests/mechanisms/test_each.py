"""Each mechanism at a planted place, and nowhere in a healthy chain; its words and numbers.

No test here builds a Keras model: steps are computed by NumPy (see `chains`).
"""

import dataclasses
import math

import numpy as np
import pytest

from tests.mechanisms.chains import WIDTH, Dense, case_of, dense, inputs, step, with_node, with_whole_layer
from trainobs import mechanisms as m
from trainobs.activations import Activation
from trainobs.diagnosis import diagnose
from trainobs.findings import SEVERITIES
from trainobs.records import SCORES, Ending, Place, Scalars, sums_of

HEAD = {"units": 3, "seed": 2, "activation": "linear"}


def hidden(**options):
    """A chain with one layer planted between two healthy ones."""
    return dense(), dense(seed=1, **options), dense(**HEAD)


def diagnosed(record, **thresholds):
    """The mechanism of the first finding."""
    diagnosis = diagnose(case_of(record, **thresholds))
    first = diagnosis.findings[0]
    return diagnosis.mechanisms[first.cause, first.layer]


def test_a_healthy_chain_has_none():
    """Fresh layers of He's scale on standardised data."""
    assert not diagnose(case_of(step(inputs(), *hidden()))).findings


# ---- units that are off --------------------------------------------------------------------------


def test_dead_by_their_bias():
    """All units are pushed below zero, and the advice follows the reason."""
    found = diagnosed(step(inputs(), *hidden(bias=-50.0)))
    assert isinstance(found, m.DeadActivation)
    assert (found.layer, found.dead, found.units, found.reason) == ("d1", WIDTH, WIDTH, "bias")
    assert found.bias_rms == pytest.approx(50) and found.value == 1.0
    assert "8 of the 8 relu units of d1 are off at all 64 positions" in found.evidence()
    assert "bias" in found.advice() and found.summary() == "8 of 8 units, 64 positions"


def test_dead_by_their_weights():
    """Negative weights on positive inputs: more of the units have to be off than by a bias."""
    negative = dense(seed=1)
    negative.kernel = -abs(negative.kernel)
    record = step(inputs(), dense(), negative, dense(**HEAD))
    found, case = diagnosed(record), case_of(record)
    assert (found.reason, found.threshold(case)) == ("weights", case.thresholds.dead_units_by_chance)
    assert "no live input meets a weight of its own sign" in found.evidence()


@pytest.mark.parametrize(("part", "dead"), [(0.5, False), (0.625, True)])
def test_dead_units_are_held_against_their_threshold(part, dead):
    """Half of the units by their bias are not yet a dead layer, more are."""
    bias = np.where(np.arange(WIDTH) < part * WIDTH, -50.0, 0.0)
    case = case_of(step(inputs(), *hidden(bias=bias)))
    assert m.DeadActivation.holds(case, case.sites["d1/kernel"]) is dead


def test_saturated():
    """A large kernel of a tanh layer."""
    found = diagnosed(step(inputs(), dense(), dense(seed=1, scale=100.0, activation="tanh"), dense(**HEAD)))
    assert isinstance(found, m.SaturatedActivation)
    assert (found.layer, found.reason) == ("d1", "weights") and found.off > 0.5
    assert "the kernel is too large" in found.evidence() and "Re-initialise" in found.advice()


def test_a_saturated_output_counts_where_it_cuts_the_error_off():
    """At the output, where it is right, saturation is healthy: the slope gain decides."""
    far = step(inputs(), dense(), dense(units=3, seed=2, activation="sigmoid", bias=40.0), loss_gradient=1.0)
    assert isinstance(diagnosed(far), m.SaturatedActivation)
    near = step(inputs(), dense(), dense(units=3, seed=2, activation="sigmoid", bias=3.0))
    assert not diagnose(case_of(near)).findings


def test_unscaled_input():
    """Data of rms 100 saturates the layer that reads it."""
    found = diagnosed(step(inputs(100.0), dense(activation="tanh"), dense(**HEAD)))
    assert isinstance(found, m.UnscaledInput)
    assert found.value == pytest.approx(100, rel=0.1) and "where about 1 is expected" in found.evidence()


def test_unscaled_input_is_none_of_what_does_the_same_at_any_scale():
    """ReLU: large data that kills nothing is only told as large."""
    case = case_of(step(inputs(100.0), dense(), dense(**HEAD)))
    assert not m.UnscaledInput.holds(case, case.sites["d0/kernel"])
    assert list(m.LargeInput.seen(case)) and diagnosed(step(inputs(100.0), *hidden())).severity == "warning"


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_one_signed_input(scale):
    """Data far from zero against its deviation, at any scale: shifted, the dead units would fire."""
    x = scale * (inputs() - 30.0)
    found = diagnosed(step(x, *hidden()))
    assert isinstance(found, m.OneSignedInput) and (found.layer, found.severity) == ("d0", "warning")
    assert found.dead > 1 and found.mean == pytest.approx(30 * scale, rel=0.1)
    assert found.fresh_off == found.value == pytest.approx(0.46, abs=0.02)
    assert "would fire if the data had a mean of zero" in found.evidence() and "mean" in found.advice()
    assert not [
        f for f in diagnose(case_of(step(x - x.mean(0), *hidden()))).findings if f.severity == "error"
    ]


def test_few_inputs_of_one_sign():
    """One positive input and a negative weight: every second fresh layer would be dead."""
    x = np.array([[0.5], [1.0], [0.4], [5.0], [25.0]] * 20, np.float32)
    negative = dense(1, 1, scale=0.5)
    negative.kernel = -abs(negative.kernel)
    found = diagnosed(step(x, negative, dense(1, 9, seed=1), dense(9, 3, seed=2, activation="linear")))
    assert isinstance(found, m.OneSignedInput) and found.fresh_off == 0.5
    assert "The only relu unit of d0 is off at all 100 positions" in found.evidence()


def test_one_input_of_one_sign_informs_while_half_of_the_units_live():
    """As fresh ReLU layers on x in [0, 1] are; over few positions nothing is said."""
    x = np.random.default_rng(0).uniform(size=(64, 1)).astype(np.float32)
    (found,) = diagnose(case_of(step(x, dense(1, 8, seed=3), *hidden()[1:]))).mechanisms.values()
    assert isinstance(found, m.OneSignedInput) and found.severity == "info" and 2 < found.dead < WIDTH
    assert dataclasses.replace(found, dead=WIDTH).severity == "error"
    few = case_of(step(x[:5], dense(1, 8, seed=3), *hidden()[1:]))
    assert not list(m.OneSignedInput.suspects(few))


def test_inputs_of_one_sign_that_are_not_why():
    """Raw images, say, of which a fresh layer has no dead units: its own weights, or its bias, are why."""
    x = np.random.default_rng(0).uniform(size=(64, WIDTH)).astype(np.float32)
    negative = dense()
    negative.kernel = -abs(negative.kernel)
    assert diagnosed(step(x, negative, *hidden()[1:])).cause == "dead_activation"
    case = case_of(step(x, *hidden()))
    assert not list(m.OneSignedInput.suspects(case)) and not diagnose(case).findings
    pushed = case_of(step(inputs() - 30.0, dense(bias=-2e3), dense(**HEAD)))
    assert not m.OneSignedInput.holds(pushed, pushed.sites["d0/kernel"])


# ---- factors that take turns -----------------------------------------------------------------

SIDES = np.where(np.arange(64) % 2, 1.0, -1.0).astype(np.float32)[:, None]


def one_unit(weight, **options):
    """A layer of one unit that reads one input."""
    return Dense(np.full((1, 1), weight, np.float32), **options)


@pytest.mark.parametrize("weight", [-1.0, -1e-8])
def test_off_where_the_error_is(weight):
    """The unit fires for negative inputs, the error is at positive ones; its small weight is not why."""
    record = step(SIDES, one_unit(weight), one_unit(1.0, activation="linear"), loss_gradient=SIDES > 0)
    diagnosis = diagnose(case_of(record))
    found = diagnosis.findings[0]
    assert (found.severity, found.cause, found.layer) == ("error", "off_at_errors", "d0")
    assert (
        "on at 0.5 of all positions, and gradients arrive at 0.5 of them, but both at only 0"
        in found.evidence
    )
    assert (found.value, found.threshold) == (0.0, 1e-3)


def test_on_where_the_error_is():
    """The look-alike: the same unit, turned around."""
    record = step(SIDES, one_unit(1.0), one_unit(1.0, activation="linear"), loss_gradient=SIDES > 0)
    assert not diagnose(case_of(record)).findings


def test_off_at_few_errors_may_be_chance():
    """Gradients at four positions: that a unit is off at all of them says little."""
    few = (SIDES > 0) & (np.arange(64) < 8)[:, None]
    record = step(SIDES, one_unit(-1.0), one_unit(1.0, activation="linear"), loss_gradient=few)
    found = diagnose(case_of(record)).findings[0]
    assert (found.severity, found.cause) == ("info", "off_at_errors")
    assert "only 4 positions that may be chance: 10 would show it" in found.evidence


def test_what_is_read_says_nothing_where_the_error_is():
    """An input that is zero wherever a gradient arrives."""
    x = np.where(SIDES < 0, SIDES, 0)
    found = diagnosed(step(x, one_unit(1.0, activation="linear"), loss_gradient=SIDES > 0))
    assert found == m.ReadsNothingAtErrors("d0", 0.5, 0.5)
    assert "next to never in the same" in found.evidence()


def test_units_that_fire_on_nothing():
    """A negative weight on inputs that are positive or zero, and a positive bias."""
    x, bias = np.maximum(SIDES, 0), 0.5
    found = diagnosed(step(x, one_unit(-1.0, bias=bias), one_unit(1.0, activation="linear")))
    assert found == m.FiresOnNothing("d0", "relu", 0.5, 0.5, 0.0)
    assert "both in only 0" in found.evidence()


# ---- inputs and weights --------------------------------------------------------------------------


def test_zero_input():
    """Data of zeros, and data most of which is."""
    found = diagnosed(step(0 * inputs(), *hidden()))
    assert isinstance(found, m.ZeroInput) and (found.zero, found.inputs) == (WIDTH, WIDTH)
    x = inputs()
    x[:, 2:] = 0
    some = diagnosed(step(x, *hidden()))
    assert some.named == "2–7" and some.value == 0.75 and some.severity == "error"


def test_what_only_a_scale_multiplies_informs():
    """A weight whose layer reads live values."""
    found = m.ZeroInput("prelu", 4, 4, "0–3", 10.0, 0.0, multiplied_by="alpha")
    assert found.only_informs and "What alpha of prelu multiplies" in found.evidence()


def test_zero_kernel():
    """Neither signal nor gradient passes."""
    found = diagnosed(step(inputs(), *hidden(scale=0.0)))
    assert found == m.ZeroWeights("d1", "kernel", 0.0, pytest.approx(0.5))
    assert "The kernel of d1 has an rms of 0" in found.evidence()


def alike(kernel, value=None):
    """A layer whose units all have the weights of the first, or one number."""
    kernel.kernel = np.repeat(kernel.kernel[:, :1], kernel.units, axis=1)
    if value is not None:
        kernel.kernel[:] = value
    return kernel


def test_units_that_stay_the_same():
    """All weights are one number, so gradients are equal too. The last of these layers parts by itself."""
    same = [alike(dense(seed=n, activation="tanh"), 0.1) for n in range(2)]
    case = case_of(step(inputs(), *same, dense(**HEAD)))
    first, last = m.Symmetric.seen(case)
    assert (first.layer, first.units, first.severity) == ("d0", WIDTH, "error")
    assert first.value < first.threshold(case) == 1e-4
    assert "All 8 units of d0 have the same weights and get the same gradients" in first.evidence()
    assert (last.layer, last.severity) == ("d1", "info") and last.value > 0.1
    assert "part as they learn" in last.evidence()
    assert diagnosed(step(inputs(), *same, dense(**HEAD))) == first


def test_equal_weights_and_other_biases():
    """What tells units apart is not the kernel alone."""
    same = [alike(dense(seed=n, bias=np.linspace(-1, 1, WIDTH), activation="tanh"), 0.1) for n in range(2)]
    assert not list(m.Symmetric.seen(case_of(step(inputs(), *same, dense(**HEAD)))))


def test_equal_units_whose_gradients_cancel():
    """Rows of gradients that add up to nothing, as those of a softmax do: the layer before gets none."""
    head = alike(dense(units=2, activation="linear"), 1.0)
    opposite = np.repeat(np.random.default_rng(0).normal(size=(64, 1)), 2, axis=1) * [1, -1]
    record = step(inputs(), dense(seed=1), head, arriving=opposite)
    found = diagnosed(record)
    assert (found.cause, found.layer, found.severity) == ("symmetric", "d1", "warning")
    assert found.cancels and found.gain < 1e-6 and "that cancels" in found.evidence()
    origin = diagnose(case_of(record)).origins["d0/kernel"][0]
    assert origin.mechanism == found


def test_equal_negative_weights_are_dead_by_their_weights():
    """Their death is told, and that they are equal informs: no gradient tells whether they stay so."""
    negative = alike(dense(seed=1), -0.5)
    record = step(inputs(), dense(), negative, dense(**HEAD))
    first, second = diagnose(case_of(record)).findings
    assert (first.cause, first.layer, first.severity) == ("dead_activation", "d1", "error")
    assert "no live input meets a weight of its own sign" in first.evidence
    assert (second.cause, second.severity) == ("symmetric", "info")
    assert "no gradient comes that could tell them apart" in second.evidence


@pytest.mark.parametrize("learns", [True, False])
def test_zero_scale(learns):
    """One that gets a gradient is about to grow."""
    found = m.ZeroScale("norm", "gamma", 0.0, learns)
    assert found.only_informs is learns and ("will grow" in found.evidence()) is learns


# ---- on the way ----------------------------------------------------------------------------------


def test_vanishing_gradient_by_slopes():
    """Ten sigmoid layers."""
    layers = [dense(activation="sigmoid", seed=number) for number in range(10)]
    found = diagnosed(step(inputs(), *layers, dense(**HEAD)))
    assert isinstance(found, m.VanishingGradient) and found.is_slow and found.by_slopes
    assert 0.1 < found.mean_gain < 0.6 and "by the slopes" in found.summary()


def test_vanishing_gradient_by_kernels():
    """Six kernels of a tenth of He's scale."""
    layers = [dense(scale=0.1, seed=number, activation="linear") for number in range(6)]
    found = diagnosed(step(inputs(), *layers, dense(**HEAD)))
    assert isinstance(found, (m.VanishingGradient, m.VanishingSignal))
    assert "kernels too small" in found.evidence()


def steepest(case):
    """The layer whose node passes on the smallest part of what arrives, of those behind the first one."""
    return min(case.flow.nodes[1:], key=lambda node: node.gain).layer


@pytest.mark.parametrize("weak", [3, 5])
def test_the_strongest_drop_is_where_the_gain_is_smallest(weak):
    """Slope and kernel together: neither the smallest slope nor the smallest kernel tells."""
    layers = [dense(seed=at, activation="sigmoid", scale=1.5) for at in range(9)]
    layers[2] = dense(seed=2, activation="sigmoid", scale=2.5, bias=1.5)  # small slopes, large kernel
    layers[7] = dense(seed=7, activation="tanh", scale=0.2)  # a small kernel, slopes near 1
    layers[weak] = dense(seed=weak, activation="sigmoid", scale=0.5)  # both
    record = step(inputs(), *layers)
    found = diagnosed(record)
    assert found.layer == steepest(case_of(record)) == f"d{weak}"
    assert f"the strongest drop is at d{weak}" in found.evidence() and found.severity == "error"


def test_what_only_moves_numbers_about_takes_nothing():
    """The last node has no weights, and hands on all that arrives: a Reshape, say."""
    layers = [dense(seed=at, activation="sigmoid") for at in range(8)]
    record = step(inputs(), *layers, Dense(np.eye(WIDTH, dtype=np.float32), activation="linear"))
    sites = tuple(site for site in record.sites if site.layer != "d8")
    case = case_of(dataclasses.replace(record, sites=sites))
    (found,) = diagnose(case).mechanisms.values()
    assert case.flow.nodes[8].gain == pytest.approx(1) and found.layer == steepest(case) != "d8"


def test_nothing_that_was_measured_takes_the_gradient():
    """What does not arrive, though every node hands on what it got, is no decay."""
    record = step(inputs(), *hidden(), loss_gradient=1.0)
    gradients = ("output_gradient", "preactivation_gradient", "kernel_gradient")
    silent = [
        dataclasses.replace(site, **{name: np.float32(1e-6) * getattr(site, name) for name in gradients})
        for site in record.sites[:2]
    ]
    found = diagnosed(dataclasses.replace(record, sites=(*silent, *record.sites[2:])))
    assert isinstance(found, m.UnexplainedWay) and "nothing that was measured" in found.evidence()


def test_vanishing_at_a_node():
    """Error, or info where its own weights get a gradient."""
    found = m.VanishingAtNode("scores", 1e-4, learns=False)
    assert found.severity == "error" and "only 0.0001 of the gradient" in found.evidence()
    assert dataclasses.replace(found, learns=True).only_informs and not found.only_informs
    assert found.threshold(case_of(step(inputs(), *hidden()))) == pytest.approx(10**-1.5)


def test_vanishing_signal():
    """Of a table the sentence speaks of what is looked up."""
    found = m.VanishingSignal("embedding", "table", 1, False, 1e-4, math.nan)
    assert "table of embedding" in found.evidence() and "nan" not in found.evidence()
    assert "Scale what this layer reads" in found.advice()


# ---- where the loss meets the model --------------------------------------------------------------


def test_zero_loss_gradient():
    """g_out below its floor."""
    found = diagnosed(step(inputs(), *hidden(), loss_gradient=1e-6))
    assert isinstance(found, m.ZeroLossGradient) and found.layer == "d2"
    assert 0 < found.g_out < 1e-3 and found.severity == "warning"


def test_quiet_output():
    """What another output gets."""
    assert "gets only 1e-07" in m.QuietOutput("b", 1e-7).evidence()
    assert "a part of it gets nothing" in m.QuietPart("both", 0.0).evidence()


@pytest.mark.parametrize(
    ("activation", "units", "target", "loss", "rule"),
    [
        ("sigmoid", 3, 2.0, "mean_squared_error", "range"),
        ("relu", 3, -1.0, "mean_squared_error", "range"),
        ("linear", 3, 1.0, "binary_crossentropy", "clipped"),
        ("sigmoid", 3, 1.0, "binary_crossentropy", ""),
        ("tanh", 3, -1.0, "mean_squared_error", ""),
        ("sigmoid", 3, 2.0, "sparse_categorical_crossentropy", "sigmoid"),
        ("sigmoid", 3, 1.0, "categorical_crossentropy", "sigmoid"),
        ("sigmoid", 1, 1.0, "categorical_crossentropy", "single"),
        ("linear", 1, 0.0, "sparse_categorical_crossentropy", "single"),
        ("sigmoid", 1, 4.0, "binary_crossentropy", "classes"),
        ("sigmoid", 1, 4.5, "binary_crossentropy", "range"),
        ("relu", 3, 1.0, "categorical_crossentropy", "clipped"),
        ("sigmoid", 3, 7.0, "ctc", ""),
    ],
)
def test_output_mismatch(activation, units, target, loss, rule):
    """Each rule on its own, and what breaks none."""
    head = dense(units=units, seed=2, activation=activation)
    targets = np.full((len(inputs()), units), target, np.float32)
    case = case_of(step(inputs(), dense(), head, target=targets, loss_name=loss))
    kinds = (m.OutputMismatch, m.MisreadOutput, m.BrokenOutput)
    assert [mismatch.rule for kind in kinds for mismatch in kind.seen(case)] == ([rule] if rule else [])


def with_output(record, **changes):
    """The step with other fields of its output."""
    (output,) = record.outputs
    return dataclasses.replace(record, outputs=(dataclasses.replace(output, **changes),))


HALF = (np.arange(64)[:, None] % 2).astype(np.float32)


def test_the_name_of_an_own_loss_decides_nothing():
    """A user's function may be called as Keras' is, and take logits."""
    record = step(inputs(), dense(), dense(units=1, activation="linear"), target=HALF)
    own = with_output(record, loss_name="binary_crossentropy", own_loss=True)
    assert not list(m.OutputMismatch.seen(case_of(own)))


def test_rows_that_add_up_to_zero_break_the_loss():
    """Categorical crossentropy divides by them: that comes first, and stands beside the NaN."""
    head = dense(units=3, seed=2, activation="relu", bias=-50.0)
    target = np.eye(3, dtype=np.float32)[np.arange(64) % 3]
    record = step(inputs(), dense(), head, target=target, loss_name="categorical_crossentropy")
    broken = with_output(record, gradient=np.full((64, 3), np.nan, np.float32))
    found = diagnosed(broken)
    assert isinstance(found, m.BrokenOutput) and found.alone
    assert "at 64 of the 64 positions they add up to 0" in found.evidence()


def test_wrong_predictions_that_a_loss_clips():
    """Outputs at exactly 0 and 1 where the target is the other."""
    record = step(
        inputs(), dense(), dense(units=1, activation="sigmoid"), target=HALF, loss_name="binary_crossentropy"
    )
    (found,) = m.OutputMismatch.seen(case_of(with_output(record, value=1 - HALF)))
    assert found.rule == "cut" and "64 of the 64 wrong predictions are at 0 or 1" in found.evidence()
    assert not list(m.OutputMismatch.seen(case_of(with_output(record, value=HALF))))
    assert not list(m.OutputMismatch.seen(case_of(with_output(record, value=1 - HALF, logits=True))))


@pytest.mark.parametrize(
    ("activation", "units", "told"),
    [("relu", 1, "can't get below 0.35"), ("tanh", 1, "can't get below 0.31"), ("relu", 3, "are off")],
)
def test_bounded_logits(activation, units, told):
    """What logits in the activation's range allow at best: a warning, for gradients pass."""
    target = HALF if units == 1 else np.eye(3, dtype=np.float32)[np.arange(64) % 3]
    loss = "binary_crossentropy" if units == 1 else "categorical_crossentropy"
    record = step(inputs(), dense(), dense(units=units, activation=activation), target=target, loss_name=loss)
    (found,) = m.MisreadOutput.seen(case_of(with_output(record, from_logits=True)))
    assert (found.rule, found.severity) == ("logits", "warning") and told in found.evidence()


def test_several_classes_at_once():
    """Under a crossentropy over classes they compete, which is said; the advice follows."""
    target = np.ones((64, 3), np.float32)
    head = dense(units=3, activation="sigmoid")
    record = step(inputs(), dense(), head, target=target, loss_name="categorical_crossentropy")
    (found,) = m.MisreadOutput.seen(case_of(with_output(record, logits=True)))
    assert "up to 3 classes at once" in found.evidence() and "binary_crossentropy" in found.advice()


@pytest.mark.parametrize(
    ("targets", "word"), [(HALF, "sigmoid"), (3 * HALF, "4 softmax"), (HALF - 0.3, "mean squared error")]
)
def test_advice_for_one_unit_fits_the_targets(targets, word):
    """Two classes, several, or any numbers."""
    head = dense(units=1, activation="linear")
    record = step(inputs(), dense(), head, target=targets, loss_name="categorical_crossentropy")
    (found,) = m.OutputMismatch.seen(case_of(record))
    assert word in found.advice()


def test_loud_loss():
    """Targets in the thousands; not where predictions are what is large, or an output can't reach them."""
    x, target = inputs(), 3000 * HALF
    chain = (dense(), dense(units=1, activation="linear"))
    loud = step(x, *chain, target=target, loss_name="mean_squared_error", loss_gradient=3000.0)
    (found,) = m.LoudLoss.seen(case_of(loud))
    assert found.target_rms == pytest.approx(3000 / 2**0.5) and found.value > 1000
    assert "targets have an rms of 2.12e+03" in found.evidence() and found.severity == "warning"
    assert not list(m.LoudLoss.seen(case_of(with_output(loud, target=HALF))))
    assert not list(m.LoudLoss.seen(case_of(with_output(loud, own_loss=True))))
    bounded = (dense(), dense(units=1, activation="sigmoid"))
    step_of = step(x, *bounded, target=target, loss_name="mean_squared_error", loss_gradient=3000.0)
    assert not list(m.LoudLoss.seen(case_of(step_of)))


def test_large_kernel_gradients_that_do_not_grow():
    """The sentence says so; targets that explain them are told in its place."""
    chain = (dense(), dense(units=1, activation="linear"))
    record = step(inputs(), *chain, target=HALF, loss_name="mean_squared_error", loss_gradient=1e9)
    (found,) = m.Exploding.seen(case_of(record))
    assert not found.grows and found.value == found.mean > 1e6
    assert "does not grow much" in found.evidence()
    assert not list(m.Exploding.seen(case_of(with_output(record, target=1e9 * HALF))))


def test_large_input():
    """Raw data into a layer that works: a warning; none behind or before a normalisation, or if frozen."""
    found = diagnosed(step(inputs(100.0), *hidden()))
    assert isinstance(found, m.LargeInput) and found.severity == "warning"
    assert "rms of 1" in found.evidence() and "off" not in found.evidence()
    frozen = step(inputs(100.0), dense(trainable=False), dense(**HEAD))
    assert not list(m.LargeInput.seen(case_of(frozen)))
    normalised = with_node(step(inputs(100.0), *hidden()), 1, normalises=True)
    assert not list(m.LargeInput.seen(case_of(normalised)))


def test_a_silent_loss_against_the_best_constant_prediction():
    """Learnt is an info; no better than a constant is never called done; in between the numbers are given."""
    head = dense(units=1, activation="sigmoid")
    record = step(inputs(), dense(), head, target=HALF, loss_name="binary_crossentropy", loss_gradient=1e-6)
    told = {}
    for name, value in (("learnt", HALF), ("between", 0.2 + 0.6 * HALF), ("stuck", 0 * HALF + 0.3)):
        told[name] = m.ZeroLossGradient.at(case_of(with_output(record, value=value)), "d1")
    assert [found.only_informs for found in told.values()] == [True, False, False]
    assert "learnt" in told["learnt"].advice() and "training is done" not in told["stuck"].advice()
    assert "0.32 times" in told["between"].evidence()
    assert "Training is not done" in told["stuck"].evidence()
    assert "All predictions are the same" in told["stuck"].evidence()
    unknown = m.ZeroLossGradient("d1", 1e-6, math.nan)
    assert "nan" not in unknown.evidence() and unknown.severity == "warning"


def test_an_activation_where_the_loss_expects_logits():
    """An error, or a warning where Keras reads the logits before it."""
    record = step(inputs(), dense(), dense(units=3, activation="sigmoid"), loss_name="binary_crossentropy")
    for logits, severity in ((False, "error"), (True, "warning")):
        (output,) = record.outputs
        told = dataclasses.replace(output, from_logits=True, logits=logits)
        (found,) = m.AppliedTwice.seen(case_of(dataclasses.replace(record, outputs=(told,))))
        assert found.severity == severity and "from_logits=True" in found.evidence()


@pytest.mark.parametrize(("part", "kind"), [(1.0, m.WeightlessPositions), (0.5, m.SomeWeightlessPositions)])
def test_weightless_positions(part, kind):
    """All of them, or some."""
    record = step(inputs(), *hidden())
    weight = (np.arange(64) >= 64 * part).astype("float32")
    output = dataclasses.replace(record.outputs[0], sample_weight=weight)
    (found,) = m.WeightlessPositions.seen(case_of(dataclasses.replace(record, outputs=(output,))))
    assert type(found) is kind and found.value == part
    assert found.only_informs is (part < 1)


# ---- cut, broken, flushed ------------------------------------------------------------------------


def test_disconnected():
    """No gradient leaves a layer."""
    found = diagnosed(step(inputs(), *hidden(cut=True)))
    assert found == m.Disconnected("d1", "before")
    assert "computed without one" in found.evidence()


def test_the_layer_that_cuts_is_named():
    """A node without a kernel that capture marks."""
    found = m.Disconnected("round", "layer", "d1")
    assert found.evidence() == "The gradient ends at round: d1 behind it has one, but none comes through."


def constant(record, number):
    """The step with a softmax over one unit in a layer."""
    ones = np.ones((64, 1), np.float32)
    changes = {
        "activation": Activation("softmax", "weights"), "output": ones, "slope": 0 * ones,
        "preactivation_gradient": 0 * ones,
    }  # fmt: skip
    sites = [
        dataclasses.replace(site, **changes, kernel_gradient=0 * site.kernel) if site.node == number else site
        for site in record.sites
    ]
    record = dataclasses.replace(record, sites=tuple(sites))
    return with_node(record, number, output=sums_of(ones))


def test_a_softmax_over_one_unit():
    """It puts out 1: told as that, and not as saturated."""
    found = diagnosed(constant(step(inputs(), dense(), dense(units=1), dense(1, 3, activation="linear")), 1))
    assert found == m.ConstantOutput("weights", "single") and found.severity == "warning"
    assert "The softmax of weights is over one element: it puts out the same" in found.evidence()


@pytest.mark.parametrize(
    ("layer", "changes", "told"),
    [
        ("key", {"stage": SCORES}, True),
        ("query", {"stage": SCORES}, False),
        ("k", {"kind": "Attention"}, True),
        ("k", {}, False),
    ],
)
def test_attention_to_one_key(layer, changes, told):
    """As a recording shows it: the maker of the keys puts out one of them."""
    case = case_of(with_node(with_node(step(inputs(), *hidden()), 0, layer=layer), 1, **changes))
    assert (m.ConstantOutput.at(case, 1) is not None) is told


def test_a_mask_that_leaves_nothing_to_choose():
    """What a second look found, in words, and other advice."""
    place = Place("mha", "Softmax")
    left = m.ConstantOutput("mha", "one left", place)
    assert "Softmax in mha is over rows of which a mask leaves one element" in left.evidence()
    assert "Check the mask" in left.advice() != m.ConstantOutput("mha", "single").advice()


def test_zeros_to_a_part_of_what_a_node_reads():
    """A warning, for the rest gets its gradient; an error where nothing does."""
    record = step(inputs(), *hidden())
    zero, live = Scalars(0.0, 9, 0, 9), Scalars(1.0, 0, 0, 9)
    partly = case_of(with_node(record, 2, input_gradients=(zero, live), producers=(0, 1)))
    found = m.Disconnected.of_zeros(partly, 2)
    assert found.severity == "warning" and "only zeros go on from there to a part" in found.evidence()
    found = m.Disconnected.of_zeros(case_of(with_node(record, 2, input_gradients=(zero,))), 2)
    assert found.severity == "error" and found.advice().startswith("Look for a product with zero")


def test_masked():
    """A layer of zeros; one that levels what it normalises has another advice."""
    assert "puts out zeros only" in m.Masked("gate", False).evidence()
    assert m.Masked("norm", True).advice() != m.Masked("gate", False).advice()


@pytest.mark.parametrize(
    ("record", "layer", "what"),
    [
        (step(np.where(inputs() > 2, np.nan, inputs()), *hidden()), "d0", "input"),
        (step(inputs(), dense(), dense(seed=1, scale=np.nan), dense(**HEAD)), "d1", "kernel"),
        (with_node(step(inputs(), *hidden()), 1, output=Scalars(1.0, 0, 3, 9)), "d1", "output"),
        (with_node(step(inputs(), *hidden()), 1, output_gradient=Scalars(1.0, 0, 3, 9)), "d2", "gradient"),
    ],
    ids=["data", "kernel", "output", "gradient"],
)
def test_non_finite(record, layer, what):
    """The first layer is named, of a gradient the one that sent it; and nothing else is said."""
    diagnosis = diagnose(case_of(record))
    assert list(diagnosis.mechanisms.values()) == [m.NonFinite(layer, what)]


def test_exploding():
    """A gradient that grows a thousandfold on its way."""
    record = step(inputs(), *(dense(seed=n, scale=12.0, activation="linear") for n in range(4)))
    (found,) = m.Exploding.seen(case_of(record))
    assert (
        found.growth > 100 and found.severity == "warning" and f"{found.growth:.3g} times" in found.evidence()
    )


def test_underflow():
    """Gradients that are zero in the step's half precision only."""
    record = step(inputs(), *(dense(seed=n, dtype="float16") for n in range(2)), loss_gradient=1.0)
    kernel = record.sites[0]
    flushed = dataclasses.replace(kernel, kernel_gradient=0 * kernel.kernel_gradient)
    (found,) = m.Underflow.seen(case_of(dataclasses.replace(record, sites=(flushed, *record.sites[1:]))))
    assert (found.layer, found.flushed, found.dtype) == ("d0", 1.0, "float16")


def test_frozen():
    """All weights of a layer together."""
    (found,) = m.Frozen.seen(case_of(step(inputs(), *hidden(trainable=False))))
    assert found == m.Frozen("d1", WIDTH * WIDTH + WIDTH) and found.only_informs


def test_nothing_is_trained():
    """One warning in place of an info for each layer."""
    record = step(inputs(), dense(trainable=False), dense(units=3, trainable=False, activation="linear"))
    (found,) = diagnose(case_of(record)).mechanisms.values()
    assert isinstance(found, m.NothingTrained) and found.severity == "warning"
    assert found.layers == ("d0", "d1") and "none of the 99 weights in 2 layers" in found.evidence()


def test_cancellation():
    """Positive and negative terms of the same size; a bias is so by design."""
    assert m.Cancellation("d").only_informs and not m.Cancellation("d").by_design


def test_unexplained():
    """A gradient that its terms don't add up to."""
    record = step(inputs(), *hidden())
    kernel = dataclasses.replace(record.sites[0], kernel_gradient=record.sites[0].kernel_gradient + 1)
    case = case_of(dataclasses.replace(record, sites=(kernel, *record.sites[1:])))
    (found,) = m.Unexplained.seen(case)
    assert found.layer == "d0" and found.residual > found.limit == 1e-4


@pytest.mark.parametrize("why", ["inner tape", "underflow"])
def test_terms_that_are_known_not_to_add_up(why):
    """Of a loss that is made of gradients, too; or in half precision that flushes them."""
    record = step(inputs(), *(dense(seed=n, dtype="float16") for n in range(2)), loss_gradient=1.0)
    kernel = record.sites[0]
    change = 0 * kernel.kernel_gradient if why == "underflow" else kernel.kernel_gradient + 1
    record = dataclasses.replace(
        record, sites=(dataclasses.replace(kernel, kernel_gradient=change), *record.sites[1:])
    )
    assert why == "underflow" or list(m.Unexplained.seen(case_of(record)))
    if why == "inner tape":
        record = with_node(record, 0, order=2)
    assert not list(m.Unexplained.seen(case_of(record)))


def test_second_derivatives_of_rectifiers():
    """Told where the loss is silent, or a second look finds the zeros; not of a plain loss."""
    found = m.NoSecondDerivative("u", ("relu",), True)
    assert found.severity == "error"
    assert found.evidence().startswith("The loss is made of second")
    place = Place("", "GradientTape.gradient", "pinn.py", 7, "bend = tape.gradient(slope, x)")
    partly = m.NoSecondDerivative("u", ("relu",), False, place)
    assert partly.severity == "warning"
    assert partly.evidence().startswith("A part of the loss")
    assert "in pinn.py:7: `bend = tape.gradient(slope, x)` is 0" in partly.evidence()
    assert not list(m.NoSecondDerivative.seen(case_of(step(inputs(), *hidden(), loss_gradient=0.0))))


class Look:
    """What a second look would answer."""

    def __init__(self, **answers):
        self.answers = answers

    def __getattr__(self, question):
        return lambda *given: self.answers.get(question)


def test_a_second_look_names_the_place():
    """A cut at an operation of another layer moves there; without a look nothing changes."""
    place = Place("d2", "Round", "model.py", 41, "q = tf.round(s)")
    record = step(inputs(), *hidden(cut=True))
    look = Look(ending=Ending("cut", place))
    case = dataclasses.replace(case_of(record), take_look=lambda: look)
    (found,) = diagnose(case).mechanisms.values()
    assert (found.layer, found.place) == ("d2", place)
    assert "The gradient ends at Round in model.py:41: `q = tf.round(s)`" in found.evidence()
    nothing = dataclasses.replace(case_of(record), take_look=lambda: None)
    assert list(diagnose(nothing).mechanisms.values()) == [m.Disconnected("d1", "before")]


def test_a_place_in_words():
    """With a file, by its layer only, or by the operation alone."""
    assert str(Place("gate", "Relu")) == "Relu in gate"
    assert str(Place("", "Sum")) == "Sum"
    assert str(Place("gate", "Relu", "/home/me/net.py", 3)) == "Relu in net.py:3"


def test_layers_of_unknown_kind():
    """Near-zero gradients between live surroundings; or behind an input of zeros; or none at all."""
    live = step(inputs(), *hidden())
    silent = with_whole_layer(live, np.zeros(5, np.float32), node=1)
    kinds = {type(o.mechanism) for o in diagnose(case_of(silent)).origins["d1/own"]}
    assert kinds == {m.UnexplainedLayer}
    unused = diagnose(case_of(with_whole_layer(live, None, node=1)))
    assert unused.mechanisms["disconnected", "d1"] == m.Disconnected("d1", "unused")
    zero = diagnose(
        case_of(with_whole_layer(with_node(live, 0, output=Scalars(0.0, 9, 0, 9)), np.zeros(5), 1))
    )
    assert isinstance(zero.origins["d1/own"][0].mechanism, m.ZeroLayerInput)


# ---- all of them ---------------------------------------------------------------------------------


def test_every_mechanism_is_registered_and_documented():
    """Cause, docstring with its three paragraphs on the first class of a cause, treatments as a tuple."""
    kinds = m.registered_mechanisms()
    assert len({kind.cause for kind in kinds}) == 23
    for cause in {kind.cause for kind in kinds}:
        texts = [kind.__doc__ for kind in kinds if kind.cause == cause]
        assert sum(all(f"{word}: " in text for word in ("Severity", "When", "Where")) for text in texts) == 1
    assert all(isinstance(kind.treatments, (tuple, property)) for kind in kinds)
    assert [kind.rank for kind in kinds] == sorted(kind.rank for kind in kinds)


def test_severities_are_known():
    """Of the planted ones."""
    for record in (step(0 * inputs(), *hidden()), step(inputs(), *hidden(bias=-50.0))):
        assert diagnosed(record).severity in SEVERITIES
