"""Augmentation policies: one file each, which says what pictures to make of which photos, and what they then are."""
