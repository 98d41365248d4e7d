"""What people look at: the table, the figure and the note's log, all from records."""
