"""Recipes and the loop that follows them."""
