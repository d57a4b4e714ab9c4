"""Reading the results of a store."""

__all__ = ["StoreReader"]


class StoreReader:
    """The results of a run."""
