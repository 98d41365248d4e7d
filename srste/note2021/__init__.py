"""What is about the note of June 2021: its log format, its statistics, its bookkeeping."""
