"""Opening and writing files, with errors of one line: `names`, `opening`, `writers`, `temporary`, `output_errors`."""
