"""The note of June 2021: its log format, statistics and bookkeeping of gradients."""
