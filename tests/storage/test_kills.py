"""A process that is killed while it saves leaves the old file, whole, and no litter for good."""

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import trainobs
from trainobs.recording import Recording

_SAVES_FOR_EVER = """
    import sys, trainobs
    recording = trainobs.Recording.load(sys.argv[1])
    print("ready", flush=True)
    while True:
        recording.save(sys.argv[1])
"""


def kill_while_saving(path: Path, delay: float) -> None:
    """Start a process that saves over and over, and kill it after some time."""
    environment = os.environ | {"PYTHONPATH": str(Path(trainobs.__file__).parents[1])}
    command = [sys.executable, "-c", textwrap.dedent(_SAVES_FOR_EVER), str(path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize(
    "kills", [pytest.param(10, id="10"), pytest.param(100, id="100", marks=pytest.mark.slow)]
)
def test_a_killed_writer_leaves_a_whole_file(kills, recordings, tmp_path):
    """Whenever it was killed, the file loads with all its steps; the next save leaves nothing beside it."""
    path, seconds = tmp_path / "run.safetensors", random.Random(0)
    recordings["tensors"].save(path)
    for _ in range(kills):
        kill_while_saving(path, seconds.uniform(0, 0.05))
        assert Recording.load(path).steps == (0, 2, 4)
    Recording.load(path).save(path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_living_writer_keeps_its_partial_file(recordings, tmp_path):
    """Only what the dead have left is removed."""
    path = tmp_path / "run.safetensors"
    living = tmp_path / f"run.safetensors.{os.uname().nodename}.{os.getppid()}.partial"
    dead = tmp_path / f"run.safetensors.{os.uname().nodename}.{_dead_process()}.partial"
    other = tmp_path / f"walk.safetensors.{os.uname().nodename}.{_dead_process()}.partial"
    for left in (living, dead, other):
        left.write_bytes(b"half")
    recordings["tensors"].save(path)
    assert sorted(tmp_path.iterdir()) == sorted([path, living, other])


def _dead_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid
