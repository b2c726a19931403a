"""What runs inside a sandbox, in any Python from 3.9 on, with the standard library alone."""
