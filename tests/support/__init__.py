"""What tests share: a loopback endpoint, its replies, its faults."""
