"""Programs with threads, compiled for this host and run on both."""
