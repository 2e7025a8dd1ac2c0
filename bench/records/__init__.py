"""What a run was told to do and what came of it: its record, and how records are stored, read and compared."""
