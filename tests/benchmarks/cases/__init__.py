"""What is measured: each module's ``tables`` yields tables as they are ready."""
