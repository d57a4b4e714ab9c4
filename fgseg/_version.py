"""The version of this package, and of other installed packages."""

from importlib.metadata import PackageNotFoundError, version

__all__ = ["__version__", "version_of"]

__version__ = "0.1.0"

# Distributions of other names that install the same modules.
_VARIANTS = {"opencv-python": ("opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")}


def version_of(package: str) -> str | None:
    """The installed version of a package or of a variant of it; None if neither is installed.

    Examples:
        >>> version_of("no-such-package") is None
        True
    """
    for name in (package, *_VARIANTS.get(package, ())):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None
