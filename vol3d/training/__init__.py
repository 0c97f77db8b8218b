"""Running a task: the loop, exact resume, averaged weights, logs."""
