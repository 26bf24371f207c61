"""What a file system refuses in the middle of a run, told as a mistake that a person can mend.

Any error flows in, of this process or of Ray's controller, which has it in its text only; a UserError, or None, flows out.
"""

from __future__ import annotations

import errno
import os

from distmed.errors import UserError

HINTS = {
    errno.ENOSPC: "free some, or start where there is more",
    errno.EDQUOT: "free some, or start where there is more",
    errno.EROFS: "mount it for writing, or start in another folder; a run that has checkpoints goes on with --resume",
    errno.EACCES: "allow it, or start in another folder",
    errno.EPERM: "allow it, or start in another folder",
}


def refusal(error: BaseException, where: object) -> UserError | None:
    """None where the error is not one of a file system. `where` is named where the error names no file."""
    if isinstance(error, OSError):
        number, place = error.errno, error.filename or where
    else:
        # Ray passes on what its controller met, and libraries written in Rust say it in their own way.
        text = str(error).lower()
        number = next((each for each in HINTS if f"[errno {each}]" in text or f"(os error {each})" in text), None)
        place = where
    if number not in HINTS:
        return None
    full = number in (errno.ENOSPC, errno.EDQUOT)
    message = f"no space left on the disk of {place}" if full else f"cannot write to {place}: {os.strerror(number)}"
    return UserError(message, HINTS[number])
