"""Who gives a command."""

from __future__ import annotations

import getpass

from schemas.errors import SettingsError


def user() -> str:
    """Return the name of this computer's user.

    Raises:
        SettingsError: It has none, as in some containers.
    """
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        raise SettingsError("this computer's user has no name; expected --by") from None
