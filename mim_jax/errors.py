"""The one exception for mistakes in what a user gave."""


class InputError(ValueError):
    """Bad input: a wrong file, shape, key or number.

    The message is one sentence that says what is wrong, where, and what to do. The command line prints it
    without a traceback and exits with status 2; in Python it is an ordinary `ValueError`.
    """
