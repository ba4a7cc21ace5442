"""What the monitoring asks, for the tests."""
