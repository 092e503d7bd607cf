"""Recordings survive the way to the disk and back, also a process that is killed while writing."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pandas as pd
import pytest

import trainobs
from trainobs.errors import InvalidArgument
from trainobs.recording import Recording


@pytest.fixture
def recording():
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            keras.layers.Conv2D(3, 3, strides=2, activation="relu", kernel_regularizer="l2"),
            keras.layers.Flatten(),
            keras.layers.Dense(4, activation="softmax"),
        ]
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    rng = np.random.default_rng(0)
    recorder = trainobs.Recorder(every=2)
    model.fit(
        rng.random((40, 6, 6, 2), np.float32),
        rng.integers(0, 4, 40),
        batch_size=8,
        verbose=0,
        callbacks=[recorder],
    )
    return recorder.recording


def test_round_trip_keeps_every_field(recording, tmp_path):
    """What was saved is what is loaded: arrays bit by bit, everything else equal."""
    recording.save(tmp_path / "run.safetensors")
    loaded = Recording.load(tmp_path / "run.safetensors")
    assert loaded.steps == recording.steps == (0, 2, 4)
    for before, after in zip(recording, loaded, strict=True):
        assert before.nodes == after.nodes
        for a, b in zip((*before.sites, *before.outputs), (*after.sites, *after.outputs), strict=True):
            for field in dataclasses.fields(a):
                np.testing.assert_equal(getattr(b, field.name), getattr(a, field.name))


def test_report_of_a_loaded_recording_is_the_same(recording, tmp_path):
    """A stored recording is explained without its model, with the same figures."""
    recording.save(tmp_path / "run.safetensors")
    loaded = Recording.load(tmp_path / "run.safetensors")
    a, b = (trainobs.explain_near_zero_gradients(source, step=2) for source in (recording, loaded))
    pd.testing.assert_frame_equal(a.layers, b.layers)


def test_shared_arrays_are_stored_once(recording, tmp_path):
    """The file is no larger than the arrays it holds, each counted once."""
    path = tmp_path / "run.safetensors"
    recording.save(path)
    assert path.stat().st_size < sum(record.nbytes for record in recording) + 50_000


def test_another_file_is_refused(tmp_path):
    """A safetensors file of something else is refused by its format."""
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(InvalidArgument, match=r"no recording of trainobs.*received None"):
        Recording.load(tmp_path / "other.safetensors")


def test_a_killed_writer_leaves_the_older_file(recording, tmp_path):
    """A process killed in the middle of a save leaves the file that was there before."""
    path = tmp_path / "run.safetensors"
    recording.save(path)
    before = path.read_bytes()
    code = f"""
        import os, signal, trainobs.storage as storage
        from trainobs.recording import Recording
        recording = Recording.load({str(path)!r})
        real = storage.save_file
        def write_and_die(*args, **kwargs):
            real(*args, **kwargs)
            os.kill(os.getpid(), signal.SIGKILL)
        storage.save_file = write_and_die
        Recording(recording.records[:1]).save({str(path)!r})
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], env={**os.environ}, check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == before
