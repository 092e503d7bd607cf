"""Figures of both kinds of weights, on steps that NumPy computes."""

import dataclasses
import math

import numpy as np
import pytest

from tests.mechanisms.chains import WIDTH, case_of, dense, inputs, step, with_whole_layer
from trainobs.analysis import (
    CAUSES,
    WITHOUT_TERMS,
    Cause,
    SiteFigures,
    WeightFigures,
    WholeLayerFigures,
    condensed,
    mean_per_unit,
    shares_per_unit,
)
from trainobs.analysis._off_figures import _reasons_of_units
from trainobs.statistics import OFF_REASONS, SiteStatistics, gather
from trainobs.thresholds import NearZero

SCALE = 0.5
HEAD = {"units": 3, "seed": 2, "activation": "linear"}


def record(**planted):
    """A step of a layer with something planted, and a head."""
    return step(inputs(), dense(**planted), dense(**HEAD))


def statistics_of(weight="d0/kernel", **planted) -> SiteStatistics:
    """The sums of one weight of it."""
    return gather(record(**planted), NearZero(), pinv=False).sites[weight]


def figures_of(statistics: SiteStatistics) -> SiteFigures:
    """Its figures, with g* = 0.5."""
    return SiteFigures(statistics, NearZero(), SCALE)


def both_kinds() -> dict[str, WeightFigures]:
    """A case's weights, by key: kernels, biases and a weight of unknown kind."""
    gradient = np.array([1e-9, 0.0, 0.3, -2.0], np.float32)
    return case_of(with_whole_layer(record(), gradient)).weights


# ---- what both kinds say -------------------------------------------------------------------------


def test_every_weight_answers_what_a_table_asks():
    """Numbers are plain Python numbers, and what is a fraction lies within 0 and 1, or is nan."""
    weights = both_kinds()
    assert list(weights) == ["d0/kernel", "d0/bias", "d1/kernel", "d1/bias", "d0/own"]
    flow = case_of(record()).flow
    for key, figures in weights.items():
        assert figures.key == key == figures.info.key and isinstance(figures.activation, str)
        numbers = [figures.size, figures.positions, figures.near_zero_count, figures.dead_units]
        assert [type(number) for number in numbers] == [int] * 4
        fractions = [figures.near_zero_fraction, figures.used_near_zero, figures.exact_zero_fraction]
        fractions += [*figures.mean_likelihoods.values(), *map(figures.off_by, OFF_REASONS)]
        assert all(math.isnan(part) or 0 <= part <= 1 for part in fractions)
        sizes = [figures.gradient_rms, figures.threshold, figures.residual, figures.gain(flow)]
        assert {type(number) for number in [*fractions, *sizes, figures.pinv_trust]} == {float}
        assert list(figures.shares) == list(CAUSES) and list(figures.mean_likelihoods) == list(WITHOUT_TERMS)
        assert figures.near_zero_count == np.count_nonzero(figures.near_zero) and figures.is_finite


def test_a_new_kind_of_figures_has_to_say_everything():
    """The class is abstract: what is left out is an error when figures are made."""

    class Half(WeightFigures):
        size = 1

    with pytest.raises(TypeError, match="abstract"):
        Half()  # type: ignore[abstract]


# ---- weights of unknown kind ---------------------------------------------------------------------


def whole(gradient, *chain) -> WholeLayerFigures:
    """A weight of unknown kind at the second layer of a chain."""
    chain = chain or (dense(), dense(**HEAD))
    gradient = np.asarray(gradient, np.float32)
    return case_of(with_whole_layer(step(inputs(), *chain), gradient, 1)).whole_layers["d1/own"]


def test_a_whole_layer_is_held_against_one_term_per_sample():
    """rtol · a* · g* / √N."""
    case = case_of(record())
    scale = NearZero().gradient_scale(*case.statistics.loudest_output())
    figures = whole([0.0, 1.0, 1e-9])
    assert figures.threshold == pytest.approx(1e-3 * scale / 8)  # 64 samples
    assert (figures.size, figures.near_zero_count, figures.exact_zero_fraction) == (
        3,
        2,
        pytest.approx(1 / 3),
    )
    assert figures.gradient_rms == pytest.approx(1 / math.sqrt(3))


def test_a_whole_layer_knows_what_arrives_from_both_sides():
    """Nothing comes in: input; nothing comes back: backprop; neither: no cause is known."""
    dead = dense(bias=-100.0)
    assert whole([0.0], dead, dense(**HEAD)).causes == (Cause.INPUT,)
    silent = whole([0.0], dense(), dense(seed=1), dense(bias=-100.0, seed=3), dense(**HEAD))
    assert silent.causes == (Cause.BACKPROP,)
    assert silent.shares[Cause.BACKPROP] == 1.0 and sum(silent.shares.values()) == 1.0
    healthy = whole([0.0])
    assert healthy.causes == () and all(map(math.isnan, healthy.shares.values()))


def test_a_broken_whole_layer_is_told():
    """NaN is no number, near zero or not."""
    figures = whole([np.nan, 0.0])
    assert not figures.is_finite and figures.near_zero_count == 1


# ---- weights whose terms are known ---------------------------------------------------------------


def test_near_zero_is_held_against_the_terms():
    """|D| ≤ rtol · a* · g* · √T / n, with one term per position here."""
    statistics = statistics_of()
    figures = figures_of(statistics)
    limit = 1e-3 * SCALE * math.sqrt(64) / 64
    assert figures.threshold == pytest.approx(limit)
    np.testing.assert_array_equal(figures.near_zero, np.abs(statistics.data_gradient) <= limit)


def test_a_dead_layer_is_held_by_its_activation():
    """All verdicts are the activation, alone, and the reason is the bias."""
    figures = figures_of(statistics_of(bias=-100.0))
    assert (figures.verdict == Cause.ACTIVATION).all()
    assert figures.shares == {cause: float(cause is Cause.ACTIVATION) for cause in CAUSES}
    assert figures.dead_units == WIDTH and figures.off_fraction == 1.0
    assert figures.main_off_reason(0.1) == ("bias", pytest.approx(figures.off_by("bias"), abs=0.2))


def test_condensed_statistics_have_the_same_figures():
    """A byte of verdict per weight stands for the sums that led to it."""
    statistics = statistics_of(bias=-2.0)
    short = condensed(statistics, NearZero(), SCALE)
    assert short.is_condensed and len(short.sums) < len(statistics.sums)
    one, other = figures_of(statistics), figures_of(short)
    np.testing.assert_array_equal(one.verdict, other.verdict)
    np.testing.assert_array_equal(one.near_zero, other.near_zero)
    assert one.mean_likelihoods == pytest.approx(other.mean_likelihoods, nan_ok=True)


def table_of(rows: int) -> SiteFigures:
    """The figures of a table of which 8 rows were looked up."""
    statistics = statistics_of(bias=-100.0)
    info = dataclasses.replace(statistics.info, shape=(rows, WIDTH), role="table")
    return figures_of(dataclasses.replace(statistics, info=info, rows=np.arange(8)))


def test_rows_that_were_never_looked_up_have_no_terms():
    """They count as near zero by input; `used_…` leaves them out."""
    figures = table_of(32)
    assert (figures.unused, figures.size) == (24 * WIDTH, 32 * WIDTH)
    assert figures.near_zero_fraction == figures.used_near_zero == 1.0
    assert figures.shares[Cause.INPUT] == 0.75 and figures.shares[Cause.ACTIVATION] == 0.25
    assert figures.used_shares[Cause.ACTIVATION] == 1.0
    assert figures.mean_likelihoods["p_input"] == pytest.approx(0.75, abs=0.01)
    assert figures.mean_likelihoods["p_activation"] == 0.25


@pytest.mark.parametrize(
    "figures", [figures_of(statistics_of(bias=-1.0)), table_of(32)], ids=["kernel", "table"]
)
def test_figures_of_units_have_the_weights_mean(figures):
    """Every unit has as many weights, so their means are the kernel's."""
    assert mean_per_unit(figures, figures.near_zero, 1.0).mean() == pytest.approx(figures.near_zero_fraction)
    for name, values in figures.likelihoods.items():
        mean = mean_per_unit(figures, values, WITHOUT_TERMS[name]).mean()
        assert mean == pytest.approx(figures.mean_likelihoods[name], nan_ok=True), name
    shares = np.array(list(shares_per_unit(figures).values()))
    known = ~np.isnan(shares).any(axis=0)
    np.testing.assert_allclose(shares[:, known].sum(axis=0), 1)


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ((9, 0, 0, 0), "input"),  # no live input ever reaches the unit
        ((9, 0, 1, 9), "bias"),  # without its bias it would fire at a tenth of the others
        ((9, 6, 0, 5), "weights"),
        ((9, 5, 0, 6), "combination"),
        ((0, 5, 0, 5), "weights"),
    ],
)
def test_why_a_rectifying_unit_is_off(counts, reason):
    """Missing input only if nothing else is left; the bias before weights and their combination."""
    (place,) = _reasons_of_units(np.array(counts)[:, None], firing=0.1)
    assert OFF_REASONS[place] == reason
