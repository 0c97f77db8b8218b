"""Several processes at once: ranks of one run, and shards of one job."""
