"""Networks that give each voxel a label; the menu of all is `vol3d.trained.segmenter_networks`."""
