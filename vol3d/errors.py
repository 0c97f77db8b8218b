"""What goes wrong, told in one line: the thing, the value, the rule and the remedy."""


class Vol3dError(Exception):
    """Something a user can mend; printed without a traceback. Exit code 1."""

    exit_code = 1

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows: the line alone, as on the command line."""
        return [f"vol3d: {self}"]


class ConfigError(Vol3dError):
    """The command or its settings are off (misuse). Exit code 2."""

    exit_code = 2


class DataError(Vol3dError):
    """A file or a table does not hold what it should. Exit code 1."""


class RunError(Vol3dError):
    """A run could not go on, with the reason. Exit code 1."""


class ElsewhereError(Vol3dError):
    """Another process of the same run could not go on, and has said why. Exit code 1."""


class NameOnlyError(AssertionError):
    """Something was asked of a library that help leaves out; to Pydantic a rule that was not met."""
