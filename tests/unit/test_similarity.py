"""Tables and losses of n sets: against loops in float64, finite where the obvious formulas are not."""

import itertools
import math
import re
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from trainobs.errors import InvalidArgument
from trainobs.similarity import KINDS, contrastive_loss, similarity_table, table_bytes, table_loss

DOCS = Path(__file__).parents[2] / "docs"
EPS = 1e-6


def features(n: int = 2, batch: int = 3, width: int = 5, dtype: str = "float64") -> list[np.ndarray]:
    """Random rows, n sets of them."""
    return list(np.random.default_rng(n).normal(size=(n, batch, width)).astype(dtype))


def similarity_of(vectors: list[np.ndarray], kind: str) -> float:
    """One entry of the table, by its definition."""
    units = [v / max(np.linalg.norm(v), EPS) for v in vectors]
    n, pairs = len(units), list(itertools.combinations(units, 2))
    if kind == "einsum":
        return float(np.prod(units, axis=0).sum())
    if kind == "norm":
        return float((np.sum(np.sum(units, axis=0) ** 2) - np.sum(np.square(units))) / (n * (n - 1)))
    if kind == "cosine":
        return math.prod(max((1 + a @ b) / 2, EPS) for a, b in pairs) ** (1 / len(pairs))
    distances = [math.hypot(np.linalg.norm(a - b), EPS) - EPS for a, b in pairs]
    return -sum(distances) / len(pairs)


def oracle_table(sets: list[np.ndarray], kind: str) -> np.ndarray:
    """The table, entry by entry."""
    table = np.empty((len(sets[0]),) * len(sets))
    for index in np.ndindex(table.shape):
        table[index] = similarity_of([rows[i] for rows, i in zip(sets, index, strict=True)], kind)
    return table


def oracle_loss(table: np.ndarray, temperature: float) -> float:
    """Cross-entropy of each match against all that share its sample on an axis, mean over axes."""
    logits, losses = table / temperature, []
    for axis in range(table.ndim):
        for i in range(len(table)):
            shared = np.take(logits, i, axis=axis).ravel()
            top = shared.max()
            losses.append(top + math.log(np.exp(shared - top).sum()) - logits[(i,) * table.ndim])
    return float(np.mean(losses))


def oracle_clip(x: np.ndarray, y: np.ndarray, temperature: float) -> float:
    """CLIP's loss: cross-entropies of the rows and of the columns, averaged."""
    x, y = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, y))
    logits = x @ y.T / temperature
    labels = np.arange(len(x))

    def cross_entropy(scores: np.ndarray) -> float:
        scores = scores - scores.max(axis=1, keepdims=True)
        return float(np.mean(np.log(np.exp(scores).sum(axis=1)) - scores[labels, labels]))

    return (cross_entropy(logits) + cross_entropy(logits.T)) / 2


def value_and_gradients(compute, sets) -> tuple[tf.Tensor, list[np.ndarray]]:
    """What a function of the sets gives, and the gradients of its sum."""
    sets = [tf.convert_to_tensor(rows) for rows in sets]
    with tf.GradientTape() as tape:
        tape.watch(sets)
        value = compute(sets)
    return value, [np.asarray(g, "float64") for g in tape.gradient(value, sets)]


# Values


@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_tables_are_those_of_the_definition(kind, n):
    """Every entry, in float64 and float32, eps included."""
    sets = features(n)
    expected = oracle_table(sets, kind)
    np.testing.assert_allclose(similarity_table(sets, kind, eps=EPS), expected, rtol=1e-9, atol=1e-12)
    single = similarity_table([rows.astype("float32") for rows in sets], kind, eps=EPS)
    assert single.dtype == tf.float32
    np.testing.assert_allclose(single, expected, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_losses_are_those_of_the_definition(kind, n):
    """From features and from a table, with a number and with a variable as temperature."""
    sets = features(n)
    expected = oracle_loss(oracle_table(sets, kind), 0.2)
    assert float(contrastive_loss(sets, kind, temperature=0.2)) == pytest.approx(expected, rel=1e-9)
    table = similarity_table(sets, kind)
    assert float(table_loss(table, tf.Variable(0.2, dtype="float64"))) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("kind", ["einsum", "norm"])
def test_two_sets_give_cosines_and_clips_loss(kind):
    """For n = 2 both are the matrix of cosines, and the loss is CLIP's."""
    x, y = features(2, batch=6)
    cosines = (x @ y.T) / np.outer(np.linalg.norm(x, axis=1), np.linalg.norm(y, axis=1))
    np.testing.assert_allclose(similarity_table([x, y], kind), cosines, rtol=1e-12)
    assert float(contrastive_loss([x, y], kind)) == pytest.approx(oracle_clip(x, y, 0.07), rel=1e-12)


@pytest.mark.parametrize("kind", ["einsum", "norm", "distance"])
def test_rows_may_be_taken_as_they_are(kind):
    """`normalize=False` gives products and distances of the features themselves."""
    x, y = features(2)
    expected = -np.linalg.norm(x[:, None] - y, axis=2) if kind == "distance" else x @ y.T
    np.testing.assert_allclose(similarity_table([x, y], kind, normalize=False, eps=1e-9), expected, rtol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15)
@given(values=hnp.arrays("float64", (3, 2, 4), elements=st.floats(-8, 8)))
def test_ranges_and_symmetry(kind, values):
    """The stated ranges hold, and permuting the sets permutes the axes."""
    table = np.asarray(similarity_table(list(values), kind))
    low, high = {"einsum": (-1, 1), "norm": (-0.5, 1), "cosine": (EPS, 1), "distance": (-2, 0)}[kind]
    assert (low - 1e-9 <= table).all() and (table <= high + 1e-9).all()
    turned = similarity_table([values[2], values[0], values[1]], kind)
    np.testing.assert_allclose(turned, table.transpose(2, 0, 1), rtol=1e-6, atol=1e-9)


def test_independent_features_lose_the_log_of_their_number():
    """(n − 1) log B where nothing is alike, 0 where only matches are; one sample has nothing to lose."""
    assert float(table_loss(np.zeros((5, 5, 5)))) == pytest.approx(2 * math.log(5))
    assert float(table_loss(np.eye(5), 0.01)) == pytest.approx(0, abs=1e-12)
    assert float(contrastive_loss(features(3, batch=1))) == 0


def test_distances_of_nearly_equal_rows_are_not_lost_in_cancellation():
    """In float32 the norms cancel to 1e-7, a distance of 3e-4; with float64 between, 1e-4 stays 1e-4."""
    x = np.array([[1, 0], [0, 1]], "float32")
    near = x + np.array([[0, 1e-4], [1e-4, 0]], "float32")
    distances = -np.diag(similarity_table([x, near], "distance"))
    assert distances == pytest.approx(1e-4, rel=0.02)
    assert not np.diag(similarity_table([x, x], "distance")).any()


# Inputs at which the obvious formulas fail


def rows_of(case: str) -> list[np.ndarray]:
    """Three sets of rows, with what the case names in the first two."""
    sets = features(3, width=8, dtype="float32")
    if case == "zero rows":
        sets[0][:] = 0
        sets[1][1] = 0
    elif case == "equal rows":
        sets[1] = sets[0].copy()
    elif case == "all rows equal":
        sets = [np.ones_like(rows) for rows in sets]
    elif case == "opposite rows":
        sets[1] = -sets[0]
    elif case == "1e30":
        sets[0] *= 1e30
        sets[1][:] = 1e30
    elif case == "largest":
        sets[0][:] = np.finfo("float32").max
    elif case == "tiny":
        sets[0][:] *= np.float32(1e-37)
        sets[1][:] = 1e-42  # below the smallest normal number
    elif case == "float16 of 6e4":
        sets = [np.clip(rows * 6e4, -6e4, 6e4).astype("float16") for rows in sets]
    elif case == "float16, tiny":
        sets = [(rows * 1e-6).astype("float16") for rows in sets]
    return sets


CASES = [
    "zero rows", "equal rows", "all rows equal", "opposite rows", "1e30", "largest", "tiny",
    "float16 of 6e4", "float16, tiny",
]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", KINDS)
def test_values_and_gradients_stay_finite(kind, case):
    """Of the table, and of the loss at a low temperature."""
    sets = rows_of(case)
    for compute in (lambda s: similarity_table(s, kind), lambda s: contrastive_loss(s, kind)):
        value, gradients = value_and_gradients(compute, sets)
        assert np.isfinite(np.asarray(value)).all(), case
        assert all(np.isfinite(g).all() for g in gradients), case
    assert all(g.dtype == "float64" and g.shape == (3, 8) for g in gradients)


def naive_unit(rows):
    """x / ‖x‖."""
    return rows / tf.sqrt(tf.reduce_sum(rows**2, axis=-1, keepdims=True))


def naive_table(sets, kind):
    """The table of the first two sets, by the formulas as they stand."""
    a, b = (naive_unit(rows) for rows in sets[:2])
    if kind == "distance":
        return -tf.sqrt(tf.reduce_sum((a[:, None] - b) ** 2, axis=-1))
    cosines = tf.matmul(a, b, transpose_b=True)
    return tf.exp(tf.math.log((1 + cosines) / 2)) if kind == "cosine" else cosines


@pytest.mark.parametrize("kind", KINDS)
def test_naive_normalisation_fails_on_zero_rows(kind):
    """0/0: values and gradients are NaN."""
    value, gradients = value_and_gradients(lambda s: naive_table(s, kind), rows_of("zero rows")[:2])
    assert np.isnan(np.asarray(value)).any() and np.isnan(gradients[0]).any() and np.isnan(gradients[1]).any()


@pytest.mark.parametrize("case", ["1e30", "largest", "float16 of 6e4"])
def test_naive_normalisation_fails_on_large_rows(case):
    """The squares overflow, and x/∞ makes a zero row of each: the direction is lost, and the gradient."""
    rows = tf.constant(rows_of(case)[0])
    _, (gradient,) = value_and_gradients(lambda s: naive_unit(s[0]), [rows])
    assert np.isinf(np.asarray(rows**2)).any()
    assert not np.asarray(naive_unit(rows)).all() and (np.isnan(gradient) | (gradient == 0)).any()
    with_itself = np.diag(similarity_table([rows, rows]))
    assert with_itself == pytest.approx(1, rel=1e-3)
    assert np.diag(naive_table([rows, rows], "norm")) != pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("case", ["1e30", "float16 of 6e4"])
def test_a_naive_distance_fails_on_large_rows(case):
    """Both rows become zero, so the root is taken at 0: the gradient is NaN."""
    _, gradients = value_and_gradients(lambda s: naive_table(s, "distance"), rows_of(case)[:2])
    assert np.isnan(gradients[0]).any()


@pytest.mark.parametrize("case", ["equal rows", "all rows equal"])
def test_a_naive_distance_fails_on_equal_rows(case):
    """The root has an infinite slope at 0, times a difference of 0."""
    value, gradients = value_and_gradients(lambda s: naive_table(s, "distance"), rows_of(case)[:2])
    assert np.isfinite(np.asarray(value)).all() and np.isnan(gradients[0]).any()


def test_naive_exponentials_overflow_where_logsumexp_does_not():
    """exp(1/0.01) is above float32's largest number."""
    x = features(2, dtype="float32")[0]
    exponentials = tf.exp(similarity_table([x, x]) / 0.01)
    naive = -tf.math.log(tf.linalg.diag_part(exponentials) / tf.reduce_sum(exponentials, 1))
    assert np.isnan(np.asarray(naive)).any()
    loss, gradients = value_and_gradients(lambda s: contrastive_loss(s, temperature=0.01), [x, x.copy()])
    assert np.isfinite(float(loss)) and all(np.isfinite(g).all() for g in gradients)


@pytest.mark.parametrize("kind", KINDS)
def test_zero_rows_stay_zero_and_have_no_gradient(kind):
    """The others' gradients are those of any row."""
    sets = features(2, batch=4)
    sets[0][1] = 0
    _, gradients = value_and_gradients(lambda s: contrastive_loss(s, kind), sets)
    assert not gradients[0][1].any()
    assert gradients[0][[0, 2, 3]].all() and gradients[1].all()
    if kind in ("einsum", "norm"):
        assert not np.asarray(similarity_table(sets, kind))[1].any()


@pytest.mark.parametrize("kind", KINDS)
def test_scale_changes_nothing_but_the_gradients_scale(kind):
    """Rows of 1e30 have the table of rows of 1, and a gradient 1e30 times smaller."""
    sets = features(3, dtype="float32")
    loss, gradients = value_and_gradients(lambda s: contrastive_loss(s, kind), sets)
    large, small = value_and_gradients(lambda s: contrastive_loss(s, kind), [s * 2.0**99 for s in sets])
    assert float(large) == pytest.approx(float(loss), rel=1e-5)
    for expected, g in zip(gradients, small, strict=True):
        np.testing.assert_allclose(g * 2.0**99, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_the_differences_of_the_loss(kind):
    """Central differences in float64; the scale that is divided out takes no part."""
    sets = features(3, batch=2, width=3)
    _, gradients = value_and_gradients(lambda s: contrastive_loss(s, kind, temperature=0.5), sets)
    for k, i, j in [(0, 0, 0), (1, 1, 2), (2, 0, 1)]:
        ends = []
        for step in (1e-5, -1e-5):
            moved = [rows.copy() for rows in sets]
            moved[k][i, j] += step
            ends.append(float(contrastive_loss(moved, kind, temperature=0.5)))
        assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(gradients[k][i, j], rel=1e-5, abs=1e-8)


def test_rows_shorter_than_eps_are_divided_by_eps():
    """x / max(‖x‖, eps), whatever the scale."""
    x = np.array([[3e-9, 4e-9], [3e30, 4e30]])
    table = np.asarray(similarity_table([x, np.eye(2)], eps=1e-8))
    np.testing.assert_allclose(table, [[0.3, 0.4], [0.6, 0.8]], rtol=1e-12)


# Precision and graphs


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_is_computed_in_float32_and_cast_back(kind, dtype):
    """The table is that of the rounded rows in float32, rounded once; the loss is float32."""
    half = [tf.cast(rows, dtype) for rows in features(3)]
    single = [tf.cast(rows, "float32") for rows in half]
    eps = 1e-3 if dtype == "float16" else 1e-6
    table = similarity_table(half, kind)
    expected = tf.cast(similarity_table(single, kind, eps=eps), dtype)
    assert table.dtype == half[0].dtype and np.array_equal(
        tf.cast(table, "float32"), tf.cast(expected, "float32")
    )
    loss = contrastive_loss(half, kind)
    assert loss.dtype == tf.float32
    assert float(loss) == pytest.approx(float(contrastive_loss(single, kind, eps=eps)), rel=1e-6)


def test_sets_of_several_dtypes_meet_in_the_widest():
    """As Keras' operations have it."""
    x, y = features(2)
    assert similarity_table([x.astype("float16"), y]).dtype == tf.float64
    assert similarity_table([x.astype("float16"), y.astype("float32")]).dtype == tf.float32


@pytest.mark.parametrize("jit_compile", [False, True])
def test_graphs_give_what_eager_execution_gives(jit_compile):
    """Values and gradients of all kinds under tf.function, with XLA and without."""
    sets = [tf.constant(rows) for rows in features(3)]

    def losses(sets):
        return tf.stack([contrastive_loss(list(sets), kind) for kind in KINDS])

    @tf.function(jit_compile=jit_compile, autograph=False)  # converting the source takes longer than XLA
    def step(*sets):
        with tf.GradientTape() as tape:
            tape.watch(sets)
            values = losses(sets)
        return values, tape.gradient(values, sets)

    values, gradients = step(*sets)
    expected, eager = value_and_gradients(losses, sets)
    np.testing.assert_allclose(values, expected, rtol=1e-9)
    for g, e in zip(gradients, eager, strict=True):
        np.testing.assert_allclose(g, e, rtol=1e-7, atol=1e-10)


# Keras 3.8's Diagonal compares None with a number when it works out the symbolic shape; the shape is right.
@pytest.mark.filterwarnings("ignore:NotImplemented should not be used in a boolean:DeprecationWarning:keras")
@pytest.mark.parametrize("batch", [None, 4])
def test_symbolic_features_make_a_model(batch):
    """Keras' symbolic tensors, of known and of unknown batch size."""
    inputs = [keras.Input(batch_shape=(batch, 5)) for _ in range(3)]
    for kind in KINDS:
        model = keras.Model(inputs, similarity_table(inputs, kind))
        assert model.output.shape == (batch,) * 3
        sets = [tf.constant(rows) for rows in features(3, batch=4, dtype="float32")]
        np.testing.assert_allclose(model(sets), similarity_table(sets, kind), rtol=1e-5, atol=1e-6)
    assert keras.Model(inputs, contrastive_loss(inputs)).output.shape == ()


def test_training_brings_matches_together():
    """The loss of three sets falls under gradient descent, temperature learned too."""
    sets = [tf.Variable(rows) for rows in features(3, batch=4, dtype="float32")]
    log_temperature = tf.Variable(0.0)
    optimizer, losses = keras.optimizers.Adam(0.2), []
    for _ in range(15):
        with tf.GradientTape() as tape:
            losses.append(contrastive_loss(sets, temperature=tf.exp(log_temperature)))
        variables = [*sets, log_temperature]
        optimizer.apply_gradients(zip(tape.gradient(losses[-1], variables), variables, strict=True))
    assert losses[-1] < 0.5 * losses[0] and float(log_temperature) < 0


# Memory


def test_bytes_follow_their_formula():
    """B^n times four bytes, and what is made on the way."""
    assert table_bytes("norm", 6, 32, 512) == 4 * (2 * 32**6 + 2 * 6 * 32 * 512 + 15 * 32**2)
    assert table_bytes("einsum", 3, 8, 16) == 4 * (8**3 + 2 * 3 * 8 * 16 + 8**2 * 16)
    assert table_bytes("einsum", 5, 8, 16) == 4 * (8**5 + 2 * 5 * 8 * 16 + (8**2 + 8**3 + 8**2) * 16)
    assert table_bytes("norm", 3, 4, 5, dtype="float16") == table_bytes("norm", 3, 4, 5)
    assert table_bytes("norm", 3, 4, 5, dtype="float64") == 2 * table_bytes("norm", 3, 4, 5)
    for kind in KINDS:
        assert table_bytes(kind, 3, 4, 5, loss=True) > table_bytes(kind, 3, 4, 5)


@pytest.mark.parametrize("compute", [similarity_table, contrastive_loss])
@pytest.mark.parametrize("kind", KINDS)
def test_the_largest_batch_of_the_message_fits_and_one_more_does_not(compute, kind):
    """32⁶ numbers are refused before they are made, with sizes that are true."""
    loss = compute is contrastive_loss
    sets = [np.zeros((32, 16), "float32")] * 6
    with pytest.raises(InvalidArgument) as caught:
        compute(sets, kind)
    message = str(caught.value)
    needed = table_bytes(kind, 6, 32, 16, loss=loss)
    assert f"kind='{kind}' with n=6, d=16, B=32 needs {needed:,} bytes" in message
    assert "max_bytes is 1,073,741,824" in message
    for other, most in re.findall(r"(\w+) (\d+)(?:,|\.)", message.split("for this n:")[1]):
        most = int(most)
        assert table_bytes(other, 6, most, 16, loss=loss) <= 2**30
        assert table_bytes(other, 6, most + 1, 16, loss=loss) > 2**30
    small = [np.ones((2, 16), "float32")] * 6
    compute(small, kind, max_bytes=table_bytes(kind, 6, 2, 16, loss=loss))
    with pytest.raises(InvalidArgument, match="needs"):
        compute(small, kind, max_bytes=table_bytes(kind, 6, 2, 16, loss=loss) - 1)


def test_another_kind_is_named_where_it_fits():
    """Products of wide rows take more than the table; pair tables do not."""
    sets = [np.ones((8, 4096), "float32")] * 3
    with pytest.raises(InvalidArgument, match="At this B kind='norm' or 'cosine' fits"):
        similarity_table(sets, "einsum", max_bytes=10**6)
    assert similarity_table(sets, "norm", max_bytes=10**6).shape == (8, 8, 8)


def test_a_batch_size_known_at_run_time_is_checked_then():
    """Traced without a batch size, the graph asserts; small batches pass, sizes that differ do not."""
    spec = [tf.TensorSpec((None, 4))] * 4

    @tf.function(input_signature=spec)
    def loss(*sets):
        return contrastive_loss(list(sets), max_bytes=10**6)

    small = features(4, batch=3, width=4, dtype="float32")
    assert float(loss(*small)) == pytest.approx(float(contrastive_loss(small)), rel=1e-5)
    large = [tf.zeros((40, 4))] * 4
    with pytest.raises(tf.errors.InvalidArgumentError, match="Largest B that fits for this n: einsum 12"):
        loss(*large)
    with pytest.raises(tf.errors.InvalidArgumentError, match="must have one batch size"):
        loss(*small[:3], tf.zeros((2, 4)))


def test_the_pages_table_is_that_of_the_function():
    """docs/similarity.md: each row of its memory table."""
    rows = re.findall(
        r"^\| (\d+) \| (\d+) \| ([\d,]+) \|(.*)\|$", (DOCS / "similarity.md").read_text("utf-8"), re.M
    )
    assert len(rows) >= 5
    for n, batch, table, others in rows:
        sizes = [table_bytes(kind, int(n), int(batch), 512) for kind in KINDS]
        sizes.append(table_bytes("norm", int(n), int(batch), 512, loss=True))
        assert int(table.replace(",", "")) == 4 * int(batch) ** int(n)
        assert [int(cell.replace(",", "")) for cell in others.split("|")] == sizes


# Errors


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (np.ones((2, 3)), "must be a list or tuple of at least two tensors (B, d). Received: ndarray"),
        ([np.ones((2, 3))], "Received: 1. Pass one tensor per set"),
        ([np.ones((2, 3)), np.ones((2, 4))], "Received: shapes [(2, 3), (2, 4)]"),
        ([np.ones((2, 3)), np.ones((3, 3))], "Received: shapes [(2, 3), (3, 3)]"),
        ([np.ones(3), np.ones(3)], "Received: shapes [(3,), (3,)]"),
        ([np.ones((2, 3), int)] * 2, "dtypes ['int64', 'int64']"),
    ],
)
@pytest.mark.parametrize("compute", [similarity_table, contrastive_loss])
def test_features_that_cannot_work_are_refused(compute, wrong, text):
    """The error says what came and what to do."""
    with pytest.raises(InvalidArgument) as caught:
        compute(wrong)
    assert text in str(caught.value) and str(caught.value).startswith(compute.__name__)


def test_arguments_that_cannot_work_are_refused():
    """Kinds, eps, temperatures, tables."""
    sets = features(2)
    with pytest.raises(InvalidArgument, match="no kind of similarity 'dot'. Choose one of einsum, norm"):
        similarity_table(sets, "dot")
    with pytest.raises(InvalidArgument, match='kind="cosine" is defined for normalised features only'):
        similarity_table(sets, "cosine", normalize=False)
    for value in (0, -1.0, math.nan, math.inf, True, "1"):
        with pytest.raises(InvalidArgument, match=f"`eps` must be a positive.*{value!r}"):
            similarity_table(sets, eps=value)
        with pytest.raises(InvalidArgument, match=f"`temperature` must be a positive.*{value!r}"):
            contrastive_loss(sets, temperature=value)
        with pytest.raises(InvalidArgument, match=f"table_loss: `temperature` must be.*{value!r}"):
            table_loss(np.eye(3), value)
    for table in (np.ones(3), np.ones((2, 3)), np.ones((2, 2), int)):
        with pytest.raises(InvalidArgument, match=r"`table` must be of floats and have n >= 2 axes"):
            table_loss(table)
