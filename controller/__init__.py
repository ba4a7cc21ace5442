"""The four stages of a request (plan, choose, run, answer) and the doors people come in by."""
