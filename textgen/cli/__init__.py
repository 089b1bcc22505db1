"""The command line: parse options, call the library, hand its results to presentation."""
