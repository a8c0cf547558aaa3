"""For all tests: properties have no deadline, since the machine may be busy and no test asserts a time."""

from hypothesis import settings

settings.register_profile("without deadline", deadline=None)
settings.load_profile("without deadline")
