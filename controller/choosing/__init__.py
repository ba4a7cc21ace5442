"""Stage two: a model for every step, from the catalogue and the hub, with regard to what is warm in the cluster."""
