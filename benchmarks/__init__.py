"""One question per file; each prints a JSON report with the machine and the versions it was measured on."""
