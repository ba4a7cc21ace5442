"""What every process stands on: messages, errors, artifacts, settings, metrics. Knows neither models nor plans."""
