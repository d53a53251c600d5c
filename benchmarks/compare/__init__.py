"""pgq-sync and its peers through the same scenarios on one server: `python -m benchmarks.compare`."""
