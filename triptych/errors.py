"""Errors a user can act on: each names the row, the file and the remedy."""

from __future__ import annotations

from pathlib import Path


class TriptychError(ValueError):
    """A mistake in the input or the configuration that the user can mend.

    Raised with a sentence that says what is wrong and what to do. The command line prints it without a traceback.
    """


class DataError(TriptychError):
    """A row or a file that cannot be used.

    Args:
        problem: what is wrong, one sentence.
        remedy: what the user can do about it.
        file: the file the row or the medium comes from.
        row: id or 1-based line number of the row.
        kind: short name under which `triptych data check` counts this fault, such as `media_missing`.
    """

    def __init__(
        self,
        problem: str,
        *,
        remedy: str,
        kind: str,
        file: str | Path | None = None,
        row: str | int | None = None,
    ) -> None:
        self.problem, self.remedy, self.kind = problem, remedy, kind
        self.file, self.row = file, row
        super().__init__(problem)

    def __str__(self) -> str:
        where = ", ".join(
            part
            for part in (
                f"file {self.file}" if self.file is not None else "",
                f"row {self.row}" if self.row is not None else "",
            )
            if part
        )
        return f"[{self.kind}] {where + ': ' if where else ''}{self.problem} Remedy: {self.remedy}"

    def located(self, *, file: str | Path | None = None, row: str | int | None = None) -> DataError:
        """Return the same error with the file or the row filled in where they were unknown."""
        return DataError(
            self.problem,
            remedy=self.remedy,
            kind=self.kind,
            file=self.file if self.file is not None else file,
            row=self.row if self.row is not None else row,
        )
