"""What the sandbox costs, as ratios against bare Unicorn in the same run: ``python -m benchmarks``."""
