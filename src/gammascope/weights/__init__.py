"""The embedded detector and the facts about it."""
