"""What is typed: run, report, sync, audit."""
