"""The errors fgseg raises: one base, and each child is also the builtin a caller would catch.

Messages name the argument, what was expected, what came, and what to do.
"""

__all__ = [
    "DatasetError",
    "DeviceError",
    "FgsegError",
    "ImageError",
    "ModelNotFoundError",
    "OptionError",
    "OutputError",
    "PromptError",
    "ShapeError",
    "TrainingError",
    "WeightsError",
]


class FgsegError(Exception):
    """Base of every error that fgseg raises on purpose."""


class OptionError(FgsegError, ValueError):
    """An argument outside the values it can take."""


class ShapeError(FgsegError, ValueError):
    """An array of the wrong shape, dtype or range."""


class PromptError(FgsegError, ValueError):
    """A prompt or class file that no text can be made from."""


class ImageError(FgsegError, OSError):
    """An image or label file that cannot be read as what it should be."""


class DatasetError(FgsegError, ValueError):
    """A labelled data set whose files or ids are not what they should be."""


class OutputError(FgsegError, OSError):
    """A result that cannot be written where it should go."""


class ModelNotFoundError(FgsegError, OSError):
    """A model that is not there: unknown name, folder without weights, hub out of reach."""


class WeightsError(FgsegError, RuntimeError):
    """A checkpoint whose tensors are not those of the model it should hold."""


class TrainingError(FgsegError, RuntimeError):
    """A training run that cannot go on, or a checkpoint that is not this run's."""


class DeviceError(FgsegError, RuntimeError):
    """A device or number format that this machine does not have."""
