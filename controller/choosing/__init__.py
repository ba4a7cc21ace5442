"""Stage two: a model for every step, out of what the catalogue has, the hub has and is warm in the cluster."""
