"""Reports of results as one HTML file each: pictures, plots and plain sentences; computes nothing."""
