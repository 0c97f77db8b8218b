"""The verbs of the command line: one file each, `vol3d VERB ...`."""
