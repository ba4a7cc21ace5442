"""The answer-quality suite: requests, the media they bring, and what a right answer must hold. Run by benchmarks.answer_quality."""
