"""The one exception that a user is meant to read."""


class RiftError(Exception):
    """A mistake the user can mend: the message names the file or key, what is wrong and what to do.

    The command line prints it as one message and exits with status 1; everything else is a bug and keeps its traceback.
    """
