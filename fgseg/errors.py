"""The errors of fgseg. They share a base, and each is also the built-in error that a caller would catch.

Messages name the argument, what was expected, what was given and what to do.
"""

__all__ = [
    "BatchError",
    "DatasetError",
    "DeviceError",
    "DiskError",
    "FgsegError",
    "ImageError",
    "ModelNotFoundError",
    "OptionError",
    "OutputError",
    "PromptError",
    "ShapeError",
    "StoreError",
    "TrainingError",
    "UnknownWordError",
    "WeightsError",
]


class FgsegError(Exception):
    """Base of the errors that fgseg raises."""


class OptionError(FgsegError, ValueError):
    """An argument with a value that it cannot take."""


class ShapeError(FgsegError, ValueError):
    """An array of the wrong shape, dtype or range."""


class PromptError(FgsegError, ValueError):
    """A prompt, template or class file that cannot be turned into texts."""


class UnknownWordError(PromptError):
    """A word that is not in the vocabulary of a model with few words, such as the embedded one."""


class ImageError(FgsegError, OSError):
    """An image or label file that cannot be read."""


class DatasetError(FgsegError, ValueError):
    """A labelled data set with wrong files or ids."""


class OutputError(FgsegError, OSError):
    """A result file that cannot be written."""


class DiskError(OutputError):
    """A result file that cannot be written because its disk is full or read-only; other files would fail as well."""


class StoreError(FgsegError, OSError):
    """A store of a batch that cannot be read or continued: another run, a damaged file, a store that is not reached."""


class BatchError(FgsegError, RuntimeError):
    """A batch run that stopped before its end by a fault of the machine; the same command continues it."""


class ModelNotFoundError(FgsegError, OSError):
    """A model that is not found: unknown name, folder without weights, hub not reachable."""


class WeightsError(FgsegError, RuntimeError):
    """A checkpoint whose tensors do not fit its model."""


class TrainingError(FgsegError, RuntimeError):
    """A training run that cannot continue, or a checkpoint of another run."""


class DeviceError(FgsegError, RuntimeError):
    """A device or number format that this machine does not have."""
