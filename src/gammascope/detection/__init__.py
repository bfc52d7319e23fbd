"""A detector, or several together: pictures in, reports out."""
