"""The explorer: a page on the store of a sweep, served locally or as one file. ``xaisim explore STORE``."""
