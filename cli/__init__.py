"""The command line: talks to a person; each command reads options, calls one function, shows the result."""
