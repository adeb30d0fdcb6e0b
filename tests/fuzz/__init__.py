"""Files as strangers and accidents make them, read by the public functions: see `python -m tests.fuzz --help`."""
