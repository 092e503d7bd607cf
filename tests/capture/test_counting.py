"""Which step a record is of: over ragged executions, data of unknown length, several Recorders."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import trainobs
from tests.capture import zoo
from tests.capture.terms import kernels


class Kernels(keras.callbacks.Callback):
    """The head's kernel before each call of the train function."""

    def __init__(self):
        super().__init__()
        self.before = []

    def on_train_batch_begin(self, batch, logs=None):
        self.before.append(self.model.get_layer("head").kernel.numpy())


def calls_of(recorder, kernels):
    """Which call of the train function each record was made by."""
    return [
        [np.array_equal(before, record.site("head").kernel) for before in kernels.before].index(True)
        for record in recorder.recording
    ]


def unknown_length():
    """A dataset of six batches that does not know it."""
    signature = tf.TensorSpec((None, 64)), tf.TensorSpec((None,), tf.int64)
    return tf.data.Dataset.from_generator(zoo.batches, output_signature=signature)


class Sequence(keras.utils.PyDataset):
    """Six batches by number."""

    @property
    def num_batches(self):
        return zoo.STEPS

    def __getitem__(self, index):
        return list(zoo.batches())[index]


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize(
    "make",
    [
        lambda: dict(zip("xy", zoo.digits(), strict=True)),
        lambda: {"x": unknown_length()},
        lambda: {"x": Sequence()},
    ],
    ids=["arrays", "dataset_of_unknown_length", "py_dataset"],
)
def test_every_step_of_two_fits(make):
    """Steps count on without a gap over epochs and fits, whatever the data."""
    model, recorder, kernels = zoo.compiled(zoo.net()), trainobs.Recorder(every=1), Kernels()
    for epochs in (2, 1):
        data = make()
        size = zoo.BATCH if "y" in data else None
        model.fit(**data, batch_size=size, epochs=epochs, verbose=0, callbacks=[kernels, recorder])
    assert recorder.recording.steps == tuple(range(18))
    assert [record.epoch for record in recorder.recording] == [0] * 6 + [1] * 6 + [0] * 6
    numbers = calls_of(recorder, kernels)
    assert len(numbers) == len(set(numbers)) == 18


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_generator_that_ends():
    """The step that a generator ends with, and that was not run, is not counted."""
    model, recorder = zoo.compiled(zoo.net()), trainobs.Recorder(every=4)
    for _ in range(2):
        model.fit(zoo.batches(), verbose=0, callbacks=[recorder])
    assert recorder.recording.steps == (0, 4, 8)
    assert len(recorder.recording.at(8).sites[0].input) == zoo.BATCH


@pytest.mark.parametrize("unrolled", [1, 2])
def test_ragged_executions(unrolled):
    """Four steps per execution and six an epoch: each second execution has two, and they are counted."""
    x, y = zoo.digits()
    model, recorder = zoo.compiled(zoo.net(), steps_per_execution=4), trainobs.Recorder(every=1)
    model.unrolled_steps_per_execution = unrolled
    model.fit(x, y, batch_size=zoo.BATCH, epochs=2, verbose=0, callbacks=[recorder])
    assert recorder.recording.steps == (3, 5, 9, 11)
    assert [len(record.sites[0].input) for record in recorder.recording] == [16, 8, 16, 8]


def test_due_step_within_an_execution():
    """An execution is recorded if a step of it is due, by its last step."""
    x, y = zoo.digits()
    model, recorder = zoo.compiled(zoo.net(), steps_per_execution=2), trainobs.Recorder(at=[2, 9])
    model.fit(x, y, batch_size=zoo.BATCH, epochs=2, verbose=0, callbacks=[recorder])
    assert recorder.recording.steps == (3, 9)


def test_several_recorders():
    """Recorders in one fit, due at the same step or not, each hold their own steps and layers."""
    x, y = zoo.digits()
    model, kernels = zoo.compiled(zoo.net(layer("head"))), Kernels()
    second = trainobs.Recorder(every=2)
    third = trainobs.Recorder(every=3, layers="head")
    few = trainobs.Recorder(at=[4, 6], layers=["hidden"], keep="statistics")
    model.fit(x, y, batch_size=zoo.BATCH, epochs=2, verbose=0, callbacks=[kernels, second, third, few])
    assert second.recording.steps == (0, 2, 4, 6, 8, 10)
    assert third.recording.steps == (0, 3, 6, 9)
    assert few.recording.steps == (4, 6)
    assert calls_of(second, kernels) == [0, 2, 4, 6, 8, 10]
    assert calls_of(third, kernels) == [0, 3, 6, 9]
    assert {site.layer for record in second.recording for site in record.sites} == {"hidden", "head"}
    assert {site.layer for record in third.recording for site in record.sites} == {"head"}
    weights = {"net/hidden/kernel", "net/hidden/bias"}
    assert {path for statistics in few.recording for path in statistics.sites} == weights


def test_several_recorders_of_weights_of_unknown_kinds():
    """A Recorder holds the weights that are explained as a whole only of the layers it was asked for."""
    model, fit = zoo.fresh("weights_of_unknown_kinds")
    known = [layer.name for layer in model.layers][-1]
    every, few = trainobs.Recorder(every=2), trainobs.Recorder(every=2, layers=known)
    model.fit(**{**fit, "callbacks": [every, few]})
    assert {weight.kind for weight in next(iter(every.recording)).weights} == {"Doubled", "Gated"}
    assert next(iter(few.recording)).weights == ()
    assert {site.layer for site in next(iter(few.recording)).sites} == {known}


def layer(name):
    """A head of that name."""
    return keras.layers.Dense(10, name=name)


def test_one_recorder_for_several_models():
    """A Recorder may go from model to model, and stay when one is compiled anew."""
    x, y = zoo.digits()
    recorder, model = trainobs.Recorder(every=2), zoo.compiled(zoo.net())
    model.fit(x, y, verbose=0, callbacks=[recorder])
    model.get_layer("hidden").trainable = False
    zoo.compiled(model, optimizer="adam").fit(x, y, verbose=0, callbacks=[recorder])
    other = keras.Sequential([keras.Input((64,)), layer("only")])
    zoo.compiled(other).fit(x, y, verbose=0, callbacks=[recorder])
    assert recorder.recording.steps == (0, 2, 4, 6, 8)
    layers = [[(site.layer, site.trainable) for site in kernels(record)] for record in recorder.recording]
    assert layers[0] == layers[1] == [("hidden", True), ("head", True)]
    assert layers[2] == [("hidden", False), ("head", True)]
    assert layers[3] == layers[4] == [("only", True)]


@pytest.mark.parametrize("steps", [np.arange(0, 6, 2), [np.int64(0), 2, 4], iter([4, 2, 0]), {0, 2, 4, 99}])
def test_steps_of_any_iterable(steps):
    """`at` takes NumPy's integers, in any order, from any iterable."""
    x, y = zoo.digits()
    recorder = trainobs.Recorder(at=steps)
    zoo.compiled(zoo.net()).fit(x, y, batch_size=zoo.BATCH, verbose=0, callbacks=[recorder])
    assert recorder.recording.steps == (0, 2, 4)


class Counting(keras.Sequential):
    """Counts how often its train step is traced: as it is, and with taps in the model."""

    own = tapped = 0

    def train_step(self, data):
        if "call" in vars(self):
            self.tapped += 1
        else:
            self.own += 1
        return super().train_step(data)


def counting(**settings):
    """A model that counts, with numbers drawn and a state in it."""
    stack = [keras.Input((64,)), keras.layers.Dense(8, "relu"), keras.layers.BatchNormalization()]
    return zoo.compiled(Counting([*stack, keras.layers.Dropout(0.2), layer("head")]), **settings)


def arrays(repeats):
    """What fit takes for arrays: their last batch is short."""
    x, y = zoo.digits()
    return {"x": x, "y": y, "batch_size": zoo.BATCH, "epochs": repeats}


def batches_by_number(repeats):
    """Batches from Python, each of the shape it has."""
    return {"x": Sequence(), "epochs": repeats}


@pytest.mark.parametrize("settings", [{}, {"steps_per_execution": 4}, {"jit_compile": True}], ids=str)
@pytest.mark.parametrize("make", [arrays, batches_by_number])
def test_traces_of_thirty_steps(make, settings):
    """Due or not, with a short last batch: each function is traced as often as shapes require, at most."""
    alone, model = counting(**settings), counting(**settings)
    alone.fit(**make(5), verbose=0)
    recorder = trainobs.Recorder(at=[0, 1, 4, 5, 6, 11, 17, 18, 23, 28, 29])
    model.fit(**make(5), verbose=0, callbacks=[recorder])
    assert len(recorder.recording) >= 7
    assert model.own <= alone.own
    assert model.tapped <= alone.own
    seen = model.own, model.tapped
    model.fit(
        **make(2), verbose=0, callbacks=[trainobs.Recorder(every=10**6), trainobs.Recorder(every=10**6)]
    )
    assert model.own == seen[0] and model.tapped - seen[1] <= alone.own


def test_traces_of_captures():
    """Many captured batches trace a step once per shape."""
    x, y = zoo.digits()
    model = counting()
    model.fit(x, y, batch_size=zoo.BATCH, verbose=0)
    own = model.own
    trainobs.explain_near_zero_gradients(model, x, y, batch_size=zoo.BATCH)
    assert (model.own, model.tapped <= 2) == (own, True)  # full batches and the ragged one


# ---- which layers ----------------------------------------------------------------------------


class Mine(keras.layers.Dense):
    """A user's own class of a layer with a kernel."""


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (keras.layers.Dense, ["mine", "head"]),
        (keras.layers.Layer, ["mine", "head"]),
        (Mine, ["mine"]),
        ("mine", ["mine"]),
        ("net/m*", ["mine"]),
        ("net/mine", ["mine"]),
        ("net/mine/kernel", ["mine"]),
        (["head", Mine], ["mine", "head"]),
    ],
    ids=str,
)
def test_layers_mean_the_same_everywhere(layers, expected):
    """Name, pattern, path of layer or weight, class and its subclasses: for a Recorder and a report."""
    x, y = zoo.digits()
    inputs = [keras.Input((64,)), Mine(8, name="mine"), layer("head")]
    model, recorder = zoo.compiled(keras.Sequential(inputs, name="net")), trainobs.Recorder(layers=layers)
    model.fit(x, y, verbose=0, callbacks=[recorder])
    assert list(dict.fromkeys(site.layer for site in recorder.recording.at().sites)) == expected
    report = trainobs.explain_near_zero_gradients(model, x, y, layers=layers)
    assert list(dict.fromkeys(report.layers["layer"])) == expected


def test_nodes_of_layers_that_are_not_selected():
    """A selection leaves out arrays, not the way that the gradient takes."""
    x, y = zoo.digits()
    model, recorder = zoo.compiled(zoo.net()), trainobs.Recorder(layers="head")
    model.fit(x, y, verbose=0, callbacks=[recorder])
    assert [node.layer for node in recorder.recording.at().nodes] == ["hidden", "head"]
