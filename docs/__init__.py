"""The sources of the site, and `python -m docs`, which makes it."""
