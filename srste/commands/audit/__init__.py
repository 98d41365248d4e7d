"""The audit of logs in the note's line format."""
