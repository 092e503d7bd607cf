"""The errors trainobs raises: each says what came, what was expected, what to do."""


class TrainobsError(Exception):
    """Base of every error that trainobs raises on purpose."""

    ag_pass_through = True  # so that a `tf.function` raises it unchanged


class InvalidArgument(TrainobsError, ValueError):
    """An argument has a value that cannot work."""


class ModelNotReady(TrainobsError, ValueError):
    """The model is not compiled, not built, has no loss, or has no kernel to explain."""


class NotRecorded(TrainobsError, LookupError):
    """The step, layer or weight that was asked for was not recorded."""


class UnsupportedBackend(TrainobsError, RuntimeError):
    """Keras runs on another backend than TensorFlow."""


class UnreadableFile(InvalidArgument):
    """A file is none of ours, of another version, cut short or damaged."""
