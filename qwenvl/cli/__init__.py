"""The command line: `main` dispatches, one thin module per verb does the rest."""
