"""The report page and the server; what they share."""
