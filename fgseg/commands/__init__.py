"""The command line: reads options, calls the package, and prints results; sets the exit status."""
