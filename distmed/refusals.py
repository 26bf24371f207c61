"""What a file system refuses, told as a mistake that a person can mend.

Any error flows in, of this process or of Ray's controller, which has it in its text only; a UserError, or None, flows out.
"""

from __future__ import annotations

import errno
import os

from distmed.errors import UserError

ALLOW = "allow it, or name another place"
HINTS = {
    errno.ENOSPC: "free some, or name a place where there is more",
    errno.EDQUOT: "free some, or name a place where there is more",
    errno.EROFS: "mount it for writing, or name another place; a run that has checkpoints goes on with --resume",
    errno.EACCES: ALLOW,
    errno.EPERM: ALLOW,
    errno.ENOTDIR: "it is a file: name a folder",
    errno.EEXIST: "it is a file: name a folder",
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
    if number in (errno.ENOSPC, errno.EDQUOT):
        return UserError(f"no space left on the disk of {place}", HINTS[number])
    return UserError(f"{place}: {os.strerror(number)}", HINTS[number])
