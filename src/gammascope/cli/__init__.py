"""The command line: a module for each journey, and what their commands share."""
