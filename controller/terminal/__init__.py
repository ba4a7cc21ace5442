"""`hgpt`: the commands, and what they draw on a terminal."""
