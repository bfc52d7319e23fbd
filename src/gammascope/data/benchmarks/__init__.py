"""Public datasets, one file each; the file's name is the benchmark's name. ``base`` finds them."""
