"""Start runs, watch them, pause and stop them. Nothing here trains, and nothing here writes a trace."""
