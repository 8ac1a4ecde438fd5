"""The errors a user can cause or meet: each is one sentence with the cure in it."""


class RocketRankError(Exception):
    """Something failed in a way that is explained to the user: one sentence, no traceback."""


class UsageError(RocketRankError, ValueError):
    """An argument or option has a value that cannot be used; nothing was done."""


class DataError(RocketRankError, ValueError):
    """A file's content is not what was expected; names the file and line, and what was found."""


class MissingDependencyError(RocketRankError, ImportError):
    """An optional package or system library is absent; names the command that installs it."""
