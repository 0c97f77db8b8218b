"""Networks of MONAI as ours: their files, their names, their architecture, their zoo's folders."""
