"""Graphs, sets and experts: where rows are gathered, summed by segments and routed."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from tests.faults.models import classifier, dense, small_digits
from tests.faults.models import compiled as for_classes
from tests.faults.strangers.cases import KERAS, KERAS_IO, Built, Family, compiled, normal

CASES = Family()

NODES, EDGES = 96, 320


def _edges(isolated: int = 0) -> np.ndarray:
    """Pairs of nodes, sender and receiver; the last nodes receive nothing."""
    rng = np.random.default_rng(0)
    edges = rng.integers(0, NODES, (EDGES, 2))
    edges[: NODES - isolated, 1] = np.arange(NODES - isolated)
    edges[:, 1] %= NODES - isolated
    return edges


class Messages(layers.Layer):
    """What neighbours say, summed or averaged by segments, and a kernel behind it."""

    def __init__(self, units: int, edges: np.ndarray, mean: bool, **options: str):
        super().__init__(**options)
        self.kernel_layer = layers.Dense(units, activation="tanh", name=f"{self.name}_dense")
        self.edges, self.mean = edges, mean

    def call(self, nodes: tf.Tensor) -> tf.Tensor:
        """Of all nodes of the one graph."""
        said = tf.gather(nodes, self.edges[:, 0])
        heard = tf.math.unsorted_segment_sum(said, self.edges[:, 1], NODES)
        if self.mean:
            degree = np.bincount(self.edges[:, 1], minlength=NODES).astype("float32")
            heard = heard / degree[:, None]
        return self.kernel_layer(tf.concat([nodes, heard], axis=-1))


def _citations(isolated: int, mean: bool) -> Built:
    start = keras.Input((12,))
    hidden = start
    for name in ("gcn1", "gcn2"):
        hidden = Messages(24, _edges(isolated), mean, name=name)(hidden)
    model = keras.Model(start, dense(5, "head", "softmax")(hidden))
    x, y = normal(NODES, 12), np.random.default_rng(1).integers(0, 5, NODES)
    return compiled(model, "sparse_categorical_crossentropy", x, y)


@CASES("graph net of segment sums", KERAS_IO + "graph/mpnn-molecular-graphs.py")
def message_passing() -> Built:
    """Messages of neighbours are summed."""
    return _citations(isolated=0, mean=False)


@CASES(
    "graph net, nodes without neighbours",
    KERAS + "21131: loss nan of the graph attention example on own data; means over neighbours divide by 0",
    truth=(("non_finite", "gcn1"), ("non_finite", "gcn1_dense")),
    tape={"gcn1_dense/kernel": "nan", "head": "nan"},
)
def isolated_nodes() -> Built:
    """Five nodes receive nothing: 0 / 0."""
    return _citations(isolated=5, mean=True)


class GraphAttention(layers.Layer):
    """Scores of edges, a softmax over the neighbours by segments, and their sum."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Kernel, and the vector of the scores."""
        self.kernel = self.add_weight(name="kernel", shape=(shape[-1], 24))
        self.score = self.add_weight(name="score", shape=(48, 1))

    def call(self, nodes: tf.Tensor) -> tf.Tensor:
        """Of all nodes of the one graph."""
        edges, moved = _edges(), nodes @ tf.convert_to_tensor(self.kernel)
        ends = tf.concat([tf.gather(moved, edges[:, 0]), tf.gather(moved, edges[:, 1])], axis=-1)
        scores = tf.exp(tf.clip_by_value(tf.nn.leaky_relu(ends @ tf.convert_to_tensor(self.score)), -2, 2))
        sums = tf.math.unsorted_segment_sum(scores, edges[:, 1], NODES)
        shares = scores / tf.gather(sums, edges[:, 1])
        return tf.math.unsorted_segment_sum(tf.gather(moved, edges[:, 0]) * shares, edges[:, 1], NODES)


@CASES("graph attention", KERAS_IO + "graph/gat_node_classification.py")
def graph_attention() -> Built:
    """Two own layers with kernels that trainobs has no rule for."""
    start = keras.Input((12,))
    hidden = ops.tanh(GraphAttention(name="gat1")(start))
    model = keras.Model(start, dense(5, "head", "softmax")(GraphAttention(name="gat2")(hidden)))
    x, y = normal(NODES, 12), np.random.default_rng(1).integers(0, 5, NODES)
    return compiled(model, "sparse_categorical_crossentropy", x, y)


class Route(layers.Layer):
    """Mixes experts: by a softmax, by the best one scaled by its share, or by the best one alone."""

    def __init__(self, how: str, **options: str):
        super().__init__(**options)
        self.how = how

    def call(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        """The mixture of (batch, experts, units)."""
        scores, experts = inputs
        shares = tf.nn.softmax(scores)
        best = tf.one_hot(tf.argmax(shares, axis=-1), shares.shape[-1])
        weights = {"soft": shares, "switch": shares * best, "hard": best}[self.how]
        return tf.reduce_sum(weights[..., None] * experts, axis=1)


def _experts(how: str) -> Built:
    x, y = small_digits()
    start = keras.Input((64,))
    experts = ops.stack([dense(24, f"expert{number}", "tanh")(start) for number in range(3)], axis=1)
    mixed = Route(how, name="route")([dense(3, "router", None)(start), experts])
    return Built((classifier(start, mixed),), (x[:192] - 0.3) / 0.37, y[:192])


@CASES("mixture of experts, soft", KERAS_IO + "keras_recipes/mixture_of_experts.py")
def soft_experts() -> Built:
    """All experts, weighted."""
    return _experts("soft")


@CASES(
    "switch layer, the best expert scaled", KERAS_IO + "nlp/text_classification_with_switch_transformer.py"
)
def switch() -> Built:
    """The router learns by the share that scales the chosen one."""
    return _experts("switch")


@CASES(
    "mixture of experts, routed by argmax alone",
    "https://github.com/labmlai/annotated_deep_learning_paper_implementations/issues/95: the gate "
    "learns by what "
    "it multiplies; https://github.com/ml-explore/mlx/issues/652: no gradient through the choice",
    truth=(("disconnected", "router"), ("disconnected", "route")),
    tape={"router": "none", "expert0": "live", "head": "live"},
)
def hard_experts() -> Built:
    """The router has no gradient, the experts learn."""
    return _experts("hard")


@CASES(
    "PointNet, its transformation begins as the identity",
    KERAS_IO
    + "vision/pointnet.py; https://github.com/dnkirill/stn_idsia_convnet/issues/4 asks about such zeros",
    tape={"net1": "zero", "net2": "zero"},
)
def pointnet() -> Built:
    """The kernel of the 3×3 matrix is zero and gets a gradient itself: what is before it will."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 96)
    points = normal(96, 32, 3) * np.array([[1, 1, 1], [2, 1, 0.3], [0.3, 0.3, 2]], "float32")[y][:, None]
    start = keras.Input((32, 3))
    hidden = layers.GlobalMaxPooling1D()(dense(24, "net1")(start))
    matrix = layers.Dense(9, kernel_initializer="zeros", name="matrix")(dense(16, "net2")(hidden))
    turned = ops.matmul(start, ops.reshape(matrix, (-1, 3, 3)) + ops.eye(3))
    features = layers.GlobalMaxPooling1D()(dense(32, "points")(turned))
    return Built((for_classes(keras.Model(start, dense(3, "head", "softmax")(features))),), points, y)
