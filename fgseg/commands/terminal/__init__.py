"""What commands print: tables, progress, errors and their exit codes."""
