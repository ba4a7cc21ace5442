"""What an operator sees: /metrics and /v1/cluster."""
