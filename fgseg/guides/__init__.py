"""Guides: models whose features say which patches belong together."""
