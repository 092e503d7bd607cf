"""One file per cause: what shows it, how severe it is, what is said of it, and what may help.

May import `errors`, `counterfactuals`, `thresholds`, `activations`, `records`, `statistics` and `analysis`;
never `diagnosis`, `explanation` or anything behind them.

`_mechanism` says what a mechanism is, and registers those that exist; `_off_units` is what the mechanisms of
units that are off have in common. A new cause is one file that subclasses `Mechanism` (docs/extending).
"""

from trainobs.mechanisms._cancellation import Cancellation
from trainobs.mechanisms._constant_output import ConstantOutput
from trainobs.mechanisms._dead_activation import DeadActivation
from trainobs.mechanisms._disconnected import Disconnected, NeverRead
from trainobs.mechanisms._exploding import Exploding
from trainobs.mechanisms._frozen import Frozen, GivenNothing, NothingTrained
from trainobs.mechanisms._healthy import every_layer_standardised
from trainobs.mechanisms._large_input import LargeInput
from trainobs.mechanisms._loud_loss import LoudLoss
from trainobs.mechanisms._masked import (
    Masked,
    Silenced,
    SomeWeightlessPositions,
    WeightlessPositions,
    levels_its_input,
)
from trainobs.mechanisms._mechanism import (
    Key,
    Mechanism,
    register_mechanism,
    registered_mechanisms,
    unregister_mechanism,
)
from trainobs.mechanisms._non_finite import NonFinite
from trainobs.mechanisms._off_at_errors import FiresOnNothing, OffAtErrors, ReadsNothingAtErrors
from trainobs.mechanisms._off_units import OffUnits, rectifies
from trainobs.mechanisms._one_signed_input import OneSignedInput
from trainobs.mechanisms._one_time_step import OneTimeStep
from trainobs.mechanisms._output_mismatch import AppliedTwice, BrokenOutput, MisreadOutput, OutputMismatch
from trainobs.mechanisms._penalty import HeldSmall, InnerTermDominates, PenaltyDominates
from trainobs.mechanisms._saturated_activation import SaturatedActivation
from trainobs.mechanisms._straight import NoSecondDerivative
from trainobs.mechanisms._symmetric import Symmetric
from trainobs.mechanisms._underflow import Underflow
from trainobs.mechanisms._unexplained import (
    Refuted,
    Unexplained,
    UnexplainedLayer,
    UnexplainedWay,
    UsedElsewhere,
)
from trainobs.mechanisms._unscaled_input import UnscaledInput
from trainobs.mechanisms._vanishing import (
    VanishingAtNode,
    VanishingGradient,
    VanishingSignal,
    sufficient_powers,
)
from trainobs.mechanisms._waiting import WaitingWeight
from trainobs.mechanisms._words import are, everywhere, part_of, percent, ranges, several
from trainobs.mechanisms._zero_input import ZeroInput, ZeroLayerInput
from trainobs.mechanisms._zero_loss_gradient import QuietOutput, QuietPart, ZeroLossGradient
from trainobs.mechanisms._zero_weights import (
    ZeroScale,
    ZeroWeights,
    forgotten_state,
    weights_at_fault,
)

__all__ = [
    "AppliedTwice",
    "BrokenOutput",
    "Cancellation",
    "ConstantOutput",
    "DeadActivation",
    "Disconnected",
    "Exploding",
    "FiresOnNothing",
    "Frozen",
    "GivenNothing",
    "HeldSmall",
    "InnerTermDominates",
    "Key",
    "LargeInput",
    "LoudLoss",
    "Masked",
    "Mechanism",
    "MisreadOutput",
    "NeverRead",
    "NoSecondDerivative",
    "NonFinite",
    "NothingTrained",
    "OffAtErrors",
    "OffUnits",
    "OneSignedInput",
    "OneTimeStep",
    "OutputMismatch",
    "PenaltyDominates",
    "QuietOutput",
    "QuietPart",
    "ReadsNothingAtErrors",
    "Refuted",
    "SaturatedActivation",
    "Silenced",
    "SomeWeightlessPositions",
    "Symmetric",
    "Underflow",
    "Unexplained",
    "UnexplainedLayer",
    "UnexplainedWay",
    "UnscaledInput",
    "UsedElsewhere",
    "VanishingAtNode",
    "VanishingGradient",
    "VanishingSignal",
    "WaitingWeight",
    "WeightlessPositions",
    "ZeroInput",
    "ZeroLayerInput",
    "ZeroLossGradient",
    "ZeroScale",
    "ZeroWeights",
    "are",
    "every_layer_standardised",
    "everywhere",
    "forgotten_state",
    "levels_its_input",
    "part_of",
    "percent",
    "ranges",
    "rectifies",
    "register_mechanism",
    "registered_mechanisms",
    "several",
    "sufficient_powers",
    "unregister_mechanism",
    "weights_at_fault",
]
