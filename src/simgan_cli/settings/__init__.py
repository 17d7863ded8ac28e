"""Every setting of every command: its default, bounds and meaning."""
