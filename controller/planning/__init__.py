"""Stage one: a request becomes a checked plan. No Ray."""
