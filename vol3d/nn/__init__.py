"""Layers that know no task."""
