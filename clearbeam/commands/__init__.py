"""One file per subcommand: its options, its help, and a call into the part that does the work."""
