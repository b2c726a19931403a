"""Data quality: what makes a row worth training on."""
