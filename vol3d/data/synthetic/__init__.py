"""The embedded cohort: people made from the MNI152 template, whose volumes are known exactly."""
