"""From a detector and a list of images to a score table, and from score tables to numbers."""
