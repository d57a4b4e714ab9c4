"""What can be measured: segmentation, boxes, retrieval, and sweeps over settings."""
