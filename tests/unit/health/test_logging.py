"""What GradientHealth logs: TensorBoard's event files, any callable, and a tracker that runs offline."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.faults import models
from trainobs.health import GradientHealth, HealthWarning


@pytest.fixture
def fit():
    """Fits a small net with a callback, quietly; three checks."""

    def run(**options) -> GradientHealth:
        health = GradientHealth(every=10, **options)
        x, y = models.small_digits()
        model = models.mlp(32, inputs=64)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HealthWarning)
            model.fit(x, y, batch_size=64, verbose=0, callbacks=[health])
        return health

    return run


def events(folder) -> list[tuple[str, int, str, np.ndarray]]:
    """Tag, step, plugin and value of every summary in a folder's event files, as TensorBoard reads them."""
    found = []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                plugin = value.metadata.plugin_data.plugin_name
                found.append((value.tag, event.step, plugin, tf.make_ndarray(value.tensor)))
    return found


def test_event_files(fit, tmp_path):
    """Each figure is a scalar with its step and value; the heatmap is a picture of each check."""
    health = fit(log_dir=tmp_path / "logs")
    found = events(tmp_path / "logs")
    scalars = {(tag, step): float(value) for tag, step, plugin, value in found if plugin == "scalars"}
    expected = {
        (f"health/{name}", report.step): value
        for report in health.reports
        for name, value in report.scalars().items()
    }
    assert scalars.keys() == expected.keys()
    np.testing.assert_allclose([scalars[key] for key in expected], list(expected.values()), rtol=1e-6)
    assert ("health/global_norm", 20) in scalars and ("health/norm/sequential/dense/kernel", 10) in scalars
    pictures = [(tag, step, value) for tag, step, plugin, value in found if plugin == "images"]
    assert [(tag, step) for tag, step, _ in pictures] == [("health/causes", step) for step in (0, 10, 20)]
    width, height, png = pictures[0][2].tolist()
    image = tf.image.decode_png(png).numpy()
    assert image.shape[:2] == (int(height), int(width)) and 200 < int(height) < 600 < int(width)
    assert image[..., :3].std() > 1


def test_tensorboard_reads_them(fit, tmp_path):
    """By its own reader, where it is installed."""
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    health = fit(log_dir=tmp_path)
    events = accumulators.EventAccumulator(str(tmp_path), size_guidance={"tensors": 0})
    events.Reload()
    tags = events.Tags()["tensors"]
    assert "health/global_norm" in tags and "health/causes" in tags
    read = events.Tensors("health/global_norm")
    values = [float(tf.make_ndarray(event.tensor_proto)) for event in read]
    assert [event.step for event in read] == [0, 10, 20]
    np.testing.assert_allclose(values, [report.global_norm for report in health.reports], rtol=1e-6)
    assert events.SummaryMetadata("health/causes").plugin_data.plugin_name == "images"


def test_without_pictures(fit, tmp_path):
    """`explain=False` logs numbers only."""
    fit(log_dir=tmp_path, explain=False)
    assert {plugin for _, _, plugin, _ in events(tmp_path)} <= {"scalars", ""}


def test_pictures_leave_pyplot_alone(fit, tmp_path):
    """No figure stays open, and no backend is chosen."""
    pyplot = pytest.importorskip("matplotlib.pyplot")
    before = pyplot.get_backend()
    fit(log_dir=tmp_path)
    assert pyplot.get_fignums() == [] and pyplot.get_backend() == before


def test_the_file_is_closed_with_the_fit(fit, tmp_path):
    """A second fit, with the same callback, writes a file of its own."""
    health = fit(log_dir=tmp_path)
    model = models.mlp(8, inputs=64)
    model.fit(*models.small_digits(), batch_size=64, verbose=0, callbacks=[health])
    assert len(list(tmp_path.glob("events.out.tfevents.*.health"))) == 2


def test_callable(fit):
    """Any callable gets a flat dict of floats and the step."""
    got = []
    health = fit(log=lambda scalars, step: got.append((step, scalars)))
    assert got == [(report.step, report.scalars()) for report in health.reports]
    assert all(type(value) is float for _, scalars in got for value in scalars.values())
    names = got[-1][1].keys()
    assert {"loss", "global_norm", "norm/sequential/dense/kernel", "dead/dense", "shift/dense"} <= names


def test_mlflow_offline(fit, tmp_path, monkeypatch):
    """MLflow takes the log as it is, without a server."""
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own
        mlflow.set_tracking_uri((tmp_path / "runs").as_uri())
        with mlflow.start_run() as run:
            health = fit(log=lambda scalars, step: mlflow.log_metrics(scalars, step=step))
        history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "global_norm")
        metrics = mlflow.MlflowClient().get_run(run.info.run_id).data.metrics
    assert [metric.step for metric in history] == [0, 10, 20]
    assert [metric.value for metric in history] == [report.global_norm for report in health.reports]
    assert "norm/sequential/dense/kernel" in metrics and keras.backend.backend() == "tensorflow"
