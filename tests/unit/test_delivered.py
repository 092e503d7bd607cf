"""What a step delivered for one weight, from the calls and passes that each hold a part of it."""

import dataclasses

import numpy as np
import pytest

from tests.property.synthetic import captured
from trainobs.linear_ops import LookupOp
from trainobs.records import SiteRecord
from trainobs.statistics import delivered


def kernel() -> SiteRecord:
    """A kernel of shape (3, 4)."""
    return next(site for site in captured("dense relu").sites if site.role == "kernel")


def call(gradient: float | None, loss: int = 0, number: int = 0, penalty: float | None = None) -> SiteRecord:
    """A call whose gradient and penalty are these numbers everywhere."""
    site = kernel()
    full = [None if value is None else np.full(site.kernel.shape, value) for value in (gradient, penalty)]
    return dataclasses.replace(
        site, call=number, loss=loss, kernel_gradient=full[0], penalty_gradient=full[1]
    )  # fmt: skip


def lookup(rows: list[int], gradient: float, loss: int = 0, number: int = 0) -> SiteRecord:
    """A call that looks rows up; row r has the values r, a gradient of r times this, a penalty of r."""
    values = np.repeat(np.array(rows, float)[:, None], 2, axis=1)
    site = dataclasses.replace(kernel(), role="table", op=LookupOp(9), call=number, loss=loss)
    return dataclasses.replace(
        site, rows=np.array(rows), kernel=values, kernel_gradient=gradient * values, penalty_gradient=values
    )


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ([call(2.0)], 2.0),
        ([call(2.0), call(2.0, number=1)], 2.0),
        ([call(2.0), call(3.0, loss=1)], 5.0),
        ([call(2.0), call(2.0, number=1), call(3.0, loss=1), call(3.0, loss=1, number=1)], 5.0),
        ([call(None), call(3.0, loss=1)], 3.0),
    ],
    ids=["one call", "two calls", "two passes", "two calls in two passes", "a pass without a gradient"],
)
def test_passes_are_added_and_calls_are_not(calls, expected):
    """Every call of a pass holds the gradient of all of them; passes are gradients of their own."""
    found = delivered(calls)
    np.testing.assert_array_equal(found.gradient, np.full((3, 4), expected))
    np.testing.assert_array_equal(found.weight, calls[0].kernel)
    assert found.rows is None and found.penalty is None


def test_no_gradient_is_none():
    """Nothing came: that is something else than zeros."""
    assert delivered([call(None), call(None, loss=1)]).gradient is None


def test_a_penalty_counts_once():
    """The regulariser's gradient is a property of the weight, whatever the number of passes."""
    found = delivered([call(2.0, penalty=0.5), call(3.0, loss=1, penalty=0.5)])
    np.testing.assert_array_equal(found.penalty, np.full((3, 4), 0.5))


def test_rows_of_a_table_are_put_together():
    """Calls look different rows up; each holds those rows of the whole gradient."""
    found = delivered([lookup([1, 4], 2.0), lookup([4, 7], 2.0, number=1)])
    assert found.rows.tolist() == [1, 4, 7]
    assert found.weight[:, 0].tolist() == [1, 4, 7]
    assert found.gradient[:, 0].tolist() == [2, 8, 14]
    assert found.penalty[:, 0].tolist() == [1, 4, 7]


def test_rows_of_passes_are_added():
    """A row that one pass did not look up has no gradient in it."""
    found = delivered([lookup([1, 4], 2.0), lookup([4, 7], 3.0, loss=1)])
    assert found.gradient[:, 0].tolist() == [2, 20, 21]
    assert found.penalty[:, 0].tolist() == [1, 4, 7]
