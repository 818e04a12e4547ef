"""When a result object is tried again that its archive did not take, and when it is given up. Pure."""

from datetime import timedelta

#: Wait before the second attempt; doubled each time up to the longest.
FIRST_WAIT, LONGEST_WAIT = timedelta(minutes=1), timedelta(hours=1)

#: After this many attempts the wait is the longest.
ATTEMPTS_TO_LONGEST = 7

#: After this time an object is given up, and `worker send --stuck` lists it. The number of attempts has no limit.
GIVE_UP_AFTER = timedelta(days=3)


def wait_after(attempts: int) -> timedelta:
    """How long an object waits after this number of attempts."""
    return min(FIRST_WAIT * 2 ** min(attempts - 1, ATTEMPTS_TO_LONGEST), LONGEST_WAIT) if attempts else timedelta(0)
