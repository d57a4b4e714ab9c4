"""Care of a store: checking its files, and joining small ones."""
