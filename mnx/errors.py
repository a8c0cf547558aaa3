"""Errors of the method layer: each says what is wrong, where and what to do."""


class MnxError(Exception):
    """Something the user can mend: data, settings or a run folder that do not fit. Shown without a traceback."""
