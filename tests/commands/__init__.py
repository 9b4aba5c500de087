"""Every command that the documentation shows, run as it stands in a plain shell: `python -m tests.commands`."""
