"""What pgq-sync does per second and per millisecond, as ratios within one run: `python -m benchmarks`."""
