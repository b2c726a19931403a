"""Look at rows: in the terminal with ``show``, on a page with ``report``."""
