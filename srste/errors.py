"""The one exception that is the user's to mend."""


class UserError(Exception):
    """Bad input: one line that names the key, the value and what is allowed. Exit code 2."""
