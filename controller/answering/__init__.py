"""Stage four: one answer, grounded in the results."""
