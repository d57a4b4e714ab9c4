"""The training of the embedded model. `python -m recipes.mini --out FOLDER` runs it."""
