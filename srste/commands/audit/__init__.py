"""The audit of logs in the note's line format: what they say, what is said of them, what we find."""
