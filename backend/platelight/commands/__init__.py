"""What the ``platelight`` command does, a module a command; imported only when that command runs."""
