"""What was saved is what is loaded, also where there is no TensorFlow."""

import dataclasses
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import trainobs
from trainobs.errors import InvalidArgument
from trainobs.recording import Recording


def assert_equal(one: object, other: object, where: str = "record") -> None:
    """Every field the same, arrays bit by bit."""
    assert type(one) is type(other), where
    if dataclasses.is_dataclass(one):
        for field in dataclasses.fields(one):
            assert_equal(getattr(one, field.name), getattr(other, field.name), f"{where}.{field.name}")
    elif isinstance(one, tuple):
        assert len(one) == len(other), where
        for at, pair in enumerate(zip(one, other, strict=True)):
            assert_equal(*pair, f"{where}[{at}]")
    elif isinstance(one, dict):
        assert list(one) == list(other), where
        for name, value in one.items():
            assert_equal(value, other[name], f"{where}[{name!r}]")
    elif isinstance(one, np.ndarray):
        assert (one.dtype, one.shape) == (other.dtype, other.shape), where
        assert one.tobytes() == other.tobytes(), where
    else:
        assert one == other or (one != one and other != other), where


def test_every_field_comes_back(recording, tmp_path):
    """Records of tensors and of statistics alike."""
    recording.save(tmp_path / "run.safetensors")
    loaded = Recording.load(tmp_path / "run.safetensors")
    assert loaded.steps == recording.steps == (0, 2, 4)
    for before, after in zip(recording, loaded, strict=True):
        assert_equal(plain(before), plain(after))


def plain(record: object) -> object:
    """Scalars of NumPy are Python's in a file, and sums are arrays."""
    if isinstance(record, np.generic):
        return record.item()
    if isinstance(record, tuple):
        return tuple(map(plain, record))
    if isinstance(record, dict):
        return {name: np.asarray(v) if isinstance(v, np.generic) else plain(v) for name, v in record.items()}
    if dataclasses.is_dataclass(record):
        own = {f.name: plain(getattr(record, f.name)) for f in dataclasses.fields(record)}
        return dataclasses.replace(record, **own)
    return record


def test_the_report_is_the_same(recording, tmp_path):
    """A stored recording is explained without its model, with the same figures and findings."""
    recording.save(tmp_path / "run.safetensors")
    loaded = Recording.load(tmp_path / "run.safetensors")
    a, b = (trainobs.explain_near_zero_gradients(source, step=2) for source in (recording, loaded))
    pd.testing.assert_frame_equal(a.layers, b.layers)
    pd.testing.assert_frame_equal(a.findings, b.findings)


def test_loaded_statistics_add(recordings, tmp_path):
    """The sum of two loaded steps is the sum of the two steps."""
    kept = recordings["statistics"]
    kept.save(tmp_path / "run.safetensors")
    loaded = Recording.load(tmp_path / "run.safetensors")
    a, b = ((source.at(0) + source.at(2)).sites for source in (kept, loaded))
    for name, site in a.items():
        assert_equal(site.sums, b[name].sums)


def test_shared_arrays_are_stored_once(recordings, tmp_path):
    """The file is no larger than the arrays it holds, each counted once, and its text."""
    path, kept = tmp_path / "run.safetensors", recordings["tensors"]
    kept.save(path)
    assert path.stat().st_size < sum(record.nbytes for record in kept) + 100_000


def test_loading_needs_no_tensorflow(recording, tmp_path):
    """A server that only shows recordings has NumPy and safetensors."""
    recording.save(tmp_path / "run.safetensors")
    code = f"""
        import sys
        sys.modules["tensorflow"] = sys.modules["keras"] = None  # an import of it is an error
        import trainobs
        recording = trainobs.Recording.load({str(tmp_path / "run.safetensors")!r})
        assert recording.steps == (0, 2, 4)
        trainobs.Recording(recording.records[:1]).save({str(tmp_path / "first.safetensors")!r})
    """
    root = str(Path(trainobs.__file__).parents[1])
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=os.environ | {"PYTHONPATH": root}, check=True
    )
    assert Recording.load(tmp_path / "first.safetensors").steps == (0,)


@pytest.mark.parametrize("path", ["/dev/null", "."])
def test_what_is_no_file_is_not_replaced(recording, path):
    """A device would be gone, and a folder with all that is in it."""
    with pytest.raises(InvalidArgument, match="a folder or a device"):
        recording.save(path)
    assert not Path(path).is_file()


def test_what_can_not_be_stored_is_said(recordings, tmp_path):
    """Targets that are strings have no place in the file; nothing is left of the attempt."""
    record = recordings["tensors"].at(0)
    named = dataclasses.replace(record.outputs[0], target=np.array(["cat", "dog"]))
    with pytest.raises(InvalidArgument, match="has no place in a safetensors file"):
        Recording((dataclasses.replace(record, outputs=(named,)),)).save(tmp_path / "run.safetensors")
    assert not list(tmp_path.iterdir())
