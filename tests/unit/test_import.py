"""What `import trainobs` costs and shows, in a fresh interpreter."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import trainobs

HEAVY = ("tensorflow", "keras", "pandas", "matplotlib", "numpy", "jinja2", "safetensors")
API = [
    "explain_near_zero_gradients",
    "Recorder",
    "Recording",
    "Report",
    "NearZero",
    "Thresholds",
    "Cause",
    "GradientHealth",
    "check_health",
    "capture_batch",
    "log_spaced",
    "register_layer_kind",
    "register_activation_layer",
    "register_mechanism",
    "register_remedy",
    "register_health_rule",
]


def loaded_after(statement: str) -> set[str]:
    """The modules that are loaded after a statement in a fresh interpreter."""
    code = f"{statement}\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
    root = str(Path(trainobs.__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": root, "TF_CPP_MIN_LOG_LEVEL": "3"}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment, timeout=120
    )
    return set(json.loads(run.stdout.splitlines()[-1]))


def test_importing_trainobs_loads_nothing_heavy():
    """TensorFlow, Keras, pandas and matplotlib wait until a name is used; so do the other dependencies."""
    assert not loaded_after("import trainobs") & set(HEAVY)


def test_listing_the_api_loads_nothing_heavy():
    """Tab completion does not import TensorFlow."""
    assert not loaded_after("import trainobs; dir(trainobs); trainobs.__version__") & set(HEAVY)


def test_thresholds_need_no_tensorflow():
    """NearZero and the errors are plain Python."""
    assert not loaded_after("import trainobs; trainobs.NearZero(); import trainobs.errors") & set(HEAVY)


def test_records_need_numpy_only():
    """A Recording can be unpickled, stored and read where no TensorFlow is."""
    loaded = loaded_after("import trainobs; trainobs.Recording(())")
    assert "numpy" in loaded
    assert not loaded & {"tensorflow", "keras", "pandas", "matplotlib"}


def test_an_explanation_draws_nothing():
    """Tables and text need pandas; pictures and pages come with the report, and models with neither."""
    loaded = loaded_after("import trainobs.explanation")
    assert "pandas" in loaded
    assert not loaded & {"trainobs.views", "trainobs.report", "trainobs.capture", "jinja2"}


def test_a_report_loads_no_remedies():
    """Its doors to them open when they are used."""
    loaded = loaded_after("import trainobs; trainobs.Report")
    assert "trainobs.views" in loaded
    assert not loaded & {"trainobs.remedies", "trainobs.explain", "trainobs.capture"}


def test_api_is_listed_in_the_order_of_a_users_walk():
    """`__all__` is the public API, `dir` shows all of it, and every name can be had."""
    assert trainobs.__all__ == API
    assert set(API) <= set(dir(trainobs))
    assert dir(trainobs) == sorted(dir(trainobs))
    for name in API:
        assert getattr(trainobs, name).__name__ == name


def test_names_are_the_objects_of_their_modules():
    """A lazy name is the object itself, and stays the same one."""
    from trainobs.report import Report
    from trainobs.thresholds import NearZero

    assert trainobs.NearZero is NearZero and trainobs.Report is Report
    assert trainobs.Report is trainobs.Report


def test_unknown_names_are_attribute_errors():
    """The error reads like Python's own, and `hasattr` and `from` imports behave."""
    with pytest.raises(AttributeError, match=r"^module 'trainobs' has no attribute 'explain_'$"):
        trainobs.explain_  # noqa: B018
    assert not hasattr(trainobs, "gradients")
    with pytest.raises(ImportError, match="gradients"):
        from trainobs import gradients  # noqa: F401
