"""The dock widgets: forms and controls over what `vol3d.viewer` does without a window."""
