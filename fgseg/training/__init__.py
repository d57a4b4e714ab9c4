"""Training: procedural scenes, FG-CLIP's losses, and the recipe of the embedded model."""
