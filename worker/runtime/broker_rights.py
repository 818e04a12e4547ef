"""Whether the account at the broker may do what kombu, Celery and this program do there."""

from collections.abc import Sequence
from typing import Any

from redis.exceptions import NoPermissionError, ResponseError

#: The commands on a queue, with arguments that Redis accepts.
ON_A_QUEUE = (("LPUSH", "0"), ("RPUSH", "0"), ("BRPOP", "1"), ("LINDEX", "-1"), ("LLEN",))

#: What kombu adds to the name of a queue for messages of a lower priority. There are none, but it looks there too.
LESS_URGENT = "\x06\x163"

#: Those on other keys: messages that were taken, the lock of who looks for lost ones, the names of the queues, a probe.
#: `tests/acceptance/test_production_shape.py` runs with these rights alone.
ON_OTHERS = (
    ("HSET", "unacked", "0", "0"), ("HGET", "unacked", "0"), ("HMGET", "unacked", "0"), ("HLEN", "unacked"),
    ("HDEL", "unacked", "0"), ("ZADD", "unacked_index", "0", "0"), ("ZREM", "unacked_index", "0"),
    ("ZRANGE", "unacked_index", "0", "0"), ("ZRANGEBYSCORE", "unacked_index", "0", "0"),
    ("SET", "unacked_mutex", "0"), ("GET", "unacked_mutex"), ("DEL", "unacked_mutex"),
    ("EVALSHA", "0", "1", "unacked_mutex"), ("SCRIPT", "LOAD", "0"), ("WATCH", "unacked"), ("UNWATCH",), ("PING",),
    ("SADD", "_kombu.binding.0", "0"), ("SADD", "_kombu.binding_permanent.0", "0"), ("SET", "screening-probe", "0"),
)  # fmt: skip

#: The keys of both tables as patterns of an access list, beside the queues, with an asterisk each.
KEYS = ("unacked*", "_kombu.binding*", "screening-probe")


def lacking_rights(client: Any, queues: Sequence[str]) -> list[str]:
    """The rules that the access list of the account lacks, as `ACL SETUSER` takes them; empty: none.

    `client`: one of redis-py. Nothing is done: Redis judges a command when it is queued in a transaction, which never
    ends. Raises redis-py's errors.
    """
    lists = [f"{queue}{end}" for queue in queues for end in ("", LESS_URGENT)]
    asked = [(name, each, *others) for each in lists for name, *others in ON_A_QUEUE]
    lacking = dict[str, None]()
    pool = client.connection_pool
    connection = pool.get_connection()
    try:
        # one after the other: a command behind a refused MULTI would be done
        for command in (("MULTI",), ("EXEC",), ("MULTI",), *asked, *ON_OTHERS):
            rules = _refused(connection, command, queues)
            lacking.update(dict.fromkeys(rules))
            if rules and command[0] in ("MULTI", "EXEC"):
                break
    finally:
        connection.disconnect()  # discards the transaction
        pool.release(connection)
    return list(lacking)


def _refused(connection: Any, command: Sequence[str], queues: Sequence[str]) -> list[str]:
    """The rules that the account lacks for a command."""
    connection.send_command(*command)
    try:
        connection.read_response()
    except ResponseError as error:  # another one than NOPERM: to the arguments, or to the command in a transaction
        is_refused = isinstance(error, NoPermissionError) or "NOPERM" in str(error)  # EXEC says so in words
        if is_refused and "access" in str(error):
            return [*(f"~{queue}*" for queue in queues), *(f"~{key}" for key in KEYS)]
        return [f"+{command[0].lower()}"] if is_refused else []
    return []
