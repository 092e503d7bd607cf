"""Plain, frozen records of what train steps computed. NumPy arrays, no TensorFlow, no Keras.

May import `errors` and `activations` (and `linear_ops` for its types); never anything else of the package.
"""

from trainobs.records._nodes import DATA, OPERATIONS, SCORES, NodeRecord, OutputRecord
from trainobs.records._place import Broken, Constant, Ending, Place
from trainobs.records._rows import Rows
from trainobs.records._scalars import Scalars, scalars_of, sums_of
from trainobs.records._sites import SiteRecord
from trainobs.records._step import StepRecord, WeightRecord

__all__ = [
    "DATA",
    "OPERATIONS",
    "SCORES",
    "Broken",
    "Constant",
    "Ending",
    "NodeRecord",
    "OutputRecord",
    "Place",
    "Rows",
    "Scalars",
    "SiteRecord",
    "StepRecord",
    "WeightRecord",
    "scalars_of",
    "sums_of",
]
