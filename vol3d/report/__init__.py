"""Reports of results as one HTML file: pictures, plots and plain sentences; computes nothing."""
