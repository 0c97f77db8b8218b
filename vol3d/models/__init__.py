"""Networks with weights. Each is written out in full over the layers of `vol3d.nn`."""
