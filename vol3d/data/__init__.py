"""Files of images and tables, as scans with covariates."""
