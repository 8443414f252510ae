"""The one error a user may cause."""

from __future__ import annotations


class UserError(Exception):
    """What the user gave cannot be used: bad input, bad usage, an unwritable folder.

    Printed as one line, ``where: message; hint``, and ends the command with exit code 2.
    Every other exception is a fault of this program and keeps its traceback.

    Args:
        message: what was found and what was expected.
        where: the place, as precise as known: ``file``, ``file:line`` or ``file:line:column``.
        hint: how to repair it, in the imperative.
    """

    def __init__(self, message: str, where: str = "", hint: str = "") -> None:
        super().__init__(message, where, hint)
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text}; {self.hint}" if self.hint else text
