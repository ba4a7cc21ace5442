"""Runs as tasks of their own: followed, cancelled, read after the fact, from any replica of the ingress."""
