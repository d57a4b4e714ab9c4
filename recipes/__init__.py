"""Recipes of models that come with the package."""
