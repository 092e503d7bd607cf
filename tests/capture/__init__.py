"""The observer: what it records is right, and whoever is observed does not notice."""
