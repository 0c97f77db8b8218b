"""What is looked at: volumes, labels, probabilities, points and fields as napari layers, and as pages."""
