"""What `fgseg segment` and `fgseg heatmap` do before and with each image."""
