"""The command line: options in, files, tables and exit codes out."""
