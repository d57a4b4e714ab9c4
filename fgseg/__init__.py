"""fgseg."""
