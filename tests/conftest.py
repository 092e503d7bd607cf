"""What every test and every docstring example starts from."""

import gc
import os
import sys
from collections.abc import Iterator

import hypothesis
import pytest

# Read when TensorFlow, Keras and matplotlib are imported, so set before any test module is.
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["MPLBACKEND"] = "Agg"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# An example traces graphs: no deadline, however few of them there are. `pytest --hypothesis-profile=nightly`
# draws more examples, and others each time, for the properties that name no number of their own.
_slow = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile("ci", max_examples=30, derandomize=True, database=None, **_slow)
hypothesis.settings.register_profile("nightly", max_examples=300, print_blob=True, **_slow)
hypothesis.settings.load_profile("ci")


class EveryTest:
    """Fixtures for all items. A conftest's own reach its folder only, not the examples in trainobs/."""

    @pytest.fixture(autouse=True)
    def seeded(self) -> None:
        """Seeds 0 and layer names counted from the start, for tests with Keras loaded."""
        if keras := sys.modules.get("keras"):
            keras.utils.clear_session()  # forgets the seed too: first
            keras.utils.set_random_seed(0)
            gc.freeze()

    @pytest.fixture(autouse=True)
    def figures_closed(self) -> Iterator[None]:
        """No figure outlives its test."""
        yield
        if pyplot := sys.modules.get("matplotlib.pyplot"):
            pyplot.close("all")


def pytest_configure(config: pytest.Config) -> None:
    """Make the fixtures hold outside tests/ too."""
    config.pluginmanager.register(EveryTest(), "trainobs-every-test")
