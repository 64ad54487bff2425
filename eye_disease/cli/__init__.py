"""The command lines: arguments and printing only."""
