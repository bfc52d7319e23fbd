"""Pages in one HTML file each, which need no network: what a scan found, and how evaluated detectors compare."""
