"""The command line: parse, resolve, print, call. No mathematics, and no torch until a command runs."""
