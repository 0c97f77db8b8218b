"""Spatial transforms, from points of the fixed volume to points of the moving one, and warps."""
