"""Filters: each says why a row is not accepted; and what chooses among verified rows."""
