"""The package's own version, in one place, and the versions of others."""

from importlib.metadata import PackageNotFoundError, version

__all__ = ["__version__", "version_of"]

__version__ = "0.1.0"

# Distributions that install the same modules under another name.
_VARIANTS = {"opencv-python": ("opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")}


def version_of(package: str) -> str | None:
    """The installed version of a package or of a variant of it; None where neither is there.

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
