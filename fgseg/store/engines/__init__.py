"""Where the units of a batch run are done: processes on this machine, or a Ray cluster."""
